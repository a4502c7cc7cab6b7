//! The ledger of uses in a file, so that it survives this process, though not the boot.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dockline_vol_core::{BootId, Ledger, LedgerError};

use crate::{blocking, durable};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why a use is not recorded.
#[derive(Debug, thiserror::Error)]
pub enum UsesError {
    /// The ledger refuses.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The file cannot be read or written.
    #[error("cannot keep the record of mounts {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The uses of all volumes, in memory and in a file alike.
#[derive(Debug, Clone)]
pub struct Uses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    ledger: Mutex<Ledger>,
}

impl Uses {
    /// Reads the file, which lies in a folder that a reboot empties. One that cannot be understood
    /// is begun anew: what it said only told when to unmount.
    pub async fn open(path: &Path) -> Result<Self, UsesError> {
        let path = path.to_owned();
        blocking(move || Self::read(path)).await
    }

    fn read(path: PathBuf) -> Result<Self, UsesError> {
        let failed = |path: &Path, source| UsesError::File { path: path.to_owned(), source };
        let boot = std::fs::read_to_string(BOOT_ID)
            .map_err(|source| failed(Path::new(BOOT_ID), source))?;
        let boot = BootId(boot.trim().to_owned());
        let ledger = match std::fs::read(&path) {
            Ok(kept) => Ledger::from_json(&kept, boot.clone()).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), error = ?error, "begun anew");
                Ledger::new(boot)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ledger::new(boot),
            Err(source) => return Err(failed(&path, source)),
        };
        Ok(Self(Arc::new(Inner { path, ledger: Mutex::new(ledger) })))
    }

    /// Looks at the ledger.
    pub fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the ledger: in the file first, so that memory never knows more than the file.
    pub async fn change<T, F>(&self, change: F) -> Result<T, UsesError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger) -> Result<T, LedgerError> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let mut ledger = inner.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let mut changed = ledger.clone();
            let value = change(&mut changed)?;
            if changed != *ledger {
                let json = changed.to_json()?;
                durable::replace(&inner.path, json.as_bytes())
                    .map_err(|source| UsesError::File { path: inner.path.clone(), source })?;
                *ledger = changed;
            }
            Ok(value)
        })
        .await
    }
}
