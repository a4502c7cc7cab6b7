//! The whole suite on one machine, on real parts: dockerd, Open vSwitch, the three daemons.
//!
//! Two users: `dockline-up` (what `make up` and `make down` run, in the machine's own namespaces)
//! and the tests of the host tier (each on a [`place::Place`] of its own, which vanishes with it).
//! It is not the lab: there is one host, with the kernel that the machine has.

pub mod daemons;
pub mod demo;
pub mod docker;
pub mod image;
pub mod place;
pub mod process;
pub mod report;
pub mod suite;
pub mod switch;
