//! A native client of Open vSwitch's database (OVSDB, RFC 7047) over its Unix socket, and the few
//! transactions a driver of container ports needs.
//!
//! - [`codec`]: bytes to JSON messages, with limits.
//! - [`value`]: OVSDB's sets, maps and UUIDs as types.
//! - [`rows`] and [`picture`]: the rows we use, kept up to date in memory by a monitor.
//! - [`client`]: the connection: many calls in flight, deadlines, reconnection.
//! - [`transaction`]: what is sent, and what came of it.
//! - [`switch`]: bridges and ports, with guards and group commit.
//! - [`datapath`]: kernel or userspace forwarding.
//!
//! It makes no network devices and speaks no OpenFlow.

pub mod client;
pub mod codec;
pub mod datapath;
mod limits;
pub mod picture;
mod refusal;
pub mod rows;
mod session;
pub mod switch;
pub mod transaction;
pub mod value;

pub use client::{Client, Config};
pub use datapath::{Datapath, KernelModule};
pub use picture::Picture;
pub use switch::Switch;
pub use value::{Datum, Uuid};
