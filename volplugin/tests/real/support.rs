//! A place of its own for each test: a mount namespace, a root folder, a driver.
//!
//! The namespace ends with the thread, and with it every mount and every loop device that was made
//! in it, also when the test is killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline_exec::Program;
use dockline_mounts::LoopDevice;
use dockline_plugin_specs::volume::{Create, Get, Mount, Remove, Unmount, Volume, VolumeDriver};
use dockline_types::ByteSize;
use dockline_vol::driver::{Driver, DriverError};
use dockline_vol::host::Host;
use dockline_vol::loopfile::LoopFiles;
use dockline_vol::mkfs::Mkfs;
use dockline_vol::uses::Uses;
use dockline_vol_core::{Defaults, FsKind};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A small volume; xfs has none below 300 MiB.
pub(crate) const SMALL: &[(&str, &str)] = &[("fs", "ext4"), ("size", "16MiB")];

/// Where one test works.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) mkfs: Mkfs,
}

impl Place {
    /// A place in a mount namespace of this thread's own.
    pub(crate) fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("run the tests as root");
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("run")).expect("a folder");
        Self { folder, mkfs: Mkfs::default() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("volumes")
    }

    pub(crate) fn image(&self, name: &str) -> PathBuf {
        self.root().join("volumes").join(name).join("disk.img")
    }

    /// Starts a driver, as the daemon does.
    pub(crate) async fn start(&self) -> Driver<LoopFiles> {
        let backend = LoopFiles::open(&self.root(), self.mkfs.clone()).await.expect("a root");
        let host = Host::open(&self.root()).expect("a folder of mounts");
        let uses = Uses::open(&self.folder.path().join("run/uses.json")).await.expect("a ledger");
        let defaults = Defaults { size: ByteSize::from_mib(300), fs: FsKind::Xfs };
        Driver::start(backend, host, uses, defaults).await.expect("a driver")
    }

    /// The names in a folder of the backend's.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join(folder)).expect("a folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("an entry").file_name().into_string().expect("UTF-8")
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }

    /// Looks that nothing is mounted, attached, half made or not yet deleted.
    pub(crate) async fn assert_clean(&self) {
        assert_eq!(self.mounts(), Vec::<PathBuf>::new());
        assert_eq!(self.names("creating"), Vec::<String>::new());
        until(|| self.names("trash").is_empty()).await;
        for name in self.names("volumes") {
            until(|| !self.attached(&name)).await;
        }
    }

    /// What is mounted below the root.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let table = dockline_mounts::table().expect("a mount table");
        let points = table.into_iter().map(|mount| mount.mount_point);
        points.filter(|point| point.starts_with(self.folder.path())).collect()
    }

    pub(crate) fn attached(&self, name: &str) -> bool {
        LoopDevice::find(&self.image(name)).expect("loop devices").is_some()
    }

    /// Who has a volume's disk in another mount namespace.
    pub(crate) fn seen_by_others(&self, name: &str) -> Vec<dockline_mounts::Holder> {
        let disk = LoopDevice::find(&self.image(name)).expect("loop devices");
        let number = disk.map(|disk| disk.number().expect("a number"));
        let found = number.map(|number| dockline_mounts::holders(number, None).expect("holders"));
        found.unwrap_or_default()
    }

    /// A process in a mount namespace of its own that has what is mounted here now, like a
    /// container; until the guard is dropped.
    pub(crate) async fn container(&self) -> Container {
        let ready = self.folder.path().join("ready");
        let script = format!("echo $$ >{}; exec sleep 120", ready.display());
        let program = Program::new("unshare").args(["--mount", "--propagation", "private"]);
        let program = program.args(["sh", "-c", &script]).deadline(Duration::from_secs(120));
        let task = tokio::spawn(async move {
            let _ = program.output().await;
        });
        let comm = || {
            let pid = std::fs::read_to_string(&ready).ok()?;
            std::fs::read_to_string(format!("/proc/{}/comm", pid.trim())).ok()
        };
        until(|| comm().is_some_and(|comm| comm == "sleep\n")).await;
        std::fs::remove_file(&ready).expect("it was there");
        Container(task)
    }
}

/// Kills the process when dropped.
pub(crate) struct Container(tokio::task::JoinHandle<()>);

impl Drop for Container {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for a condition, for ten seconds at most.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it holds within 10 s");
}

/// What dockerd asks, in fewer words.
pub(crate) struct Docker<'a>(pub(crate) &'a Driver<LoopFiles>);

impl Docker<'_> {
    pub(crate) async fn create(
        &self,
        name: &str,
        opts: &[(&str, &str)],
    ) -> Result<(), DriverError> {
        let owned = opts.iter().map(|(option, value)| ((*option).into(), (*value).into()));
        let opts = owned.collect::<BTreeMap<String, String>>();
        self.0.create(Create { name: name.into(), opts }).await
    }

    pub(crate) async fn mount(&self, name: &str, id: &str) -> Result<PathBuf, DriverError> {
        let mounted = self.0.mount(Mount { name: name.into(), id: id.into() }).await;
        mounted.map(|mounted| mounted.mountpoint.into())
    }

    pub(crate) async fn unmount(&self, name: &str, id: &str) -> Result<(), DriverError> {
        self.0.unmount(Unmount { name: name.into(), id: id.into() }).await
    }

    pub(crate) async fn remove(&self, name: &str) -> Result<(), DriverError> {
        self.0.remove(Remove { name: name.into() }).await
    }

    pub(crate) async fn get(&self, name: &str) -> Option<Volume> {
        self.0.get(Get { name: name.into() }).await.expect("Get never fails")
    }
}

/// The text a user would read.
pub(crate) fn text<T: std::fmt::Debug>(refused: Result<T, DriverError>) -> String {
    dockline_plugin_specs::route::chain(&refused.expect_err("it is refused"))
}

/// The bytes that a file occupies.
pub(crate) fn occupied(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&path.metadata().expect("a file")) * 512
}
