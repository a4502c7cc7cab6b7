//! The daemon against a real Open vSwitch in a namespace of the test's own, called as dockerd
//! calls it. Needs root and the packages `openvswitch-switch` and `iproute2`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calls;
mod crashes;
mod host;
mod identity;
mod janitor;
mod limits;
mod outages;
