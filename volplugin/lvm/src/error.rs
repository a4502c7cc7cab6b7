//! Why LVM did not do what it was asked for.

use std::time::Duration;

use dockline_exec::ExecError;

use crate::{Malformed, PictureError};

/// Why LVM did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LvmError {
    /// LVM never saw the command.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// LVM said no. As a rule nothing was changed; the state says.
    #[error("LVM refuses `{command}`: {said}")]
    Refused {
        /// The command.
        command: String,
        /// What LVM said.
        said: String,
    },
    /// Another command was at work all the time; this one was not begun.
    #[error(
        "LVM is busy with `{with}`, for {} s by now: `{command}` was not begun; is another program \
         holding LVM's lock?", waited.as_secs()
    )]
    Busy {
        /// The command that waited.
        command: String,
        /// The one that is at work.
        with: String,
        /// How long was waited.
        waited: Duration,
    },
    /// It goes on; whether it is or will be done is not known.
    #[error("LVM has not finished `{command}` within {} s, and goes on with it", waited.as_secs())]
    TimedOut {
        /// The command.
        command: String,
        /// How long was waited.
        waited: Duration,
    },
    /// Whatever ran the command died; whether it is done is not known.
    #[error("what ran `{command}` has ended ({how}) before it said whether it is done")]
    Died {
        /// The command.
        command: String,
        /// How it ended.
        how: String,
    },
    /// The helper or the program is not there.
    #[error("LVM cannot be run: is lvm2 installed?")]
    NotThere(#[source] ExecError),
    /// What LVM reports is not understood.
    #[error(transparent)]
    Report(#[from] PictureError),
}

impl LvmError {
    /// Whether the command may have been carried out, now or later. Only the state tells.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Died { .. })
    }
}
