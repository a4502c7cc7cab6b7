//! `--ipam-opt`: the options of a pool.

use std::collections::BTreeMap;

use crate::names::{NameError, SpaceName};

/// The options there are.
const KNOWN: [&str; 1] = ["space"];

/// What the engine adds of its own begins with this, and is none of our business.
const ENGINES: &str = "com.docker.";

/// Why the options cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// There is no such option.
    #[error("--ipam-opt {name}={value:?} is not known; known: {}", KNOWN.join(", "))]
    Unknown {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// `space` is not a name.
    #[error("--ipam-opt space={value:?} cannot be taken")]
    Space {
        /// What was given.
        value: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
}

/// The options of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// The address space to use instead of the engine's choice.
    pub space: Option<SpaceName>,
}

impl PoolOptions {
    /// Reads the options of a request for a pool.
    pub fn read(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut read = Self::default();
        for (name, value) in options {
            let short = |text: &str| text.chars().take(64).collect::<String>();
            match name.as_str() {
                "space" => {
                    let space = value
                        .parse()
                        .map_err(|source| OptionError::Space { value: short(value), source })?;
                    read.space = Some(space);
                }
                engines if engines.starts_with(ENGINES) => {}
                _ => {
                    return Err(OptionError::Unknown { name: short(name), value: short(value) });
                }
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<PoolOptions, OptionError> {
        let options = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        PoolOptions::read(&options.collect())
    }

    #[test]
    fn ours_are_read_strictly_and_the_engines_are_left() {
        let space = Some("prod".parse().unwrap());
        assert_eq!(read(&[("space", "prod")]), Ok(PoolOptions { space }));
        let engines = ("com.docker.network.ipam.serial", "true");
        assert_eq!(read(&[engines]), Ok(PoolOptions::default()));
        let unknown = read(&[("spase", "prod")]).unwrap_err().to_string();
        assert_eq!(unknown, "--ipam-opt spase=\"prod\" is not known; known: space");
        for bad in ["", "a/b", "..", "a b"] {
            let error = read(&[("space", bad)]).unwrap_err();
            assert!(matches!(error, OptionError::Space { .. }), "{error}");
        }
    }
}
