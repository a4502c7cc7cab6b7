//! A stream of bytes to JSON messages (RFC 7047 section 4.1: JSON-RPC 1.0 without any framing).
//!
//! The decoder finds the end of a message by counting brackets outside strings, looking at every
//! byte once however the stream is cut, and parses the message when it is whole. It knows nothing
//! of what messages mean.

use serde_json::Value;

use crate::limits;

/// Why the stream cannot be read further; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A message is longer than allowed.
    #[error("a message is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// Brackets nest deeper than any message of the protocol.
    #[error("a message nests deeper than {limit} levels")]
    TooDeep {
        /// The limit in levels.
        limit: usize,
    },
    /// Something other than the start of a message, which is `{`.
    #[error("expected the start of a message, got byte {byte:#04x}")]
    NotAMessage {
        /// What came.
        byte: u8,
    },
    /// Brackets match but it is not JSON.
    #[error("a message is not JSON")]
    Syntax(#[source] serde_json::Error),
    /// An earlier error made the stream unreadable.
    #[error("the stream was given up after an earlier error")]
    GivenUp,
}

/// Collects bytes and gives out whole messages.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where the message being read starts.
    start: usize,
    /// Up to where it has been looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    given_up: bool,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(limits::FRAME)
    }
}

impl Decoder {
    /// A decoder that takes messages of at most `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            seen: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            given_up: false,
            limit,
        }
    }

    /// Adds what was read. Take the messages out with [`Self::message`] before adding more, or the
    /// buffer grows beyond the limit.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.given_up {
            return;
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            // A large message must not keep its memory for the life of the connection.
            self.buffer.shrink_to(4 * limits::CHUNK);
            self.seen -= self.start;
            self.start = 0;
        } else if self.start > self.buffer.len() / 2 {
            // Moves fewer bytes than were consumed since the last move: linear on the whole.
            self.buffer.drain(..self.start);
            self.seen -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes come.
    pub fn message(&mut self) -> Result<Option<Value>, CodecError> {
        if self.given_up {
            return Err(CodecError::GivenUp);
        }
        self.advance().inspect_err(|_| {
            self.given_up = true;
            self.buffer = Vec::new();
        })
    }

    fn advance(&mut self) -> Result<Option<Value>, CodecError> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            if self.depth == 0 {
                if byte.is_ascii_whitespace() {
                    self.seen += 1;
                    self.start = self.seen;
                    continue;
                }
                if byte != b'{' {
                    return Err(CodecError::NotAMessage { byte });
                }
            }
            self.seen += 1;
            if self.seen - self.start > self.limit {
                return Err(CodecError::TooLong { limit: self.limit });
            }
            self.look_at(byte)?;
            if self.depth == 0 {
                let message = &self.buffer[self.start..self.seen];
                self.start = self.seen;
                return serde_json::from_slice(message).map(Some).map_err(CodecError::Syntax);
            }
        }
        Ok(None)
    }

    fn look_at(&mut self, byte: u8) -> Result<(), CodecError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.depth += 1;
                if self.depth > limits::DEPTH {
                    return Err(CodecError::TooDeep { limit: limits::DEPTH });
                }
            }
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn all(decoder: &mut Decoder) -> Result<Vec<Value>, CodecError> {
        let mut messages = Vec::new();
        while let Some(message) = decoder.message()? {
            messages.push(message);
        }
        Ok(messages)
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[\\PC\"\\\\{}\\[\\]\n]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[\\PC\"\\\\}]{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_split_of_the_stream_gives_the_same_messages(
            values in prop::collection::vec(json_value(), 1..5),
            pretty in any::<bool>(),
            cuts in prop::collection::vec(1_usize..40, 1..40),
        ) {
            let sent: Vec<Value> = values.into_iter().map(|value| json!({"it": value})).collect();
            let mut stream = Vec::new();
            for message in &sent {
                let text = if pretty { format!("{message:#}\n ") } else { message.to_string() };
                stream.extend_from_slice(text.as_bytes());
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                decoder.extend(now);
                got.extend(all(&mut decoder)?);
                rest = later;
            }
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn garbage_ends_in_messages_an_error_or_a_wait_and_never_in_a_panic(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16),
        ) {
            let mut decoder = Decoder::with_limit(256);
            for chunk in chunks {
                decoder.extend(&chunk);
                if all(&mut decoder).is_err() {
                    prop_assert!(matches!(decoder.message(), Err(CodecError::GivenUp)));
                }
            }
        }

        #[test]
        fn json_like_garbage_neither(text in "[\\[\\]{}\",:\\\\a1 ]{0,200}") {
            let mut decoder = Decoder::with_limit(64);
            decoder.extend(text.as_bytes());
            let _ = all(&mut decoder);
        }
    }

    #[test]
    fn limits_hold_before_the_message_is_whole() {
        let mut decoder = Decoder::with_limit(100);
        decoder.extend(b"{\"a\":\"");
        decoder.extend(&[b'x'; 200]);
        assert!(matches!(decoder.message(), Err(CodecError::TooLong { limit: 100 })));

        let mut decoder = Decoder::default();
        decoder.extend(b"{\"a\":");
        decoder.extend(&[b'['; 100]);
        assert!(matches!(decoder.message(), Err(CodecError::TooDeep { .. })));

        for (bytes, shown) in [(&b"]"[..], 0x5d), (b"null", 0x6e), (b"\xff", 0xff)] {
            let mut decoder = Decoder::default();
            decoder.extend(bytes);
            let error = decoder.message().unwrap_err();
            assert!(matches!(error, CodecError::NotAMessage { byte } if byte == shown), "{error}");
        }
    }

    #[test]
    fn a_large_message_in_small_pieces_is_looked_at_once() {
        let text = json!({"it": vec!["some port or other"; 50_000]}).to_string();
        let mut decoder = Decoder::default();
        let mut looks = 0;
        for piece in text.as_bytes().chunks(512) {
            decoder.extend(piece);
            let before = decoder.seen - decoder.start;
            if let Some(message) = decoder.message().unwrap() {
                assert_eq!(message["it"].as_array().unwrap().len(), 50_000);
                looks += piece.len();
            } else {
                looks += decoder.seen - decoder.start - before;
            }
        }
        assert_eq!(looks, text.len());
    }

    #[test]
    fn consumed_bytes_are_let_go() {
        let mut decoder = Decoder::default();
        decoder.extend(b"{\"a\":\"");
        for _ in 0..1000 {
            // One whole message and the start of the next, so that the buffer is never empty.
            decoder.extend(b"0123456789\"}{\"a\":\"");
            assert_eq!(all(&mut decoder).unwrap().len(), 1);
        }
        assert!(decoder.buffer.len() < 100, "{} bytes kept", decoder.buffer.len());
    }
}
