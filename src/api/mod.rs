//! The standalone store as its users see it: [`Db`], [`Keyspace`], [`ReadView`], [`Range`].

mod backup;
mod batch;
mod bounds;
mod db;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod keyspace;
mod range;
mod salvage;
mod view;

pub use backup::{Repository, restore};
pub use bounds::KeyRange;
pub use db::Db;
#[cfg(feature = "testing")]
pub use db::Ticket;
pub use keyspace::Keyspace;
pub use range::Range;
pub use salvage::{SalvageReport, salvage};
pub use view::ReadView;
