//! What can go wrong, told apart by what the caller may conclude.

use std::error::Error;
use std::sync::Arc;

use crate::Revision;

/// The reason beneath a [`StoreError`], shared by all who waited for the same write.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why the store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The request did not reach the store: nothing was done, and it may work later.
    #[error("the store is not available")]
    Unavailable(#[source] Cause),
    /// The store could not do it: certainly nothing was done.
    #[error("the store could not write, and nothing was changed")]
    Failed(#[source] Cause),
    /// The write may or may not have been done. Read before you decide.
    #[error("it is not known whether the store did the write")]
    Unknown(#[source] Cause),
    /// The changes after this revision are no longer kept. Scan again, then watch from there.
    #[error("the store no longer keeps the changes after revision {after}")]
    Compacted {
        /// Where the caller wanted to go on.
        after: Revision,
    },
}

impl StoreError {
    /// The store is not there, for this reason.
    pub fn unavailable(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Arc::new(cause))
    }
}
