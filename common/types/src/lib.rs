//! The words all of Dockline shares: ids, addresses and sizes as types that cannot hold a wrong
//! value.
//!
//! Text from outside becomes one of these at the edge (`FromStr`, or serde), and is never checked
//! again. No I/O, and nothing that only one plugin needs.

mod cidr;
mod id;
mod ifname;
mod mac;
mod size;
mod vlan;

pub use cidr::{CidrError, PoolCidr};
pub use id::{EndpointId, IdError, NetworkId};
pub use ifname::{IfName, IfNameError};
pub use mac::{MacAddr, MacError};
pub use size::{ByteSize, SizeError};
pub use vlan::{VlanError, VlanId};

/// Gives a type that has `FromStr` and `Display` the serde form of its text.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use serde_as_text;
