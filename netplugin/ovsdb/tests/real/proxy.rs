//! A relay between client and server that can lose answers, hold them back and cut connections,
//! and make the server look like one that is too old for `monitor_cond_since`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of the server's words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    Pass,
    Lost,
    Held,
}

/// The relay, on a socket of its own.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    /// Raised to cut the connections of an earlier number.
    epoch: watch::Sender<u64>,
    /// What becomes of the server's words.
    words: watch::Sender<Words>,
    /// What clients have sent, in bytes.
    pub(crate) sent: Arc<AtomicU64>,
    /// Connections made so far.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections open now.
    pub(crate) open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn start(folder: &Path, server: PathBuf) -> anyhow::Result<Self> {
        Self::launch(folder, server, false)
    }

    /// In front of a server that does not know `monitor_cond_since`.
    pub(crate) fn before_an_old_server(folder: &Path, server: PathBuf) -> anyhow::Result<Self> {
        Self::launch(folder, server, true)
    }

    fn launch(folder: &Path, server: PathBuf, old: bool) -> anyhow::Result<Self> {
        let socket = folder.join("proxy.sock");
        let listener = UnixListener::bind(&socket)?;
        let epoch = watch::Sender::new(0);
        let words = watch::Sender::new(Words::Pass);
        let (sent, connections, open) = (Arc::default(), Arc::default(), Arc::default());
        let relay = Relay {
            server,
            epoch: epoch.subscribe(),
            words: words.subscribe(),
            old,
            sent: Arc::clone(&sent),
            connections: Arc::clone(&connections),
            open: Arc::clone(&open),
        };
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                tasks.spawn(relay.clone().run(client));
            }
        });
        Ok(Self { socket, epoch, words, sent, connections, open, task })
    }

    /// From now on the server's words are lost.
    pub(crate) fn lose_answers(&self) {
        self.words.send_replace(Words::Lost);
    }

    /// From now on the server's words wait, until [`Self::release`].
    pub(crate) fn hold_answers(&self) {
        self.words.send_replace(Words::Held);
    }

    /// Lets the server's words pass again, those held back first.
    pub(crate) fn release(&self) {
        self.words.send_replace(Words::Pass);
    }

    /// Cuts all connections; those made later hear the server again.
    pub(crate) fn cut(&self) {
        self.words.send_replace(Words::Pass);
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        // So that another can take its place.
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[derive(Clone)]
struct Relay {
    server: PathBuf,
    epoch: watch::Receiver<u64>,
    words: watch::Receiver<Words>,
    old: bool,
    sent: Arc<AtomicU64>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Relay {
    async fn run(mut self, client: UnixStream) {
        self.epoch.mark_unchanged();
        let Ok(server) = UnixStream::connect(&self.server).await else { return };
        self.connections.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = async {
            let mut chunk = vec![0; 65536];
            while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                self.sent.fetch_add(length as u64, Ordering::SeqCst);
                let mut message = chunk[..length].to_vec();
                if self.old {
                    message = String::from_utf8_lossy(&message)
                        .replace("monitor_cond_since", "monitor_not_known_here")
                        .into_bytes();
                }
                if to_server.write_all(&message).await.is_err() {
                    return;
                }
            }
        };
        let down = async {
            let mut chunk = vec![0; 65536];
            while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
                let words = self.words.wait_for(|words| *words != Words::Held).await;
                let lost = words.is_ok_and(|words| *words == Words::Lost);
                if !lost && to_client.write_all(&chunk[..length]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = up => {}
            () = down => {}
            _ = self.epoch.changed() => {}
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}
