//! What can go wrong with a cluster.

use std::path::PathBuf;
use std::sync::Arc;

use etcd_client::Error;

use super::options::EtcdOptions;
use crate::StoreError;

/// Why the cluster did not do or answer something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// A file that is needed to connect cannot be read.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A member did not do it, or is out of reach.
    #[error("etcd at {endpoint}: {}", reason(source))]
    Member {
        /// The member's URL.
        endpoint: String,
        /// What the client or the server said.
        source: Arc<Error>,
    },
    /// A member gave no answer.
    #[error("etcd at {endpoint} does not answer within {ms} ms")]
    Silent {
        /// The member's URL.
        endpoint: String,
        /// How long was waited, in milliseconds.
        ms: u128,
    },
    /// Another process changed this writer's fence.
    #[error(
        "another process writes to etcd as {writer:?}: each host needs a name of its own (`host` \
         in the configuration)"
    )]
    Fenced {
        /// The name.
        writer: String,
    },
    /// The answer is not one to what was asked.
    #[error("the answer of etcd makes no sense")]
    Nonsense,
    /// There has been no answer for too long.
    #[error("no answer from etcd ({}) in time", .0.join(", "))]
    Late(Vec<String>),
}

/// What the client said, and what is beneath it, which its own text leaves out.
fn reason(error: &Error) -> String {
    let mut text = match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    let mut cause = match error {
        Error::GRpcStatus(status) => std::error::Error::source(status),
        Error::TransportError(error) => std::error::Error::source(error),
        _ => None,
    };
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// What may be concluded from a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server refused it: it was not done, and will not be.
    Refused,
    /// It may have been done, or may yet be.
    Open,
}

/// The server's codes with which it says that it did not and will not do it: of gRPC, and as
/// etcd's `rpctypes` uses them.
pub(super) fn verdict(error: &Error) -> Verdict {
    use tonic_codes::*;
    match error {
        Error::GRpcStatus(status) => match status.code() as i32 {
            INVALID_ARGUMENT | PERMISSION_DENIED | RESOURCE_EXHAUSTED | FAILED_PRECONDITION
            | OUT_OF_RANGE | UNIMPLEMENTED | UNAUTHENTICATED => Verdict::Refused,
            _ => Verdict::Open,
        },
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            Verdict::Refused
        }
        _ => Verdict::Open,
    }
}

/// Whether a read failed because the revision it asked for is no longer kept.
pub(super) fn is_compacted(error: &Error) -> bool {
    // The one code has two messages: a compacted revision, and one that is yet to come.
    matches!(error, Error::GRpcStatus(status)
        if status.code() as i32 == tonic_codes::OUT_OF_RANGE
            && status.message().contains("compacted"))
}

/// gRPC's status codes (grpc.github.io, statuscodes), which etcd-client does not name.
mod tonic_codes {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// Why a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No member answered as it should.
    #[error("the etcd cluster cannot be used")]
    Unreachable(#[source] Failure),
    /// A newer version uses the keyspace, or something else altogether.
    #[error(
        "the key {key} in etcd is {found:?}, and this version knows no keyspace above {}: it is \
         used by a newer Dockline, or by something else; run that version here too, or choose \
         another `namespace`",
        super::KEYSPACE
    )]
    Newer {
        /// The key with the number.
        key: String,
        /// What it holds.
        found: String,
    },
}

impl Failure {
    /// That nothing was heard in time of any member.
    pub(super) fn late(options: &EtcdOptions) -> Self {
        Self::Late(options.endpoints.clone())
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::unavailable(failure)
    }
}
