//! Plays the cases of a fault on all cores, catches panics, and can play a single case again.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::table::{Played, Table, Verdict};

/// How much is done, from the environment.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Everything, for hours, instead of a sample, for minutes.
    pub long: bool,
    pub seed: u64,
    /// The one case to be played, as it is printed.
    only: Option<String>,
    /// Whether the first failure is enough.
    stop: bool,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

thread_local! {
    /// Where the last panic of this thread happened, and what it said; `None` outside of cases.
    static PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// A panic inside a case is an outcome like others, and isn't printed.
pub fn keep_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let inside = PANIC.with(|last| {
            let mut last = last.borrow_mut();
            let inside = last.is_some();
            if inside {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                let payload = info.payload();
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|t| (*t).to_owned()));
                *last = Some((place, text.unwrap_or_default()));
            }
            inside
        });
        if !inside {
            usual(info);
        }
    }));
}

/// What a panic means: of a check, that what it checks is wrong; of anything else, a panic.
fn judge(place: &str, text: &str) -> Verdict {
    let line = format!("{place}: {}", text.chars().take(400).collect::<String>());
    let of_a_test = place.starts_with("tests/");
    if !of_a_test {
        return Verdict::Panicked(line);
    }
    let loss = ["is the newest, though", "missing [(", "isn't shown all"];
    match loss.iter().any(|words| text.contains(words)) {
        true => Verdict::Lost(line),
        false => Verdict::Wrong(line),
    }
}

/// Runs a case; `None` if there is none of that number.
fn guarded(place: &str, case: impl FnOnce() -> Option<Played>) -> Option<Played> {
    PANIC.with(|last| *last.borrow_mut() = Some(Default::default()));
    let outcome = catch_unwind(AssertUnwindSafe(case));
    let said = PANIC.with(|last| last.borrow_mut().take());
    outcome.unwrap_or_else(|_| {
        let (at, text) = said.unwrap_or_default();
        Some(Played::new(place, judge(&at, &text)))
    })
}

impl Plan {
    pub fn from_environment() -> Self {
        let seed = variable("KINTSU_CAMPAIGN_SEED").and_then(|text| text.parse().ok());
        Self {
            long: variable("KINTSU_CAMPAIGN").as_deref() == Some("long"),
            seed: seed.unwrap_or(1),
            only: variable("KINTSU_CAMPAIGN_CASE"),
            stop: variable("KINTSU_CAMPAIGN_STOP").is_some(),
        }
    }

    /// One of two figures.
    #[must_use]
    pub fn pick<T>(&self, quick: T, long: T) -> T {
        if self.long { long } else { quick }
    }

    /// Whether anything of a series is to be played.
    fn only_of(&self, series: &str) -> Option<Option<u64>> {
        let Some(only) = &self.only else {
            return Some(None);
        };
        let (name, number) = only.rsplit_once('#')?;
        (name == series).then(|| number.parse().ok())
    }

    /// Plays the cases 0, 1, 2 … of a series until `count`, or until one says that there are no more.
    /// `place` is where a case that panics is counted.
    pub fn play(
        &self,
        fault: &str,
        series: &str,
        count: u64,
        case: impl Fn(u64) -> Option<Played> + Sync,
    ) -> Table {
        let Some(only) = self.only_of(series) else {
            return Table::default();
        };
        let table = Mutex::new(Table::default());
        let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let work = || {
            while !over.load(Ordering::Relaxed) {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                if only.is_some_and(|only| only != number) {
                    continue;
                }
                match guarded("(panicked)", || case(number)) {
                    None => over.store(true, Ordering::Relaxed),
                    Some(played) => {
                        let name = self.case_name(series, number);
                        let mut table = table.lock().unwrap();
                        table.count(fault, &name, played);
                        if self.stop && table.has_failed() {
                            over.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        table.into_inner().unwrap()
    }

    /// How a case is played again.
    fn case_name(&self, series: &str, number: u64) -> String {
        let form = self.pick("", "KINTSU_CAMPAIGN=long ");
        let seed = self.seed;
        format!("{form}KINTSU_CAMPAIGN_SEED={seed} KINTSU_CAMPAIGN_CASE='{series}#{number}'")
    }
}
