//! What a port is to be, and which ports are ours.

use std::collections::BTreeSet;

use dockline_types::{IfName, MacAddr, VlanId};

use crate::rows::{Port, StringMap};
use crate::transaction::{Columns, Condition, Table};
use crate::value::Datum;

/// Marks in `external_ids` that say whose a row is. Never empty: what bears no mark is nobody's to
/// change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks(StringMap);

impl Marks {
    /// One mark.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self([(key.into(), value.into())].into())
    }

    /// One mark more; a key that is there gets the new value.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// Whether a row with these `external_ids` bears all of the marks.
    pub fn are_on(&self, external_ids: &StringMap) -> bool {
        self.0.iter().all(|(key, value)| external_ids.get(key) == Some(value))
    }

    pub(crate) fn datum(&self) -> Datum {
        Datum::map(&self.0)
    }

    pub(crate) fn condition(&self) -> Condition {
        Condition::includes("external_ids", self.datum())
    }
}

/// Where the device of a port comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// A network device that exists, such as one end of a veth pair.
    System,
    /// ovs-vswitchd makes the device.
    Internal,
}

impl PortKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "",
            Self::Internal => "internal",
        }
    }

    pub(crate) fn matches(self, kind: &str) -> bool {
        match self {
            Self::System => matches!(kind, "" | "system"),
            Self::Internal => kind == "internal",
        }
    }
}

/// How a port treats VLANs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VlanMode {
    /// All VLANs pass, tagged as they are; untagged frames stay so.
    All,
    /// No VLAN: only untagged frames pass, in both directions.
    Untagged,
    /// One VLAN, untagged on the port.
    Access(VlanId),
    /// These VLANs, tagged on the port; all if none is named.
    Trunk {
        /// The VLANs carried.
        vlans: BTreeSet<VlanId>,
        /// What becomes of untagged frames.
        native: Native,
    },
}

/// What becomes of untagged frames on a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Native {
    /// They are dropped, unless all VLANs are carried.
    None,
    /// They stay untagged.
    Untagged,
    /// They are on this VLAN.
    Vlan(VlanId),
}

impl VlanMode {
    fn parts(&self) -> (Option<i64>, BTreeSet<i64>, Option<&'static str>) {
        let number = |vlan: &VlanId| i64::from(vlan.get());
        match self {
            Self::All => (None, BTreeSet::new(), None),
            // Without a tag the port would carry every VLAN; 0 is what Open vSwitch calls none.
            Self::Untagged => (Some(0), BTreeSet::new(), Some("access")),
            Self::Access(vlan) => (Some(number(vlan)), BTreeSet::new(), Some("access")),
            Self::Trunk { vlans, native } => {
                let (tag, mode) = match native {
                    Native::None => (None, "trunk"),
                    Native::Untagged => (Some(0), "native-untagged"),
                    Native::Vlan(vlan) => (Some(number(vlan)), "native-untagged"),
                };
                (tag, vlans.iter().map(number).collect(), Some(mode))
            }
        }
    }

    /// The columns of table `Port` that say so.
    pub fn columns(&self) -> Columns {
        let (tag, trunks, mode) = self.parts();
        vec![("tag", tag.into()), ("trunks", Datum::set(trunks)), ("vlan_mode", mode.into())]
    }

    /// Whether a port treats VLANs this way.
    pub fn is_on(&self, port: &Port) -> bool {
        let (tag, trunks, mode) = self.parts();
        port.tag == tag && port.trunks == trunks && port.vlan_mode.as_deref() == mode
    }
}

/// A port to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// The bridge it goes on.
    pub bridge: String,
    /// Its name, which is its device's.
    pub name: IfName,
    /// Where its device comes from.
    pub kind: PortKind,
    /// Its VLANs.
    pub vlan: VlanMode,
    /// The MAC address ovs-vswitchd gives the device (kind `Internal` only).
    pub mac: Option<MacAddr>,
    /// The MTU ovs-vswitchd gives the device, in bytes.
    pub mtu: Option<u32>,
    /// Whose it is: written on the port and on its interface.
    pub marks: Marks,
}

/// Which row of a port to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The port: VLANs, shaping.
    Port,
    /// Its interface of the same name: MTU, policing.
    Interface,
}

impl Target {
    pub(crate) fn table(self) -> Table {
        match self {
            Self::Port => Table::Port,
            Self::Interface => Table::Interface,
        }
    }
}

/// When a deletion is done for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// As soon as the database has it; ovs-vswitchd follows. For undoing and for cleaning up.
    Committed,
    /// When ovs-vswitchd has let go of the device.
    Applied,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_modes_are_told_apart() {
        let vlan = |number: u16| VlanId::try_from(number).unwrap();
        let modes = [
            VlanMode::All,
            VlanMode::Untagged,
            VlanMode::Access(vlan(10)),
            VlanMode::Access(vlan(20)),
            VlanMode::Trunk { vlans: BTreeSet::new(), native: Native::None },
            VlanMode::Trunk { vlans: [vlan(10), vlan(20)].into(), native: Native::None },
            VlanMode::Trunk { vlans: [vlan(20)].into(), native: Native::Untagged },
            VlanMode::Trunk { vlans: [vlan(20)].into(), native: Native::Vlan(vlan(10)) },
        ];
        for (i, mode) in modes.iter().enumerate() {
            let (tag, trunks, vlan_mode) = mode.parts();
            let vlan_mode = vlan_mode.map(str::to_owned);
            let port = Port { tag, trunks, vlan_mode, ..Port::default() };
            for (j, other) in modes.iter().enumerate() {
                assert_eq!(other.is_on(&port), i == j, "{mode:?} {other:?}");
            }
        }
    }

    #[test]
    fn marks_are_on_a_row_that_has_them_all() {
        let marks = Marks::new("owner", "us").with("id", "1");
        let row = |pairs: &[(&str, &str)]| -> StringMap {
            pairs.iter().map(|(key, value)| (String::from(*key), String::from(*value))).collect()
        };
        assert!(marks.are_on(&row(&[("owner", "us"), ("id", "1"), ("more", "x")])));
        assert!(!marks.are_on(&row(&[("owner", "us")])));
        assert!(!marks.are_on(&row(&[("owner", "us"), ("id", "2")])));
    }
}
