//! Opening the store in the background, so that the plugin answers Docker at once.

use std::fs::DirBuilder;
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dockline_admin::{Health, Part};
use dockline_plugin_specs::route::chain;
use dockline_store::Store;
use dockline_store::embedded::Embedded;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::IpamError;
use crate::engine::{Engine, Settings};

/// How long to wait before the second attempt to open the store: a daemon that was killed lets go
/// of its file within moments. Each wait after it is twice as long.
const AGAIN: Duration = Duration::from_millis(10);

/// The longest wait between two attempts.
const SELDOM: Duration = Duration::from_secs(1);

/// How long a request waits for a store that is about to be open.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the store may take to tell that it is well.
const CHECK: Duration = Duration::from_secs(2);

enum State<S> {
    /// Not open, for this reason.
    Closed(String),
    Open(Arc<Engine<S>>),
}

/// A store that is open, or will be.
pub struct Opening<S> {
    what: String,
    state: watch::Receiver<State<S>>,
    opener: AbortHandle,
}

impl<S> std::fmt::Debug for Opening<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opening").field("what", &self.what).finish_non_exhaustive()
    }
}

impl<S> Drop for Opening<S> {
    fn drop(&mut self) {
        self.opener.abort();
    }
}

impl<S: Store> Opening<S> {
    /// Opens the store with `open` as often as it takes. `what` names it for operators.
    pub fn start<E, F>(
        settings: Settings,
        what: String,
        open: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        E: std::error::Error + Send + 'static,
        F: Future<Output = Result<S, E>> + Send,
    {
        let (sender, state) = watch::channel(State::Closed("it is being opened".to_owned()));
        let opener = tokio::spawn(async move {
            let mut wait = AGAIN;
            let mut said = String::new();
            loop {
                let why = match open().await {
                    Ok(store) => match Engine::start(store, settings.clone()).await {
                        Ok(engine) => {
                            engine.sweep().await;
                            break sender.send_replace(State::Open(Arc::new(engine)));
                        }
                        Err(error) => chain(&error),
                    },
                    Err(error) => chain(&error),
                };
                if why != said {
                    tracing::error!(why, "the store of addresses cannot be used; trying again");
                    said.clone_from(&why);
                }
                sender.send_replace(State::Closed(why));
                tokio::time::interval_at(Instant::now() + wait, wait).tick().await;
                wait = (wait * 2).min(SELDOM);
            }
        });
        Self { what, state, opener: opener.abort_handle() }
    }

    /// The engine, as soon as there is one; after a while, why there is none.
    pub async fn engine(&self) -> Result<Arc<Engine<S>>, IpamError> {
        let mut state = self.state.clone();
        let open = state.wait_for(|state| matches!(state, State::Open(_)));
        // Its result borrows the state; what it says is read below either way.
        let _ = tokio::time::timeout(PATIENCE, open).await.is_ok();
        match &*self.state.borrow() {
            State::Open(engine) => Ok(Arc::clone(engine)),
            State::Closed(why) => Err(IpamError::Waiting { why: why.clone() }),
        }
    }

    /// The engine, if there is one by now.
    pub(crate) fn engine_now(&self) -> Option<Arc<Engine<S>>> {
        match &*self.state.borrow() {
            State::Open(engine) => Some(Arc::clone(engine)),
            State::Closed(_) => None,
        }
    }

    /// How the store is doing.
    pub(crate) async fn part(&self) -> Part {
        let why = match &*self.state.borrow() {
            State::Open(_) => None,
            State::Closed(why) => Some(why.clone()),
        };
        let health = match (why, self.engine_now()) {
            (None, Some(engine)) => {
                match tokio::time::timeout(CHECK, engine.store.revision()).await {
                    Ok(Ok(_)) => Health::Ok,
                    Ok(Err(error)) => Health::Down(chain(&error)),
                    Err(_) => Health::Down(format!("no answer within {} s", CHECK.as_secs())),
                }
            }
            (why, _) => Health::Down(why.unwrap_or_default()),
        };
        Part { role: "store".to_owned(), what: self.what.clone(), health }
    }
}

/// Why the embedded store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Its folder cannot be made.
    #[error("cannot make the folder {}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is refused.
    #[error(transparent)]
    Open(#[from] dockline_store::embedded::OpenError),
    /// Reading it ended in a panic, which a damaged file can bring about.
    #[error("the file {} is damaged: put back a copy, or move it away to start empty", file.display())]
    Panicked {
        /// The file.
        file: PathBuf,
    },
}

/// Opens the embedded store, in a folder that only root can look into.
pub async fn open_embedded(file: PathBuf) -> Result<Embedded, EmbeddedError> {
    let path = file.clone();
    let opened = tokio::task::spawn_blocking(move || {
        if let Some(folder) = file.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            let folder = folder.to_owned();
            made.map_err(|source| EmbeddedError::Folder { folder, source })?;
        }
        Ok(Embedded::open(file)?)
    });
    opened.await.unwrap_or(Err(EmbeddedError::Panicked { file: path }))
}
