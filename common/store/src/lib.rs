//! The store: ordered keys and values with revisions, transactions and watches.
//!
//! The model is etcd's, so that one set of callers runs on one host over the [`embedded`] file and
//! on many hosts over a cluster of [`etcd`]. What is stored here is nobody's business but the caller's: keys and
//! values are bytes. Every implementation passes the `contract` suite (cargo feature `contract`).

mod any;
#[cfg(feature = "contract")]
pub mod contract;
pub mod embedded;
mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
mod traits;
mod types;

pub use any::{AnyScan, AnyStore, AnyWatch};
pub use error::{Cause, StoreError};
pub use traits::{Batch, Page, Scan, Store, Watch};
pub use types::{
    Compare, Entry, Event, Key, LimitError, MAX_KEY_BYTES, MAX_PAGE, MAX_TXN_BYTES, MAX_TXN_OPS,
    MAX_VALUE_BYTES, Op, Outcome, Prefix, Revision, Txn, Value,
};
