//! `dockline-vol`: a real disk for every volume.
//!
//! * [`driver`]: the calls of Docker's volume protocol, over any backend.
//! * [`backend`]: what a backend does; [`loopfile`] keeps disks in files, [`logical`] has LVM's
//!   volumes, [`any`] is either.
//! * [`mkfs`]: file systems on new disks, and only there.
//! * [`host`]: the host's own mounts of volumes, which containers' mounts are made from.
//! * [`throttle`]: limits of a control group on a device.
//! * [`uses`]: which uses Docker has begun and not ended, kept over restarts of this process.
//! * [`durable`]: files that survive a power cut.
//!
//! The truth about a volume lies beside its disk, the truth about mounts in the kernel. What is
//! kept in memory answers questions, and decides nothing that could lose data.
//!
//! The daemon must run in the mount namespace that dockerd sees (no `PrivateTmp=`, `PrivateMounts=`
//! or `ProtectSystem=` in its unit): dockerd binds containers' mounts from the mounts made here.

pub mod any;
pub mod backend;
pub mod driver;
pub mod durable;
pub mod host;
pub mod logical;
pub mod loopfile;
pub mod mkfs;
pub mod status;
pub mod throttle;
pub mod uses;

/// Runs blocking work on a thread for that. Only a panic in it, which is a bug, can fail; it goes
/// on here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Cancelled: the runtime is shutting down, and nobody will poll this again.
            Err(_) => std::future::pending().await,
        },
    }
}
