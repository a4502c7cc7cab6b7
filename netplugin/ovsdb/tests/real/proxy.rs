//! A relay between client and server that can lose answers and cut connections.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The relay, on a socket of its own.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    /// Raised to cut the connections of an earlier number.
    epoch: watch::Sender<u64>,
    /// Swallow all the server says.
    deaf: Arc<watch::Sender<bool>>,
    /// What clients have sent, in bytes.
    pub(crate) sent: Arc<AtomicU64>,
    /// Connections made so far.
    pub(crate) connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn start(folder: &Path, server: PathBuf) -> anyhow::Result<Self> {
        let socket = folder.join("proxy.sock");
        let listener = UnixListener::bind(&socket)?;
        let epoch = watch::Sender::new(0);
        let deaf = Arc::new(watch::Sender::new(false));
        let (sent, connections) = (Arc::default(), Arc::default());
        let relay = Relay {
            server,
            epoch: epoch.subscribe(),
            deaf: deaf.clone(),
            sent: Arc::clone(&sent),
            connections: Arc::clone(&connections),
        };
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                tasks.spawn(relay.clone().run(client));
            }
        });
        Ok(Self { socket, epoch, deaf, sent, connections, task })
    }

    /// From now on the server's words are lost.
    pub(crate) fn lose_answers(&self) {
        self.deaf.send_replace(true);
    }

    /// Cuts all connections; those made later hear the server again.
    pub(crate) fn cut(&self) {
        self.deaf.send_replace(false);
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Relay {
    server: PathBuf,
    epoch: watch::Receiver<u64>,
    deaf: Arc<watch::Sender<bool>>,
    sent: Arc<AtomicU64>,
    connections: Arc<AtomicUsize>,
}

impl Relay {
    async fn run(mut self, client: UnixStream) {
        self.epoch.mark_unchanged();
        let Ok(server) = UnixStream::connect(&self.server).await else { return };
        self.connections.fetch_add(1, Ordering::SeqCst);
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = async {
            let mut chunk = vec![0; 65536];
            while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
                self.sent.fetch_add(length as u64, Ordering::SeqCst);
                if to_server.write_all(&chunk[..length]).await.is_err() {
                    return;
                }
            }
        };
        let down = async {
            let mut chunk = vec![0; 65536];
            while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
                let deaf = *self.deaf.borrow();
                if !deaf && to_client.write_all(&chunk[..length]).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = up => {}
            () = down => {}
            _ = self.epoch.changed() => {}
        }
    }
}
