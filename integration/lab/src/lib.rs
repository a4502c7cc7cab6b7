//! The laboratory: nodes with a kernel of their own, joined by a trunk, that can lose power.
//!
//! A node is a user-mode Linux process with device-mapper, LVM, kernel Open vSwitch and cgroup v2,
//! running the programs of the machine's own root. Tests describe a topology, boot it, run commands
//! on its nodes and make things fail:
//!
//! ```no_run
//! # async fn test() -> Result<(), dockline_lab::LabError> {
//! use dockline_lab::{Lab, NodeSpec};
//!
//! let lab = Lab::builder("a disk survives a power cut").node(NodeSpec::new("a").disk_mib(64));
//! let lab = lab.boot().await?;
//! let node = lab.node("a")?;
//! node.sh("echo kept | dd of=/dev/ubda conv=fsync").await?;
//! node.power_cycle().await?;
//! assert_eq!(node.sh("head -c 4 /dev/ubda").await?, "kept");
//! lab.down().await
//! # }
//! ```
//!
//! It knows nothing of this project's plugins; `docs/lab.md` is its manual.

mod agent;
mod boot_config;
mod channel;
pub mod cli;
mod collect;
mod command;
mod disk;
mod error;
mod faults;
mod images;
mod lab;
mod mark;
mod namespace;
mod node;
mod people;
mod roles;
mod sweep;
mod tools;
mod topology;
mod trunk;
mod uml;
pub mod wait;
mod wire;

pub use command::{Cmd, Output};
pub use disk::{DiskFault, FaultyDisk};
pub use error::LabError;
pub use faults::Impairment;
pub use images::debian13;
pub use lab::Lab;
pub use mark::LabId;
pub use node::Node;
pub use sweep::sweep;
pub use tools::lab_program;
pub use topology::{Builder, NodeSpec, Userland};
pub use trunk::Way;
