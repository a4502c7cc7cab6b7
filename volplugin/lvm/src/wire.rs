//! What the helper is told and what it answers: JSON, after its length as four bytes, big-endian.

use std::io::{self, ErrorKind, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The longest message, in bytes: a report on ten thousand volumes has about ten million.
const LONGEST: usize = 64 << 20;

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Counts up; the answer has the same.
    pub number: u64,
    /// The command's words.
    pub words: Vec<String>,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's number.
    pub number: u64,
    /// Whether LVM calls it a success.
    pub success: bool,
    /// Lines of output. LVM prints warnings among them.
    pub printed: Vec<String>,
    /// Lines that say what is wrong.
    pub errors: Vec<String>,
}

fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= LONGEST);
    let length = length.ok_or_else(|| io::Error::other("a message is too long"))?;
    Ok([&length.to_be_bytes()[..], &body].concat())
}

fn length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_be_bytes(bytes) as usize;
    if length > LONGEST {
        return Err(io::Error::new(ErrorKind::InvalidData, "a message is too long"));
    }
    Ok(length)
}

/// Writes a message.
pub fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&frame(message)?)
}

/// Reads a message; nothing at the orderly end.
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut bytes = [0; 4];
    match from.read_exact(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut body = vec![0; length(bytes)?];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Writes a message, asynchronously.
pub(crate) async fn send(
    to: &mut (impl AsyncWriteExt + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    to.write_all(&frame(message)?).await
}

/// Reads a message, asynchronously.
pub(crate) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncReadExt + Unpin),
) -> io::Result<T> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes).await?;
    let mut body = vec![0; length(bytes)?];
    from.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way_and_torn_ones_are_noticed() {
        let request = Request { number: 7, words: vec!["lvs".into(), "vg/é".into()] };
        let mut sent = Vec::new();
        write(&mut sent, &request).unwrap();
        assert_eq!(read::<Request>(&mut sent.as_slice()).unwrap(), Some(request));
        assert_eq!(read::<Request>(&mut &[][..]).unwrap(), None);
        assert!(read::<Request>(&mut &sent[..sent.len() - 1]).is_err());
        assert!(read::<Request>(&mut &[0xff; 8][..]).is_err(), "too long");
    }
}
