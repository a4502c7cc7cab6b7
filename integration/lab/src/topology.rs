//! What a lab is to look like: its nodes, their disks, their cards on the trunk, their userland.
//!
//! Only values and their rules; nothing here touches the machine.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::LabError;

/// The most nodes a lab has. Each is a process of its own on the machine's few cores.
const MAX_NODES: usize = 16;

/// The most disks a node has: the kernel knows eight, and the last one keeps its root.
const MAX_DISKS: usize = 7;

/// The most cards a node has on the trunk.
const MAX_CARDS: usize = 8;

/// Whose programs a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Userland {
    /// The machine's own root: Debian 12 where this project is built and tested (Docker 20.10,
    /// Open vSwitch 3.1, LVM 2.03.16, etcd 3.4).
    Debian12,
    /// An image made with debootstrap: Docker 26.1, Open vSwitch 3.5, LVM 2.03.31, etcd 3.5. Made
    /// at its first use or by `dockline-lab images`, about a minute.
    Debian13,
}

/// A card of a node on the trunk.
#[derive(Debug, Clone, Default)]
pub(crate) struct CardSpec {
    /// Its address and prefix length, if it is to be up with one.
    pub(crate) address: Option<(Ipv4Addr, u8)>,
}

/// One node of a lab.
#[derive(Debug, Clone)]
#[must_use = "a node is only built as part of a lab"]
pub struct NodeSpec {
    pub(crate) name: String,
    pub(crate) userland: Userland,
    pub(crate) memory: u32,
    pub(crate) cpu: Option<usize>,
    pub(crate) disks: Vec<u64>,
    pub(crate) cards: Vec<CardSpec>,
    pub(crate) shares: Vec<(PathBuf, PathBuf)>,
    pub(crate) logs: Vec<String>,
}

impl NodeSpec {
    /// A node of this name (also its host name) with 1 GiB of memory and the machine's userland,
    /// without disks and cards.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            userland: Userland::Debian12,
            memory: 1024,
            cpu: None,
            disks: Vec::new(),
            cards: Vec::new(),
            shares: Vec::new(),
            logs: Vec::new(),
        }
    }

    /// Whose programs it runs.
    pub fn userland(mut self, userland: Userland) -> Self {
        self.userland = userland;
        self
    }

    /// Its memory in MiB; at least 256. Only what it uses is taken from the machine.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// The CPU it is pinned to; unless told, the nodes take turns.
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// One more disk of this many MiB, empty at first: `/dev/ubda`, `/dev/ubdb`… in this order.
    pub fn disk_mib(mut self, mib: u64) -> Self {
        self.disks.push(mib);
        self
    }

    /// One more card on the trunk, `vec0`, `vec1`… in this order, down and without an address.
    pub fn card(mut self) -> Self {
        self.cards.push(CardSpec::default());
        self
    }

    /// One more card on the trunk that is up at every boot with this address, which the other
    /// nodes know by the node's name.
    pub fn card_at(mut self, address: Ipv4Addr, prefix: u8) -> Self {
        self.cards.push(CardSpec { address: Some((address, prefix)) });
        self
    }

    /// Shows a folder of the machine on the node, read-only.
    pub fn share(mut self, on_machine: impl Into<PathBuf>, on_node: impl Into<PathBuf>) -> Self {
        self.shares.push((on_machine.into(), on_node.into()));
        self
    }

    /// One more file or folder of the node to keep when the test fails, besides its console, its
    /// kernel's messages and everything under `/var/log/lab`.
    pub fn keep_log(mut self, path: impl Into<String>) -> Self {
        self.logs.push(path.into());
        self
    }

    fn check(&self) -> Result<(), LabError> {
        let wrong = |why: String| Err(LabError::Topology(format!("node {:?} {why}", self.name)));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 15 || !self.name.chars().all(plain) {
            return wrong("needs a name of 1 to 15 letters a-z, digits and hyphens".to_owned());
        }
        if self.memory < 256 {
            return wrong(format!("has {} MiB of memory; 256 is the least", self.memory));
        }
        if self.disks.len() > MAX_DISKS {
            return wrong(format!("has {} disks; {MAX_DISKS} is the most", self.disks.len()));
        }
        if self.disks.contains(&0) {
            return wrong("has a disk of no size".to_owned());
        }
        if self.cards.len() > MAX_CARDS {
            return wrong(format!("has {} cards; {MAX_CARDS} is the most", self.cards.len()));
        }
        Ok(())
    }
}

/// Collects the nodes of a lab; [`boot`](Self::boot) builds and boots it.
#[derive(Debug, Clone)]
#[must_use = "a lab exists only once it is booted"]
pub struct Builder {
    pub(crate) title: String,
    pub(crate) nodes: Vec<NodeSpec>,
    pub(crate) patience: Duration,
    pub(crate) quiet: bool,
}

impl Builder {
    pub(crate) fn new(title: String) -> Self {
        Self { title, nodes: Vec::new(), patience: Duration::from_secs(60), quiet: false }
    }

    /// One more node.
    pub fn node(mut self, node: NodeSpec) -> Self {
        self.nodes.push(node);
        self
    }

    /// How long a node may take from power-on to ready; 60 s unless told otherwise, which is far
    /// above the two seconds it takes on an idle machine.
    pub fn boot_within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Prints what it booted to standard error, for programs whose output belongs to somebody else.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    pub(crate) fn check(&self) -> Result<(), LabError> {
        if self.nodes.is_empty() || self.nodes.len() > MAX_NODES {
            return Err(LabError::Topology(format!(
                "it has {} nodes; 1 to {MAX_NODES} can be built",
                self.nodes.len()
            )));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            node.check()?;
            if self.nodes[..at].iter().any(|other| other.name == node.name) {
                return Err(LabError::Topology(format!("two nodes are named {}", node.name)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(node: NodeSpec) -> String {
        Builder::new("t".to_owned()).node(node).check().unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_the_rule() {
        assert!(refused(NodeSpec::new("")).contains("1 to 15"));
        assert!(refused(NodeSpec::new("../up")).contains("letters"));
        assert!(refused(NodeSpec::new("a").memory_mib(10)).contains("256"));
        assert!(refused(NodeSpec::new("a").disk_mib(0)).contains("no size"));
        let eight = (0..8).fold(NodeSpec::new("a"), |node, _| node.disk_mib(1));
        assert!(refused(eight).contains("7 is the most"));
        let nine = (0..9).fold(NodeSpec::new("a"), |node, _| node.card());
        assert!(refused(nine).contains("8 is the most"));
        let lab = Builder::new("t".to_owned());
        assert!(lab.check().is_err(), "a lab without nodes");
        let twins = lab.node(NodeSpec::new("a")).node(NodeSpec::new("a"));
        assert!(twins.check().unwrap_err().to_string().contains("two nodes are named a"));
    }
}
