//! The ids Docker gives to networks and endpoints.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not an id: 1 to 64 ASCII letters and digits are expected")]
pub struct IdError {
    what: &'static str,
    text: String,
}

/// The longest id taken: Docker's own are 64 hexadecimal digits, Swarm's 25 letters and digits.
const LONGEST: usize = 64;

macro_rules! docker_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The id as Docker writes it.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first twelve characters, as `docker network ls` shows them.
            pub fn short(&self) -> &str {
                &self.0[..self.0.len().min(12)]
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let fits = (1..=LONGEST).contains(&text.len());
                if fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    Ok(Self(text.to_owned()))
                } else {
                    // A stranger's text may be of any length; the error need not be.
                    Err(IdError { what: $what, text: text.chars().take(LONGEST + 1).collect() })
                }
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

        crate::serde_as_text!($name);
    };
}

docker_id! {
    /// A Docker network: 64 hexadecimal digits, or 25 letters and digits for a Swarm network.
    NetworkId, "network id"
}

docker_id! {
    /// A container's connection to one network: 64 hexadecimal digits.
    EndpointId, "endpoint id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letters_and_digits_of_a_sane_length() {
        assert!("a".repeat(64).parse::<NetworkId>().is_ok());
        for bad in ["", "../x", "a b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<NetworkId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_short_form_is_dockers() {
        let id: EndpointId = "0123456789abcdef".parse().unwrap();
        assert_eq!(id.short(), "0123456789ab");
        assert_eq!("ab".parse::<EndpointId>().unwrap().short(), "ab");
    }
}
