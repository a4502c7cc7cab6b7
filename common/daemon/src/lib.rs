//! What the three daemons have in common: one configuration file, one way to start, to log, to
//! answer operators and to stop.
//!
//! * [`config`]: the file, with a section for each daemon.
//! * [`admin`]: the operators' socket as a service.
//! * [`start`]: from `main` to serving.

pub mod admin;
pub mod config;
mod logging;
pub mod start;

pub use admin::{Admin, AdminError, carry_out};
pub use config::Config;
pub use start::{About, Context, run};
