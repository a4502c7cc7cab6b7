//! Why the kernel did not do what it was asked.

use std::io;

/// What went wrong with a device.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Undone: the name, or that of the other end, is taken.
    #[error("a device {0} or its other end is there already")]
    Exists(String),
    /// Undone: there is no such device here.
    #[error("there is no device {0}")]
    Missing(String),
    /// Undone: the kernel refused.
    #[error("cannot {what}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// **Unknown**: the kernel did not answer.
    #[error("the kernel did not answer when asked to {what}")]
    TimedOut {
        /// What was tried.
        what: String,
    },
    /// **Unknown**: the kernel's answer is not one to this question.
    #[error("unexpected netlink answer when asked to {what}: {answer}")]
    Answer {
        /// What was tried.
        what: String,
        /// What came.
        answer: String,
    },
}

/// The kernel's refusals that are told apart.
pub(crate) enum Failure {
    Exists,
    Missing,
    Other,
}

impl Failure {
    pub(crate) fn of(error: &io::Error) -> Self {
        use nix::errno::Errno;
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EEXIST) => Self::Exists,
            Some(Errno::ENODEV) => Self::Missing,
            _ => Self::Other,
        }
    }
}

impl LinkError {
    pub(crate) fn of(name: &str, what: String, error: rtnetlink::Error) -> Self {
        let rtnetlink::Error::NetlinkError(message) = error else {
            return Self::Answer { what, answer: error.to_string() };
        };
        let source = message.to_io();
        match Failure::of(&source) {
            Failure::Exists => Self::Exists(name.to_owned()),
            Failure::Missing => Self::Missing(name.to_owned()),
            Failure::Other => Self::Kernel { what, source },
        }
    }
}
