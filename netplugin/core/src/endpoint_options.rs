//! The options a user gives an endpoint (`--driver-opt key=value` of `docker network connect`, or
//! within `docker run --network`), parsed strictly like a network's.

use dockline_types::VlanId;
use serde_json::{Map, Value};

use crate::limit_options::{LimitError, LimitOptions};
use crate::vlans::{Vlans, VlansError};

/// What the engine's own options begin with; the rest are the user's.
const ENGINE: &str = "com.docker.network.";

/// Why an endpoint's options are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointOptionError {
    /// No such option.
    #[error("unknown endpoint option {key}={value}: the options are {}", known())]
    Unknown {
        /// The option.
        key: String,
        /// What it was set to, as JSON.
        value: String,
    },
    /// Not a text.
    #[error("endpoint option {0}: a text is expected")]
    NotText(&'static str),
    /// Not a set of VLANs.
    #[error("endpoint option trunk")]
    Trunk(#[from] VlansError),
    /// A VLAN that the container gets untagged already.
    #[error(
        "endpoint option trunk: VLAN {0} is the network's own, which the container has untagged; \
         leave it out of the list"
    )]
    Native(VlanId),
    /// A limit is wrong.
    #[error(transparent)]
    Limit(#[from] LimitError),
}

/// What a user may say of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndpointOptions {
    /// `trunk`: the VLANs that the container gets tagged, besides the network's own untagged.
    pub trunk: Option<Vlans>,
    /// `rx-rate`, `rx-burst`, `tx-rate`, `tx-burst`: instead of what the network says.
    pub limits: LimitOptions,
}

fn known() -> String {
    format!("trunk, {}", LimitOptions::KEYS.join(", "))
}

impl EndpointOptions {
    /// Parses the options that are not the engine's own; `native` is the network's VLAN.
    pub fn parse(
        given: &Map<String, Value>,
        native: Option<VlanId>,
    ) -> Result<Self, EndpointOptionError> {
        let mut options = Self::default();
        for (key, value) in given.iter().filter(|(key, _)| !key.starts_with(ENGINE)) {
            let text = |key| value.as_str().ok_or(EndpointOptionError::NotText(key));
            if let Some(known) = LimitOptions::KEYS.into_iter().find(|known| known == key) {
                options.limits.set(known, text(known)?)?;
            } else if key == "trunk" {
                options.trunk = Some(text("trunk")?.parse()?);
            } else {
                let short = |text: &str| text.chars().take(64).collect();
                let (key, value) = (short(key), short(&value.to_string()));
                return Err(EndpointOptionError::Unknown { key, value });
            }
        }
        match (&options.trunk, native) {
            (Some(trunk), Some(native)) if trunk.contains(native) => {
                Err(EndpointOptionError::Native(native))
            }
            _ => Ok(options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockline_plugin_specs::route::chain;
    use serde_json::json;

    fn parse(given: Value) -> Result<EndpointOptions, EndpointOptionError> {
        let native = Some(VlanId::try_from(100).unwrap());
        EndpointOptions::parse(given.as_object().unwrap(), native)
    }

    #[test]
    fn the_users_options_are_read_and_the_engines_passed_over() {
        let given = json!({
            "com.docker.network.portmap": [], "trunk": "10,20-22", "rx-rate": "10mbit",
        });
        let options = parse(given).unwrap();
        assert_eq!(options.trunk.unwrap().to_string(), "10,20-22");
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (given, words) in [
            (json!({"speed": "fast"}), "unknown endpoint option speed=\"fast\": the options are"),
            (json!({"speed": "fast"}), "trunk, rx-rate, rx-burst, tx-rate, tx-burst"),
            (json!({"trunk": 10}), "endpoint option trunk: a text is expected"),
            (json!({"trunk": "10,10"}), "endpoint option trunk: VLAN 10 stands in the list twice"),
            (json!({"trunk": "10,4095"}), "endpoint option trunk: \"4095\" is not a VLAN"),
            (json!({"trunk": "90-110"}), "VLAN 100 is the network's own"),
            (json!({"tx-rate": "0mbit"}), "tx-rate: \"0mbit\" would cut the container off"),
        ] {
            let error = chain(&parse(given).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
