//! What the network driver decides, without any I/O: from Docker's request to a network, an
//! endpoint, and what a container that joins is told.
//!
//! * [`options`]: the user's options, parsed strictly.
//! * [`network`]: a network and the record that is kept of it.
//! * [`endpoint`]: an endpoint, its device names and the marks that its port bears.

pub mod endpoint;
pub mod network;
pub mod options;

pub use endpoint::{Endpoint, PortNames};
pub use network::Network;
