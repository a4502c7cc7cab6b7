//! What the lab tells a node's first process: one JSON file that the node reads over hostfs.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The variable on the kernel's command line that names the file.
pub(crate) const VARIABLE: &str = "DOCKLINE_LAB_NODE";

/// Where the modules of the user-mode kernel are on the machine.
pub(crate) const MODULES: &str = "/usr/lib/uml/modules";

/// The node's card on its control link; taken out of sight into a namespace before anything runs.
pub(crate) const CONTROL_CARD: &str = "vec15";

/// The disk that keeps what the node writes over its root; the last of the eight there can be.
pub(crate) const SYSTEM_DISK: &str = "/dev/ubdh";

/// What a node needs to know to come up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BootConfig {
    /// The host name.
    pub(crate) name: String,
    /// The number of this boot, repeated in the hello.
    pub(crate) boot: u64,
    /// The agent's program as the node sees it.
    pub(crate) program: String,
    /// The root to put the overlay on, as a path of the machine.
    pub(crate) root: PathBuf,
    /// Folders of the machine to show read-only on the node: where they are, where they appear.
    pub(crate) shares: Vec<(PathBuf, PathBuf)>,
    /// The lab's address on the control link.
    pub(crate) lab_address: Ipv4Addr,
    /// The node's address on the control link; the prefix is /30.
    pub(crate) node_address: Ipv4Addr,
    /// Addresses of the trunk cards, each as card, address and prefix length.
    pub(crate) addresses: Vec<(String, String)>,
    /// Names for `/etc/hosts`: name and address.
    pub(crate) hosts: Vec<(String, String)>,
}
