//! Ethernet addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Why a text is not the address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// Not six pairs of hexadecimal digits.
    #[error("{0:?} is not a MAC address: six pairs of hexadecimal digits, as in 02:42:0a:64:00:02")]
    Malformed(String),
    /// A multicast address (the lowest bit of the first byte is set) cannot name one interface.
    #[error("{0:?} is a multicast address: the first byte of an interface's address is even")]
    Multicast(String),
    /// All zeros.
    #[error("the MAC address is all zeros")]
    Zero,
}

/// The unicast Ethernet address of one interface, written in lower case as Docker and OVS do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The address as its six bytes, first on the wire first.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// The address that follows from an IPv4 address: `02:42` and its four bytes.
    ///
    /// It is what Docker's own bridge driver does: a container that keeps its IP keeps its MAC, so
    /// no neighbour holds a stale entry after a restart. It is unique wherever the IP is.
    pub fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// A locally administered unicast address made of five bytes that are already unique.
    pub fn local(unique: [u8; 5]) -> Self {
        let [a, b, c, d, e] = unique;
        Self([0x02, a, b, c, d, e])
    }
}

impl FromStr for MacAddr {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let malformed = || MacError::Malformed(text.chars().take(32).collect());
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or_else(malformed)?;
            if !pair.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            *octet = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        if pairs.next().is_some() {
            return Err(malformed());
        }
        if octets == [0; 6] {
            return Err(MacError::Zero);
        }
        if octets[0] & 1 == 1 {
            return Err(MacError::Multicast(text.to_owned()));
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

crate::serde_as_text!(MacAddr);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_in_lower_case() {
        let mac: MacAddr = "02:42:0A:64:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:0a:64:00:02");
        assert_eq!(mac, MacAddr::from_ipv4("10.100.0.2".parse().unwrap()));
    }

    #[test]
    fn what_no_interface_can_have_is_refused() {
        for bad in ["", "02:42", "02:42:0a:64:00:02:03", "+2:42:0a:64:00:02", "0242.0a64.0002"] {
            assert!(matches!(bad.parse::<MacAddr>(), Err(MacError::Malformed(_))), "{bad:?}");
        }
        assert!(matches!("01:00:5e:00:00:01".parse::<MacAddr>(), Err(MacError::Multicast(_))));
        assert_eq!("00:00:00:00:00:00".parse::<MacAddr>(), Err(MacError::Zero));
    }
}
