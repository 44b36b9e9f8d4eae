//! The standalone store as its users see it: [`Db`], [`Keyspace`], [`ReadView`], [`Range`], [`Subscription`].

mod batch;
mod bounds;
mod db;
mod follower;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod keyspace;
mod range;
mod salvage;
mod subscription;
mod view;

pub use bounds::KeyRange;
pub use db::Db;
#[cfg(feature = "testing")]
pub use db::Ticket;
pub use follower::Follower;
pub use keyspace::Keyspace;
pub use range::Range;
pub use salvage::{SalvageReport, salvage};
pub use subscription::Subscription;
pub use view::ReadView;
