//! The names of an endpoint's devices.
//!
//! Between a container and the switch are two veth pairs, joined on the host:
//!
//! ```text
//! container  dc-… ═ dh-…  ~  ds-… ═ dl-…  switch
//! ```
//!
//! The two devices in the middle belong to nobody but us, so that bandwidth can be shaped on them
//! in both directions: a container could lift what is on its own end, and Open vSwitch resets what
//! is on its ports.

use dockline_types::{EndpointId, IfName, IfNameError};

/// How much of an endpoint's id its devices' names hold: the prefix takes three of the kernel's
/// fifteen bytes. Ids are random, so that among a thousand endpoints of one host two are alike
/// with a chance of one in 10^8; that is then refused, not mixed up.
const ID_SHOWN: usize = 12;

/// The names of an endpoint's devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortNames {
    /// The end that goes into the container, as long as it is on the host (`dc-`).
    pub container: IfName,
    /// The other end of the container's (`dh-`). What the container receives is shaped on it.
    pub host: IfName,
    /// The other end of the switch's (`ds-`). What the container sends is shaped on it.
    pub joint: IfName,
    /// The end on the switch, which is also the port's name (`dl-`).
    pub switch: IfName,
}

impl PortNames {
    /// The names that follow from an endpoint's id.
    pub fn of(endpoint: &EndpointId) -> Result<Self, IfNameError> {
        let id = endpoint.as_str();
        Self::with(&id[..id.len().min(ID_SHOWN)])
    }

    /// The names of the endpoint that has a device of this name.
    pub fn having(device: &str) -> Option<Self> {
        let (prefix, digits) = device.split_at_checked(3)?;
        let ours = ["dc-", "dh-", "ds-", "dl-"].contains(&prefix) && !digits.is_empty();
        if ours { Self::with(digits).ok() } else { None }
    }

    fn with(digits: &str) -> Result<Self, IfNameError> {
        let named = |prefix| format!("{prefix}{digits}").parse();
        Ok(Self {
            container: named("dc-")?,
            host: named("dh-")?,
            joint: named("ds-")?,
            switch: named("dl-")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoints_devices_know_each_other() {
        let names = PortNames::of(&"0123456789abcdef".parse().unwrap()).unwrap();
        assert_eq!(names.switch.as_str(), "dl-0123456789ab");
        for device in [&names.container, &names.host, &names.joint, &names.switch] {
            assert_eq!(PortNames::having(device.as_str()).as_ref(), Some(&names));
        }
        for stranger in ["eth0", "dl", "dl-", "dx-0123", "", "日本語"] {
            assert_eq!(PortNames::having(stranger), None, "{stranger}");
        }
    }
}
