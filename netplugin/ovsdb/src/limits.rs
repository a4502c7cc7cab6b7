//! Every number this crate bounds something with, and why it is that one.

use std::time::Duration;

/// The longest message taken from the server, in bytes: the first picture of 10,000 ports is about
/// 20 MB.
pub(crate) const FRAME: usize = 64 << 20;

/// The deepest nesting taken in a message: an update nests 8 deep, and `serde_json` stops at 128.
pub(crate) const DEPTH: usize = 64;

/// How much is read from the socket at once, in bytes.
pub(crate) const CHUNK: usize = 64 << 10;

/// Messages that may wait to be written; a caller waits when the server is that far behind.
pub(crate) const OUTGOING: usize = 64;

/// Silence after which the server is asked whether it lives.
pub(crate) const PROBE_AFTER: Duration = Duration::from_secs(5);

/// First and longest pause between two attempts to connect.
pub(crate) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_secs(2));

/// How long connecting and the first picture may take together.
pub(crate) const CONNECT: Duration = Duration::from_secs(30);

/// Changes that share one transaction at most: 256 ports are about 300 kB of JSON.
pub(crate) const BATCH: usize = 256;

/// Changes that may wait for their turn; a caller beyond it waits within its deadline.
pub(crate) const QUEUE: usize = 4096;

/// How long the next transaction is held back for the reconfiguration in progress, so that what
/// arrives meanwhile shares one. A stopped ovs-vswitchd must not hold up the database for ever.
pub(crate) const HOLD: Duration = Duration::from_secs(2);

/// The longest pause in which callers that were answered together may come back together.
pub(crate) const GATHER: Duration = Duration::from_millis(10);

/// Attempts at one change whose outcome is unknown or which lost a race, within its deadline.
pub(crate) const ATTEMPTS: usize = 4;

/// How long taking back a port may take, also when its caller's deadline is near.
pub(crate) const UNDO: Duration = Duration::from_secs(2);
