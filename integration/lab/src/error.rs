//! Why the lab could not do what a test asked of it.

use std::path::PathBuf;
use std::time::Duration;

use dockline_exec::ExecError;

/// Why the lab could not do what it was asked. Every text names the node and what to look at.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology asks for something that cannot be built.
    #[error("the lab's topology cannot be built: {0}")]
    Topology(String),
    /// Something the lab needs is not installed or not built.
    #[error("the lab needs {what}: {remedy}")]
    Missing {
        /// What is missing.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// A program of the machine failed while the lab was set up or changed.
    #[error("the machine did not let the lab be set up (is this root?)")]
    Machine(#[from] ExecError),
    /// The system refused something to the lab itself.
    #[error("the lab could not {doing}")]
    Io {
        /// What it was doing.
        doing: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A node did not become ready.
    #[error("node {node} did not boot ({why}); the end of its console:\n{console}")]
    Boot {
        /// The node.
        node: String,
        /// What was seen: it ended, or its time ran out.
        why: String,
        /// The last lines of its console.
        console: String,
    },
    /// A node's kernel ended by itself, which no verb asked for.
    #[error("node {node} died ({why}); the end of its console:\n{console}")]
    Died {
        /// The node.
        node: String,
        /// How it ended.
        why: String,
        /// The last lines of its console.
        console: String,
    },
    /// A command was asked of a node that has no power.
    #[error("node {node} is off: boot it first")]
    Off {
        /// The node.
        node: String,
    },
    /// The topology has no node of this name.
    #[error("the lab has no node {node}: it has {known}")]
    NoSuchNode {
        /// The name asked for.
        node: String,
        /// The names there are.
        known: String,
    },
    /// The node's agent could not be reached or the connection broke: the outcome is unknown.
    #[error("lost node {node} while running `{command}`: whether it took effect is unknown")]
    Lost {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The command could not be started on the node.
    #[error("node {node} cannot run `{command}`: {why}")]
    NotStarted {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// What the node's kernel said.
        why: String,
    },
    /// The command ran and exited with another code than 0.
    #[error("`{command}` on node {node} exited with {code}: {stderr}")]
    Failed {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// Its exit code; 128 and the signal's number if a signal ended it.
        code: i32,
        /// The end of its standard error.
        stderr: String,
    },
    /// The command was killed at its deadline.
    #[error("`{command}` on node {node} did not end within {} s and was killed", deadline.as_secs_f32())]
    TimedOut {
        /// The node.
        node: String,
        /// The command line.
        command: String,
        /// The time it was given.
        deadline: Duration,
    },
    /// A condition did not come true in its time.
    #[error("{what} did not come true within {} s; last seen: {last}", waited.as_secs_f32())]
    NotMet {
        /// The condition.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last look at it saw.
        last: String,
    },
    /// A disk, link or device that a verb names is not there.
    #[error("node {node} has no {what}")]
    NoSuchPart {
        /// The node.
        node: String,
        /// The part.
        what: String,
    },
    /// The image recipe failed.
    #[error("the image {} could not be made", path.display())]
    Image {
        /// Where it would stand.
        path: PathBuf,
        /// What failed.
        #[source]
        source: ExecError,
    },
}

/// Turns a system error into one that says what the lab was doing.
pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> LabError {
    |source| LabError::Io { doing: doing.into(), source }
}

/// The same for the calls that answer with an error number.
pub(crate) fn errno(doing: impl Into<String>) -> impl FnOnce(nix::Error) -> LabError {
    |errno| LabError::Io { doing: doing.into(), source: errno.into() }
}
