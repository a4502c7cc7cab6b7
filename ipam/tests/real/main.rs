//! The IPAM driver and its daemon on real stores: bad input, models, many clients, faults and kills.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod captured;
mod drain;
mod driver;
mod etcd;
mod faults;
mod history;
mod hosts;
mod killed;
mod model;
mod operators;
mod support;
