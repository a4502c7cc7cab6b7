//! The part of the lab that runs inside a node: its first process and the agent that runs commands.
//!
//! Both are the `dockline-lab` program itself, seen over hostfs: the kernel starts it as `init`,
//! [`init`] builds the node's root and starts the agent ([`serve`]) from it. Nothing here decides
//! anything about a test; it does what a request says and says what happened.

pub(crate) mod command;
pub(crate) mod init;
pub(crate) mod serve;
pub(crate) mod terminal;

use std::process::Command;

/// The folders programs on a node are looked for in; the last one holds this project's own.
pub(crate) const NODE_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/lab/bin";

/// A program to start on the node, with the node's plain environment.
#[expect(
    clippy::disallowed_methods,
    reason = "the agent runs what a test asked for; its deadline is kept by the lab's end"
)]
pub(crate) fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().env("PATH", NODE_PATH).env("LC_ALL", "C").env("HOME", "/root");
    command
}
