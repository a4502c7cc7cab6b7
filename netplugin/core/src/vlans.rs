//! Sets of VLANs as people write them: `10,20,30-40`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use dockline_types::{VlanError, VlanId};

/// Why a text is not a set of VLANs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VlansError {
    /// A part of it is not a VLAN.
    #[error(transparent)]
    Vlan(#[from] VlanError),
    /// A range ends before it begins.
    #[error("the range {0}-{1} ends before it begins")]
    Backwards(VlanId, VlanId),
    /// A VLAN stands in it twice.
    #[error("VLAN {0} stands in the list twice")]
    Twice(VlanId),
}

/// VLANs; never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlans(BTreeSet<VlanId>);

impl Vlans {
    /// The VLANs.
    pub fn ids(&self) -> &BTreeSet<VlanId> {
        &self.0
    }

    /// Whether this is one of them.
    pub fn contains(&self, vlan: VlanId) -> bool {
        self.0.contains(&vlan)
    }
}

impl FromStr for Vlans {
    type Err = VlansError;

    fn from_str(text: &str) -> Result<Self, VlansError> {
        let mut ids = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (first.parse::<VlanId>()?, last.parse::<VlanId>()?),
                None => {
                    let only = part.parse()?;
                    (only, only)
                }
            };
            if last < first {
                return Err(VlansError::Backwards(first, last));
            }
            for number in first.get()..=last.get() {
                let id = VlanId::try_from(number)?;
                if !ids.insert(id) {
                    return Err(VlansError::Twice(id));
                }
            }
        }
        Ok(Self(ids))
    }
}

impl fmt::Display for Vlans {
    /// With ranges, in order: `10,20,30-40`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids = self.0.iter().map(|id| id.get()).peekable();
        let mut separator = "";
        while let Some(first) = ids.next() {
            let mut last = first;
            while ids.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last == first {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_and_ranges_are_read() {
        let vlans: Vlans = "10,20,30-32".parse().unwrap();
        let numbers: Vec<u16> = vlans.ids().iter().map(|id| id.get()).collect();
        assert_eq!(numbers, [10, 20, 30, 31, 32]);
        assert_eq!(vlans.to_string(), "10,20,30-32");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, words) in [
            ("", "\"\" is not a VLAN"),
            ("10,", "\"\" is not a VLAN"),
            ("0", "\"0\" is not a VLAN"),
            ("1-4095", "\"4095\" is not a VLAN"),
            ("40-30", "the range 40-30 ends before it begins"),
            ("10,20,10", "VLAN 10 stands in the list twice"),
            ("10-20,15", "VLAN 15 stands in the list twice"),
            ("10 20", "\"10 20\" is not a VLAN"),
            ("1-2-3", "\"2-3\" is not a VLAN"),
        ] {
            let error = text.parse::<Vlans>().unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(numbers in prop::collection::btree_set(1u16..=4094, 1..60)) {
            let ids = numbers.iter().map(|&number| VlanId::try_from(number).unwrap()).collect();
            let vlans = Vlans(ids);
            prop_assert_eq!(vlans.to_string().parse::<Vlans>().unwrap(), vlans);
        }
    }
}
