//! The host tier: the whole suite on stages of its own, driven through the unmodified docker client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod demonstration;
mod garbage;
mod networks;
mod restarts;
mod support;
mod volumes;
