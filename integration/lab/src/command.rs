//! A command for a node, and what came of it.

use std::fmt;
use std::time::Duration;

/// How long a command on a node may take unless told otherwise. Programs run slower there.
const DEADLINE: Duration = Duration::from_secs(60);

/// A command to run on a node. Made from a line that is split at white space (`"lvs --all"`), from
/// a list of words, or with [`Cmd::sh`]; no other quoting is known.
#[derive(Debug, Clone)]
#[must_use = "a command does nothing until a node runs it"]
pub struct Cmd {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) folder: String,
    pub(crate) stdin: Vec<u8>,
    pub(crate) deadline: Duration,
}

impl Cmd {
    /// This program of the node, without arguments.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            argv: vec![program.into()],
            env: Vec::new(),
            folder: "/".to_owned(),
            stdin: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// A script for the node's shell, which stops at the first command that fails.
    pub fn sh(script: impl Into<String>) -> Self {
        Self::new("sh").arg("-euc").arg(script)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it in this folder of the node; `/` unless told otherwise.
    pub fn folder(mut self, folder: impl Into<String>) -> Self {
        self.folder = folder.into();
        self
    }

    /// Gives it this on standard input, which is otherwise empty.
    pub fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Kills it after this time; 60 s unless told otherwise.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl From<&str> for Cmd {
    fn from(line: &str) -> Self {
        let mut words = line.split_whitespace();
        Self::new(words.next().unwrap_or_default()).args(words)
    }
}

impl From<String> for Cmd {
    fn from(line: String) -> Self {
        line.as_str().into()
    }
}

impl<const N: usize> From<[&str; N]> for Cmd {
    fn from(words: [&str; N]) -> Self {
        let mut words = words.into_iter();
        Self::new(words.next().unwrap_or_default()).args(words)
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.argv.join(" "))
    }
}

/// What a command that ended left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without the white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The end of standard error as text, for messages.
    pub(crate) fn complaint(&self) -> String {
        const SHOWN: usize = 2048;
        let end = &self.stderr[self.stderr.len().saturating_sub(SHOWN)..];
        String::from_utf8_lossy(end).trim().to_owned()
    }
}
