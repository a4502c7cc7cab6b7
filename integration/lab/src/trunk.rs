//! The switch between the nodes: a bridge in the lab's namespace with one tap per card, and the
//! faults of its links.
//!
//! The bridge knows nothing of VLANs and passes tagged frames as they are. Cutting a link sends
//! what would cross it to a tap without a reader, per direction; that needs only what every
//! kernel's traffic control has (u32, mirred, clsact).

use std::fmt::Write as _;
use std::sync::Arc;

use crate::error::LabError;
use crate::namespace::Namespace;

/// The bridge's name inside the namespace.
const BRIDGE: &str = "trunk";

/// The tap that swallows what a cut link would have carried.
const SINK: &str = "sink";

/// Which way of a link is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What the node sends.
    FromNode,
    /// What is sent to the node.
    ToNode,
    /// Both.
    Both,
}

/// The taps of one node.
#[derive(Debug, Clone)]
pub(crate) struct Taps {
    /// The control link's, with the lab's address on it.
    pub(crate) control: String,
    /// One per card on the trunk.
    pub(crate) cards: Vec<String>,
}

impl Taps {
    /// The taps of the node in this place, with this many cards.
    pub(crate) fn of(node: usize, cards: usize) -> Self {
        Self {
            control: format!("n{node}m"),
            cards: (0..cards).map(|card| format!("n{node}c{card}")).collect(),
        }
    }
}

/// The switch.
#[derive(Debug)]
pub(crate) struct Trunk {
    namespace: Arc<Namespace>,
}

impl Trunk {
    /// Builds the bridge and all taps; `control` is each node's taps and the lab's address on its
    /// control link.
    pub(crate) async fn build(
        namespace: Arc<Namespace>,
        nodes: &[(Taps, String)],
    ) -> Result<Self, LabError> {
        let mut links = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a text cannot fail.
            let _ = writeln!(links, "{text}");
        };
        line(format_args!("link set lo up"));
        line(format_args!("link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0"));
        line(format_args!("link set {BRIDGE} up"));
        for (taps, address) in nodes {
            for tap in &taps.cards {
                line(format_args!("tuntap add {tap} mode tap"));
                line(format_args!("link set {tap} master {BRIDGE} up"));
            }
            line(format_args!("tuntap add {} mode tap", taps.control));
            line(format_args!("address add {address}/30 dev {}", taps.control));
            line(format_args!("link set {} up", taps.control));
        }
        line(format_args!("tuntap add {SINK} mode tap"));
        line(format_args!("link set {SINK} up"));
        namespace.program("ip").args(["-batch", "-"]).stdin(links).run().await?;
        Ok(Self { namespace })
    }

    /// Lets nothing through a tap in this direction until it is healed.
    pub(crate) async fn cut(&self, tap: &str, way: Way) -> Result<(), LabError> {
        self.heal(tap).await?;
        let mut rules = format!("qdisc add dev {tap} clsact\n");
        // Seen from the tap, what the node sends comes in.
        for (wanted, hook) in [(Way::FromNode, "ingress"), (Way::ToNode, "egress")] {
            if way == Way::Both || way == wanted {
                let _ = writeln!(
                    rules,
                    "filter add dev {tap} {hook} protocol all u32 match u32 0 0 \
                     action mirred egress redirect dev {SINK}"
                );
            }
        }
        self.namespace.program("tc").args(["-batch", "-"]).stdin(rules).run().await?;
        Ok(())
    }

    /// Lets everything through a tap again, whether it was cut or not.
    pub(crate) async fn heal(&self, tap: &str) -> Result<(), LabError> {
        let shown = self.namespace.program("tc").args(["qdisc", "show", "dev", tap]).run().await?;
        if shown.text().contains("clsact") {
            self.namespace.program("tc").args(["qdisc", "del", "dev", tap, "clsact"]).run().await?;
        }
        Ok(())
    }
}
