//! The standalone store as its users see it: [`Db`], [`Keyspace`], [`ReadView`], [`Range`], [`Subscription`].

mod backup;
mod batch;
mod bounds;
mod bulk_load;
mod db;
mod follower;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod keyspace;
mod keyspaces;
mod mending;
mod range;
mod salvage;
mod subscription;
mod transaction;
mod view;

pub use backup::{Repository, restore};
pub use bounds::KeyRange;
pub use bulk_load::BulkLoad;
pub use db::Db;
#[cfg(feature = "testing")]
pub use db::Ticket;
pub use follower::Follower;
pub use keyspace::Keyspace;
pub use range::Range;
pub use salvage::{SalvageReport, salvage, salvage_list};
pub use subscription::Subscription;
pub use transaction::{Savepoint, Transaction, TransactionRange};
pub use view::ReadView;
