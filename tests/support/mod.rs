//! What the campaigns share: a model of what was promised, small stores on a simulated disk, and a
//! driver that runs both side by side.
#![allow(dead_code, reason = "each campaign uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code that clippy doesn't see as such"
)]

pub mod backup;
pub mod check;
pub mod driver;
pub mod feeds;
pub mod model;
pub mod noise;
pub mod store;
pub mod workload;

/// How many times more than by default a campaign does, from `KINTSU_CAMPAIGN_SCALE`.
pub fn scale() -> u64 {
    let scale = std::env::var("KINTSU_CAMPAIGN_SCALE").ok();
    scale.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The one seed to run, from `KINTSU_SEED`, if somebody looks into a failure.
pub fn only_seed() -> Option<u64> {
    std::env::var("KINTSU_SEED").ok()?.parse().ok()
}

/// Names what was being done when a check panics.
pub struct Context<'a, T: std::fmt::Debug>(pub &'a str, pub T);

impl<T: std::fmt::Debug> Drop for Context<'_, T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed: {} {:?}", self.0, self.1);
        }
    }
}
