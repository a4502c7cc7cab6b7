//! What the network driver decides, without any I/O: from Docker's request to a network, an
//! endpoint, and what a container that joins is told.
//!
//! * [`options`], [`endpoint_options`], [`limit_options`]: the user's options, parsed strictly.
//! * [`identity`]: what a container may send, as a program for the kernel.
//! * [`rate`], [`vlans`]: what they are made of.
//! * [`network`]: a network and the record that is kept of it.
//! * [`endpoint`]: an endpoint; [`names`]: its devices; [`marks`]: what its port bears.

pub mod endpoint;
pub mod endpoint_options;
pub mod identity;
pub mod limit_options;
pub mod marks;
pub mod names;
pub mod network;
pub mod options;
pub mod rate;
pub mod vlans;

pub use endpoint::Endpoint;
pub use names::PortNames;
pub use network::Network;
