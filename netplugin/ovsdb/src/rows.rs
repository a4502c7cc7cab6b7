//! The tables and columns of Open vSwitch's database that we use, as types
//! (ovs-vswitchd.conf.db(5)). Columns that are not here are neither asked for nor kept.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::value::{Column, Uuid, ValueError};

/// Text to text, as in `external_ids` and `other_config`.
pub type StringMap = BTreeMap<String, String>;

/// A column whose value could not be read.
#[derive(Debug, thiserror::Error)]
#[error("column {column} of table {table}")]
pub struct RowError {
    table: &'static str,
    column: String,
    #[source]
    source: ValueError,
}

/// A row of one table.
pub(crate) trait Row: Default {
    const TABLE: &'static str;
    const COLUMNS: &'static [&'static str];
    fn key(&self) -> &str;
    /// Takes whole values of the columns given.
    fn assign(&mut self, columns: &Map<String, Value>) -> Result<(), RowError>;
    /// Takes the differences of the columns given.
    fn alter(&mut self, columns: &Map<String, Value>) -> Result<(), RowError>;
}

macro_rules! row {
    (
        $(#[$doc:meta])*
        $name:ident in $table:literal by $key:expr;
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $column:literal,)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Row for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$($column),*];

            fn key(&self) -> &str {
                let key: fn(&Self) -> &str = $key;
                key(self)
            }

            fn assign(&mut self, columns: &Map<String, Value>) -> Result<(), RowError> {
                $(if let Some(json) = columns.get($column) {
                    Column::assign(&mut self.$field, json).map_err(|source| RowError {
                        table: $table, column: $column.to_owned(), source,
                    })?;
                })*
                Ok(())
            }

            fn alter(&mut self, columns: &Map<String, Value>) -> Result<(), RowError> {
                $(if let Some(json) = columns.get($column) {
                    Column::alter(&mut self.$field, json).map_err(|source| RowError {
                        table: $table, column: $column.to_owned(), source,
                    })?;
                })*
                Ok(())
            }
        }
    };
}

row! {
    /// The single row of table `Open_vSwitch`: the switch as a whole.
    OpenVswitch in "Open_vSwitch" by |_| "";
    /// Raised by whoever changes the configuration.
    next_cfg: i64 = "next_cfg",
    /// What ovs-vswitchd has put into effect: `next_cfg` as it was when it did.
    cur_cfg: i64 = "cur_cfg",
    /// The version of ovs-vswitchd.
    ovs_version: Option<String> = "ovs_version",
    /// Marks of whoever manages the switch.
    external_ids: StringMap = "external_ids",
    /// Its bridges.
    bridges: BTreeSet<Uuid> = "bridges",
    /// The kinds of interface ovs-vswitchd can make.
    iface_types: BTreeSet<String> = "iface_types",
    /// The kinds of datapath ovs-vswitchd can make; `system` is the kernel's.
    datapath_types: BTreeSet<String> = "datapath_types",
}

row! {
    /// A bridge.
    Bridge in "Bridge" by |row| &row.name;
    /// Its name, unique among bridges.
    name: String = "name",
    /// Its ports.
    ports: BTreeSet<Uuid> = "ports",
    /// `netdev` for userspace; `system` or nothing for the kernel.
    datapath_type: String = "datapath_type",
    /// `standalone` or `secure`: what it does without a controller.
    fail_mode: Option<String> = "fail_mode",
    /// Settings such as `hwaddr`.
    other_config: StringMap = "other_config",
    /// Marks of its owner.
    external_ids: StringMap = "external_ids",
}

row! {
    /// A port of a bridge.
    Port in "Port" by |row| &row.name;
    /// Its name, unique among the ports of all bridges.
    name: String = "name",
    /// Its access VLAN, or the native one of a trunk.
    tag: Option<i64> = "tag",
    /// The VLANs it carries tagged.
    trunks: BTreeSet<i64> = "trunks",
    /// How it treats VLANs; follows from `tag` and `trunks` if not given.
    vlan_mode: Option<String> = "vlan_mode",
    /// Its interfaces: one, or several when it is a bond.
    interfaces: BTreeSet<Uuid> = "interfaces",
    /// Its shaping.
    qos: Option<Uuid> = "qos",
    /// Settings.
    other_config: StringMap = "other_config",
    /// Marks of its owner.
    external_ids: StringMap = "external_ids",
}

row! {
    /// A device of a port.
    Interface in "Interface" by |row| &row.name;
    /// The device's name, unique among the interfaces of all ports.
    name: String = "name",
    /// Empty or `system` for a device that exists, `internal` for one that ovs-vswitchd makes.
    kind: String = "type",
    /// Its OpenFlow number; -1 when ovs-vswitchd could not use the device.
    ofport: Option<i64> = "ofport",
    /// Why ovs-vswitchd could not use the device.
    error: Option<String> = "error",
    /// The MTU asked for, in bytes.
    mtu_request: Option<i64> = "mtu_request",
    /// The MTU it has, in bytes.
    mtu: Option<i64> = "mtu",
    /// The MAC address asked for (kind `internal`).
    mac: Option<String> = "mac",
    /// The MAC address it has.
    mac_in_use: Option<String> = "mac_in_use",
    /// `up` or `down`, as set.
    admin_state: Option<String> = "admin_state",
    /// `up` or `down`, as it is.
    link_state: Option<String> = "link_state",
    /// What it may receive into the switch, in kbit/s; 0 is without limit.
    ingress_policing_rate: i64 = "ingress_policing_rate",
    /// The burst of that limit, in kbit.
    ingress_policing_burst: i64 = "ingress_policing_burst",
    /// Settings.
    other_config: StringMap = "other_config",
    /// Marks of its owner.
    external_ids: StringMap = "external_ids",
}

impl Interface {
    /// Its OpenFlow number once ovs-vswitchd forwards on it.
    pub fn forwarding(&self) -> Option<u16> {
        let usable = self.error.is_none();
        self.ofport
            .filter(|&number| usable && number > 0)
            .and_then(|number| u16::try_from(number).ok())
    }
}
