//! The store on real etcd: the contract, getting in, and members that fail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod faults;
mod holds;
mod support;
