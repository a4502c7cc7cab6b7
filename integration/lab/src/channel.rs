//! The lab's end of the control channel: one connection into the node per command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt, sink};
use tokio::net::TcpStream;

use crate::command::{Cmd, Output};
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::wire::{CHUNK, Kind, Mode, Request, Terminal, receive, send};

/// How long a connection into a node may take. A paused node answers nothing.
const CONNECT: Duration = Duration::from_secs(10);

/// The most that is kept of each output of a command; a command with more is told to use a stream.
const OUTPUT_LIMIT: usize = 256 << 20;

/// Reaches one node's agent.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) node: String,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) agent: SocketAddr,
}

/// How the agent's part of a command ended.
enum Ending {
    Exit(i32),
    Started(u32),
    Failed(String),
}

impl Channel {
    /// Runs a command to its end and keeps its output.
    pub(crate) async fn output(&self, cmd: &Cmd) -> Result<Output, LabError> {
        let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
        let code = self.stream(cmd, &mut stdout, &mut stderr).await?;
        Ok(Output { code, stdout: stdout.0, stderr: stderr.0 })
    }

    /// Runs a command to its end and passes its output on as it comes; returns the exit code.
    pub(crate) async fn stream(
        &self,
        cmd: &Cmd,
        stdout: &mut (impl AsyncWrite + Unpin),
        stderr: &mut (impl AsyncWrite + Unpin),
    ) -> Result<i32, LabError> {
        match self.within(cmd, self.converse(cmd, Mode::Attached, stdout, stderr)).await? {
            Ending::Exit(code) => Ok(code),
            other => self.refused(cmd, other),
        }
    }

    /// Starts a program in the background; returns its process id on the node.
    pub(crate) async fn start(&self, cmd: &Cmd, log: String) -> Result<u32, LabError> {
        let mode = Mode::Background { log };
        match self.within(cmd, self.converse(cmd, mode, &mut sink(), &mut sink())).await? {
            Ending::Started(pid) => Ok(pid),
            other => self.refused(cmd, other),
        }
    }

    /// Opens a command on a terminal; the caller carries the frames.
    pub(crate) async fn terminal(
        &self,
        cmd: &Cmd,
        terminal: Terminal,
    ) -> Result<TcpStream, LabError> {
        let opening = self.open(cmd, Mode::Terminal(terminal));
        opening.await.map_err(|source| self.lost(cmd, source))
    }

    fn lost(&self, cmd: &Cmd, source: std::io::Error) -> LabError {
        LabError::Lost { node: self.node.clone(), command: cmd.to_string(), source }
    }

    fn refused<T>(&self, cmd: &Cmd, ending: Ending) -> Result<T, LabError> {
        let why = match ending {
            Ending::Failed(why) => why,
            Ending::Exit(_) | Ending::Started(_) => "its agent answered out of turn".to_owned(),
        };
        Err(LabError::NotStarted { node: self.node.clone(), command: cmd.to_string(), why })
    }

    async fn within(
        &self,
        cmd: &Cmd,
        conversation: impl Future<Output = std::io::Result<Ending>>,
    ) -> Result<Ending, LabError> {
        // At the deadline the connection is dropped, upon which the agent kills the command.
        match tokio::time::timeout(cmd.deadline, conversation).await {
            Ok(ending) => ending.map_err(|source| self.lost(cmd, source)),
            Err(_) => Err(LabError::TimedOut {
                node: self.node.clone(),
                command: cmd.to_string(),
                deadline: cmd.deadline,
            }),
        }
    }

    async fn open(&self, cmd: &Cmd, mode: Mode) -> std::io::Result<TcpStream> {
        let request = Request {
            argv: cmd.argv.clone(),
            env: cmd.env.clone(),
            folder: cmd.folder.clone(),
            mode,
        };
        let mut connection = self.namespace.connect(self.agent, CONNECT).await?;
        send(&mut connection, Kind::Request, &serde_json::to_vec(&request)?).await?;
        Ok(connection)
    }

    async fn converse(
        &self,
        cmd: &Cmd,
        mode: Mode,
        stdout: &mut (impl AsyncWrite + Unpin),
        stderr: &mut (impl AsyncWrite + Unpin),
    ) -> std::io::Result<Ending> {
        let connection = self.open(cmd, mode).await?;
        let (mut from, mut to) = connection.into_split();
        let feeding = async {
            for chunk in cmd.stdin.chunks(CHUNK) {
                send(&mut to, Kind::Stdin, chunk).await?;
            }
            send(&mut to, Kind::StdinEnd, &[]).await
        };
        let reading = async {
            loop {
                let Some((kind, payload)) = receive(&mut from).await? else {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                };
                match kind {
                    Kind::Stdout => stdout.write_all(&payload).await?,
                    Kind::Stderr => stderr.write_all(&payload).await?,
                    Kind::Failed => {
                        return Ok(Ending::Failed(String::from_utf8_lossy(&payload).into_owned()));
                    }
                    Kind::Exit => return number(&payload).map(Ending::Exit),
                    Kind::Started => {
                        return Ok(Ending::Started(number(&payload)?.unsigned_abs()));
                    }
                    Kind::Request | Kind::Stdin | Kind::StdinEnd => {
                        return Err(std::io::ErrorKind::InvalidData.into());
                    }
                }
            }
        };
        tokio::pin!(feeding, reading);
        // A command may end without having read its input: the ending is what counts.
        tokio::select! {
            ending = &mut reading => ending,
            _ = &mut feeding => reading.await,
        }
    }
}

/// A number as the agent sends it.
pub(crate) fn number(payload: &[u8]) -> std::io::Result<i32> {
    let bytes = payload.try_into().map_err(|_| std::io::ErrorKind::InvalidData)?;
    Ok(i32::from_be_bytes(bytes))
}

/// Output that is kept, up to the limit.
#[derive(Default)]
struct Kept(Vec<u8>);

impl AsyncWrite for Kept {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        if self.0.len() + bytes.len() > OUTPUT_LIMIT {
            let why = "the command wrote over 256 MiB: use Node::stream";
            return std::task::Poll::Ready(Err(std::io::Error::other(why)));
        }
        self.0.extend_from_slice(bytes);
        std::task::Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}
