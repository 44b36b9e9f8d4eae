//! Random operations, crashes and reopens against a model that knows what was promised.
//!
//! A seed decides on the operations, on the order in which the store's jobs run, on its limits, and on
//! what a crash leaves. A failing run prints its seed (`KINTSU_SEED=…` runs it alone) and the fewest
//! operations that still fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test"
)]

#[path = "model/backup.rs"]
mod backup;
#[path = "model/operation.rs"]
mod operation;
#[path = "model/run.rs"]
mod run;
mod support;
#[path = "model/transaction.rs"]
mod transaction;

use std::panic::{AssertUnwindSafe, catch_unwind};

use operation::{Mix, Operation};
use run::{Counts, Run};
use support::{only_seed, scale};

/// Runs one sequence; panics on anything wrong.
fn play(seed: u64, operations: &[Operation]) -> Counts {
    let mut run = Run::new(seed);
    for (at, operation) in operations.iter().enumerate() {
        let _context = support::Context("operation", (at, operation));
        run.take(operation);
    }
    run.finish()
}

fn fails(seed: u64, operations: &[Operation]) -> bool {
    catch_unwind(AssertUnwindSafe(|| play(seed, operations))).is_err()
}

/// Leaves out whatever isn't needed to fail.
fn shrink(seed: u64, mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut tries = 600;
    let mut length = operations.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at < operations.len() && tries > 0 {
            tries -= 1;
            let mut fewer = operations.clone();
            fewer.drain(at..(at + length).min(operations.len()));
            if fails(seed, &fewer) {
                operations = fewer;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    operations
}

fn campaign(name: &str, mix: Mix, first_seed: u64, runs: u64, length: usize) {
    let mut counts = Counts::default();
    let seeds = match only_seed() {
        Some(seed) => seed..seed + 1,
        None => first_seed..first_seed + runs * scale(),
    };
    for seed in seeds {
        let operations = operation::generate(seed, mix, length);
        match catch_unwind(AssertUnwindSafe(|| play(seed, &operations))) {
            Ok(one) => counts.add(&one),
            Err(_) => {
                println!("KINTSU_SEED={seed} fails; leaving out what isn't needed …");
                let hook = std::panic::take_hook();
                std::panic::set_hook(Box::new(|_| {}));
                let fewer = shrink(seed, operations);
                std::panic::set_hook(hook);
                println!("KINTSU_SEED={seed}, {} operations:", fewer.len());
                for operation in &fewer {
                    println!("    {operation:?}");
                }
                play(seed, &fewer);
                panic!("KINTSU_SEED={seed} failed once, but not again");
            }
        }
    }
    println!("model, {name}: {counts:?}");
}

#[test]
fn everything() {
    campaign("everything", Mix::Everything, 1_000_000, 250, 300);
}

#[test]
fn crashes() {
    campaign("crashes", Mix::Crashes, 2_000_000, 250, 200);
}

#[test]
fn reads() {
    campaign("reads", Mix::Reads, 3_000_000, 120, 400);
}
