//! The words the lab and the agent in a node exchange: one connection per command, frames of a
//! kind, a length and a payload.
//!
//! The lab opens the connection and sends one [`Request`]; standard input follows. The agent sends
//! the command's output as it comes and ends with [`Kind::Exit`] or [`Kind::Failed`]. A connection
//! that the lab closes before that kills the command. It is a private protocol: both ends are the
//! same program, and [`VERSION`] guards against an agent of another build.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What both ends must speak; raised with every change of this file.
pub(crate) const VERSION: u32 = 1;

/// The port the agent listens on in the node's control namespace.
pub(crate) const AGENT_PORT: u16 = 7000;

/// The port on the lab's end of a node's control link on which a node says that it is up.
pub(crate) const HELLO_PORT: u16 = 7001;

/// The most bytes a frame's payload has; more is a broken peer.
const PAYLOAD_LIMIT: usize = 1 << 20;

/// How many bytes of output or input travel in one frame.
pub(crate) const CHUNK: usize = 64 << 10;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the node: a [`Request`] as JSON.
    Request,
    /// To the node: bytes for standard input.
    Stdin,
    /// To the node: standard input ends.
    StdinEnd,
    /// From the node: bytes of standard output (of both outputs on a terminal).
    Stdout,
    /// From the node: bytes of standard error.
    Stderr,
    /// From the node: the exit code (128 and the signal's number for a command killed by one).
    Exit,
    /// From the node: the command could not be started; why, as text.
    Failed,
    /// From the node: a background program runs; its process id.
    Started,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Request,
        Self::Stdin,
        Self::StdinEnd,
        Self::Stdout,
        Self::Stderr,
        Self::Exit,
        Self::Failed,
        Self::Started,
    ];

    fn header(self, len: usize) -> io::Result<[u8; 5]> {
        let len = u32::try_from(len).map_err(|_| broken("a frame of over 4 GiB"))?;
        let len = len.to_be_bytes();
        Ok([self as u8, len[0], len[1], len[2], len[3]])
    }

    fn parse(header: [u8; 5]) -> io::Result<(Self, usize)> {
        let [kind, len @ ..] = header;
        let kind = Self::ALL.get(usize::from(kind)).ok_or_else(|| broken("an unknown frame"))?;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        if len > PAYLOAD_LIMIT {
            return Err(broken("a frame over the limit"));
        }
        Ok((*kind, len))
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the lab's control channel carried {what}"))
}

/// What the agent is asked to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// Variables on top of the agent's own environment.
    pub(crate) env: Vec<(String, String)>,
    /// The folder to run in.
    pub(crate) folder: String,
    /// How it runs.
    pub(crate) mode: Mode,
}

/// How the agent runs a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// To its end, as long as the connection lives.
    Attached,
    /// In the background, its output appended to this file; it outlives the connection.
    Background {
        /// The file.
        log: String,
    },
    /// On a terminal of its own.
    Terminal(Terminal),
}

/// A terminal to make on a node.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Terminal {
    /// Its rows.
    pub(crate) rows: u16,
    /// Its columns.
    pub(crate) columns: u16,
    /// Whether it shows what is typed; the terminal at the other end may do so itself.
    pub(crate) echo: bool,
}

/// A node's first words, sent once when it is ready for commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// [`VERSION`] of the agent.
    pub(crate) version: u32,
    /// The number of this boot, as the lab gave it.
    pub(crate) boot: u64,
}

/// Writes one frame.
pub(crate) fn write(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    // One write, so that a small frame is one packet.
    let mut frame = kind.header(payload.len())?.to_vec();
    frame.extend_from_slice(payload);
    to.write_all(&frame)
}

/// Reads one frame; `None` at the end of the connection.
pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut header = [0; 5];
    match from.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (kind, len) = Kind::parse(header)?;
    let mut payload = vec![0; len];
    from.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}

/// [`write()`] for the lab's end.
pub(crate) async fn send(
    to: &mut (impl AsyncWrite + Unpin),
    kind: Kind,
    payload: &[u8],
) -> io::Result<()> {
    let mut frame = kind.header(payload.len())?.to_vec();
    frame.extend_from_slice(payload);
    to.write_all(&frame).await
}

/// [`read`] for the lab's end.
pub(crate) async fn receive(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut header = [0; 5];
    match from.read_exact(&mut header).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let (kind, len) = Kind::parse(header)?;
    let mut payload = vec![0; len];
    from.read_exact(&mut payload).await?;
    Ok(Some((kind, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for kind in Kind::ALL {
            let mut bytes = Vec::new();
            write(&mut bytes, kind, b"\0payload\xff").unwrap();
            let (got, payload) = read(&mut bytes.as_slice()).unwrap().unwrap();
            assert_eq!((got, payload.as_slice()), (kind, b"\0payload\xff".as_slice()));
        }
        assert!(read(&mut [].as_slice()).unwrap().is_none());
    }

    #[test]
    fn garbage_is_refused_before_it_is_stored() {
        assert!(read(&mut [99, 0, 0, 0, 0].as_slice()).is_err());
        assert!(read(&mut [3, 0xff, 0xff, 0xff, 0xff].as_slice()).is_err());
        assert!(read(&mut [3, 0, 0, 0, 9, 1].as_slice()).is_err());
    }
}
