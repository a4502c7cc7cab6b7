//! The two questions we have for generic netlink: does a family exist, and switch off a feature of
//! a device (family `ethtool`, kernel 5.6 and later).
//!
//! Messages are a few dozen bytes, so they are put together here
//! (Linux: `linux/genetlink.h`, `linux/ethtool_netlink.h`). The kernel answers within the call that
//! sends the question, so nothing here waits.

use std::io;
use std::sync::{Mutex, PoisonError};

use dockline_types::IfName;
use nix::errno::Errno;
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLA_F_NESTED: u16 = 1 << 15;

const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// What a veth claims to compute: any Internet checksum, and SCTP's.
const TX_CHECKSUMS: [&str; 2] = ["tx-checksum-ip-generic", "tx-checksum-sctp"];

/// The longest answer: a family's description is about 1 kB.
const ANSWER: usize = 64 << 10;

/// A generic netlink socket.
#[derive(Debug)]
pub(crate) struct Generic(Mutex<Socket>);

impl Generic {
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self(Mutex::new(socket)))
    }

    /// The number of a family; `None` if the kernel has none of that name.
    pub(crate) fn family(&self, name: &str) -> io::Result<Option<u16>> {
        let question = attribute(CTRL_ATTR_FAMILY_NAME, &text(name));
        let message = message(GENL_ID_CTRL, NLM_F_REQUEST, CTRL_CMD_GETFAMILY, &question);
        let answer = match self.ask(&message) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(None),
            answer => answer?,
        };
        let id = attributes(answer.get(4..).unwrap_or_default())
            .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
            .and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?)));
        id.map(Some).ok_or_else(|| io::Error::other("the answer has no family number"))
    }

    pub(crate) fn disable_tx_checksum(&self, name: &IfName) -> io::Result<()> {
        let family = self.family("ethtool")?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel is older than 5.6")
        })?;
        // A bit that is named and has no value is to be off.
        let bits: Vec<u8> = TX_CHECKSUMS
            .iter()
            .flat_map(|feature| {
                let bit = attribute(ETHTOOL_A_BITSET_BIT_NAME, &text(feature));
                attribute(ETHTOOL_A_BITSET_BITS_BIT | NLA_F_NESTED, &bit)
            })
            .collect();
        let device = attribute(ETHTOOL_A_HEADER_DEV_NAME, &text(name.as_str()));
        let mut wanted = attribute(ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, &device);
        let bits = attribute(ETHTOOL_A_BITSET_BITS | NLA_F_NESTED, &bits);
        wanted.extend(attribute(ETHTOOL_A_FEATURES_WANTED | NLA_F_NESTED, &bits));
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        self.ask(&message(family, flags, ETHTOOL_MSG_FEATURES_SET, &wanted)).map(drop)
    }

    /// Sends a question and gives the first answer's payload, or the error the kernel answers with.
    fn ask(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        socket.send(message, 0)?;
        let mut first = None;
        // A question may have a description and an acknowledgement for an answer.
        loop {
            let mut answer = Vec::with_capacity(ANSWER);
            match socket.recv(&mut answer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            for (kind, payload) in messages(&answer) {
                let code = payload.get(..4).and_then(|code| code.try_into().ok());
                match (kind, code.map(i32::from_ne_bytes)) {
                    (NLMSG_ERROR, Some(0)) => {}
                    (NLMSG_ERROR, Some(code)) => {
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    _ => {
                        first.get_or_insert_with(|| payload.to_vec());
                    }
                }
            }
        }
        Ok(first.unwrap_or_default())
    }
}

/// Text as netlink has it, with a final NUL.
fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// The length field of what is at most a few hundred bytes long.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// An attribute, padded to a multiple of four.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 8);
    bytes.extend(length(4 + value.len()).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn message(family: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + attributes.len());
    bytes.extend(u32::from(length(20 + attributes.len())).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: the socket is used by one question at a time.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The parts of a datagram: each message's kind and payload.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?);
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        let payload = bytes.get(16..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The attributes of a payload: each one's kind and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & !NLA_F_NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_written() {
        let mut bytes = attribute(2, b"ethtool\0");
        bytes.extend(attribute(1 | NLA_F_NESTED, &[1, 2, 3]));
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(2, &b"ethtool\0"[..]), (1, &[1, 2, 3][..])]);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        for bytes in [&[0; 64][..], &[255; 64], &[3, 0, 1, 0], &[9, 0, 1, 0, 0], &[4]] {
            assert!(attributes(bytes).count() <= 1, "{bytes:?}");
            assert!(messages(bytes).count() <= 1, "{bytes:?}");
        }
    }
}
