//! LVM: run one command at a time, and read what there is.
//!
//! * [`Lvm`]: runs commands, through the helper process that has liblvm2cmd ([`Way::Library`]) or
//!   the `lvm` program ([`Way::Program`]). Both behave alike; a contract suite holds them to it.
//! * [`Command`]: one command, whose arguments both ways take as they are.
//! * [`Picture`]: groups and volumes from one `fullreport`.
//! * [`wire`]: what the helper is told and answers.
//!
//! Three things are true of LVM that shape this. Its library is not thread-safe and changes its
//! process, so it has one of its own. A command that is killed while it has a device suspended
//! freezes that device, so nothing here ever kills one: a command that takes too long is *unknown*
//! to whoever waited, and goes on. And its texts and codes change between releases, so whether
//! something was done is decided by reading the state again.

mod command;
mod error;
mod picture;
mod runner;
pub mod wire;

pub use command::{Command, Malformed};
pub use error::LvmError;
pub use picture::{Group, Logical, Picture, PictureError};
pub use runner::{Lvm, Way};
pub use wire::Answer;
