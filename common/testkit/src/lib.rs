//! What tests against the real thing need: network namespaces of their own, a private Open
//! vSwitch, a private etcd cluster. For tests only; no product code depends on it.
//!
//! Nothing it makes outlives the test: namespaces are held by a file descriptor and not by a name,
//! programs are killed by the kernel when the test's process dies, and folders are temporary.

mod daemon;
mod etcd;
mod namespace;
mod ovs;
mod plugin;
mod wait;

pub use daemon::Daemon;
pub use etcd::Etcd;
pub use namespace::Namespace;
pub use ovs::{Ovs, OvsDaemon};
pub use plugin::Plugin;
pub use wait::eventually;
