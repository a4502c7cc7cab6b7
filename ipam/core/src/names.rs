//! Names: of address spaces, hosts and containers.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not allowed: 1 to {longest} of A-Z a-z 0-9 _ . - are, and not . or ..")]
pub struct NameError {
    what: &'static str,
    longest: usize,
    text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $longest:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The most bytes of a name.
            pub const LONGEST: usize = $longest;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
                let fits = (1..=$longest).contains(&text.len());
                if fits && text.bytes().all(allowed) && text != "." && text != ".." {
                    Ok(Self(text.to_owned()))
                } else {
                    let text = text.chars().take($longest + 1).collect();
                    Err(NameError { what: $what, longest: $longest, text })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of an address space. Subnets must not overlap within one, and may between two.
    SpaceName, "the address space", 32
}
name! {
    /// The name of a host, unique among all that share a store.
    HostName, "the host name", 64
}
name! {
    /// The name of a container.
    ContainerName, "the container name", 128
}

impl SpaceName {
    /// The space of networks of scope `local`, which are all of Dockline's outside Swarm.
    pub const LOCAL: &str = "dockline";

    /// The space a Swarm manager asks for. It differs from [`Self::LOCAL`]: the workers ask again,
    /// in their local space, for what the manager has taken.
    pub const GLOBAL: &str = "dockline-global";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_read_as_more_than_a_name_is_refused() {
        for good in ["a", "prod-1", "A.b_c", SpaceName::LOCAL, SpaceName::GLOBAL] {
            assert_eq!(good.parse::<SpaceName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(33);
        for bad in ["", ".", "..", "a/b", "/", "a b", "a\0", "a\n", "é", "a:b", &long] {
            let error = bad.parse::<SpaceName>().unwrap_err().to_string();
            assert!(error.starts_with("the address space"), "{error}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<SpaceName>(&json).is_err(), "{bad:?}");
        }
    }
}
