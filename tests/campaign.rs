//! The fault campaign: each fault of the catalogue played on small stores (and one of 64 MiB), each case
//! judged against a model, and a table of what became of them. Lost without notice, wrong answers and panics
//! must be 0, and nothing may be refused where there is redundancy ([`expected`]).
//!
//! - `cargo test --all-features --test campaign`: the quick form, minutes.
//! - `KINTSU_CAMPAIGN=long cargo test --release --all-features --test campaign`: everything, hours.
//! - `KINTSU_CAMPAIGN_SEED=7`: other samples and other chances.
//! - `KINTSU_CAMPAIGN_CASE=…`: one case, as a failure prints it.
//! - `KINTSU_CAMPAIGN_STOP=1`: each fault ends with its first failure.
//! - `KINTSU_CAMPAIGN_REPORT=FILE`: the table goes there as well, as Markdown.
//!
//! This program lists and runs its faults as tests are; a word chooses those whose name has it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "campaign/damage.rs"]
mod damage;
#[path = "campaign/expected.rs"]
mod expected;
#[path = "campaign/failing.rs"]
mod failing;
#[path = "campaign/full.rs"]
mod full;
#[path = "campaign/large.rs"]
mod large;
#[path = "campaign/oracle.rs"]
mod oracle;
#[path = "campaign/play.rs"]
mod play;
#[path = "campaign/power.rs"]
mod power;
#[path = "campaign/repository.rs"]
mod repository;
#[path = "campaign/sample.rs"]
mod sample;
mod support;
#[path = "campaign/table.rs"]
mod table;

use std::process::ExitCode;

use play::Plan;
use table::Table;

/// A fault, by the name of its test.
type Fault = (&'static str, fn(&Plan) -> Table);

const FAULTS: &[Fault] = &[
    ("campaign_without_a_fault", damage::nothing),
    ("campaign_every_bit", damage::every_bit),
    ("campaign_lengths_and_types", damage::lengths_and_types),
    ("campaign_every_block", damage::every_block),
    ("campaign_every_cut", damage::every_cut),
    ("campaign_wrong_writes", damage::wrong_writes),
    ("campaign_bits_of_copies", repository::every_bit),
    ("campaign_last_batch", power::last_batch),
    ("campaign_power_loss", power::power_loss),
    ("campaign_crash_twice_in_recovery", power::twice_in_recovery),
    ("campaign_crash_twice_in_mending", power::twice_in_mending),
    ("campaign_failing_operations", failing::operations),
    ("campaign_failing_syncs", failing::syncs),
    ("campaign_full_disk", full::fills_up),
    ("campaign_64_mib", large::every_block),
    ("campaign_log", large::every_block_of_the_log),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Values of the flags that a runner passes are no filters.
    let valued = |at: usize| {
        let before = at.checked_sub(1).map(|at| arguments[at].as_str());
        matches!(
            before,
            Some("--format" | "--color" | "--test-threads" | "--skip")
        )
    };
    let is_word = |(at, word): &(usize, &String)| !word.starts_with('-') && !valued(*at);
    let words = arguments.iter().enumerate().filter(is_word);
    let words: Vec<&String> = words.map(|(_, word)| word).collect();
    let is_meant = |name: &str| {
        words.is_empty()
            || words.iter().any(|word| match has("--exact") {
                true => name == word.as_str(),
                false => name.contains(word.as_str()),
            })
    };
    // Nothing here is ignored.
    let meant = FAULTS.iter().filter(|(name, _)| is_meant(name));
    let meant: Vec<&Fault> = meant.filter(|_| !has("--ignored")).collect();
    if has("--list") {
        meant.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    run(&meant)
}

fn run(faults: &[&Fault]) -> ExitCode {
    let plan = Plan::from_environment();
    play::keep_panics();
    let mut whole = Table::default();
    for (name, fault) in faults {
        let table = fault(&plan);
        let verdict = if table.has_failed() { "FAILED" } else { "ok" };
        println!("test {name} ... {verdict} ({} cases)", table.cases());
        whole.add(table);
    }
    println!();
    whole.print();
    if let Ok(path) = std::env::var("KINTSU_CAMPAIGN_REPORT") {
        whole.append_to(&path).expect("the report can be written");
    }
    if whole.has_failed() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
