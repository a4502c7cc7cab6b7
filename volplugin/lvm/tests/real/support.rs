//! A volume group of its own for each test, on a loop device that goes with the test.

use std::path::PathBuf;
use std::time::Duration;

use dockline_lvm::{Answer, Command, Logical, Lvm, LvmError, Picture, Way};
use dockline_mounts::LoopDevice;

pub(crate) const LONG: Duration = Duration::from_secs(50);

/// Whether the kernel has device-mapper, so that volumes can be devices.
fn has_devices() -> bool {
    let drivers = std::fs::read_to_string("/proc/misc").expect("/proc");
    drivers.lines().any(|line| line.ends_with(" device-mapper"))
}

/// A volume group, seen by nobody who does not have its `lvm.conf`.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) group: String,
    _disk: LoopDevice,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
        let image = folder.path().join("disk");
        std::fs::File::create(&image).and_then(|file| file.set_len(256 << 20)).expect("an image");
        let disk = LoopDevice::attach(&image).expect("a loop device: run the tests as root");
        let (path, lock) = (disk.path().display().to_string(), folder.path().join("lock"));
        std::fs::create_dir(&lock).expect("a folder");
        let (lock, activation) = (lock.display(), u8::from(has_devices()));
        let conf = format!(
            "devices {{ filter=[\"a|^{path}$|\", \"r|.*|\"] use_devicesfile=0 }}\n\
             global {{ activation={activation} locking_dir=\"{lock}\" }}\n\
             backup {{ backup=0 archive=0 }}\n"
        );
        std::fs::write(folder.path().join("lvm.conf"), conf).expect("a configuration");
        let group = format!("t{}", path.trim_start_matches("/dev/"));
        let place = Self { folder, group: group.clone(), _disk: disk };
        let lvm = place.lvm(&Way::Program("lvm".into()));
        let pv = Command::new("pvcreate").arg(&path);
        lvm.run(pv, LONG).await.expect("a physical volume: is lvm2 installed?");
        let vg = Command::new("vgcreate").arg(group).arg(&path);
        lvm.run(vg, LONG).await.expect("a group");
        place
    }

    pub(crate) fn lvm(&self, way: &Way) -> Lvm {
        Lvm::new(way, Some(self.folder.path()))
    }

    /// Takes LVM's lock on the group, as a command that hangs has it.
    pub(crate) fn hold_lock(&self) -> nix::fcntl::Flock<std::fs::File> {
        let path = self.folder.path().join("lock").join(format!("V_{}", self.group));
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path).expect("a lock");
        nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).expect("a lock")
    }

    /// Makes a volume, a device where that is possible.
    pub(crate) fn create(&self, name: &str) -> Command {
        let command = Command::new("lvcreate").args(["-y", "-L", "8m", "-n", name]);
        let command = if has_devices() { command } else { command.args(["-an", "-Zn", "-Wn"]) };
        command.args(["--addtag", "dockline=1"]).arg(&self.group)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if has_devices() {
            // Else its devices would outlive the group's disk. The node is this test's own.
            let remove = dockline_exec::Program::new("dmsetup").args(["remove", "--force"]);
            let names = ["x", "y", "z"].map(|name| format!("{}-{name}", self.group));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let _ = runtime.expect("a runtime").block_on(remove.args(names).output());
                });
            });
        }
    }
}

/// LVM with what tests ask of it most.
pub(crate) struct Tested<'a> {
    pub(crate) place: &'a Place,
    pub(crate) lvm: Lvm,
}

impl Tested<'_> {
    pub(crate) async fn run(&self, command: Command) -> Result<Answer, LvmError> {
        self.lvm.run(command, LONG).await
    }

    pub(crate) async fn picture(&self) -> Picture {
        let groups = [self.place.group.clone()];
        self.lvm.picture(&groups, LONG).await.expect("a picture")
    }

    pub(crate) async fn volume(&self, name: &str) -> Option<Logical> {
        self.picture().await.logicals.into_iter().find(|volume| volume.name == name)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.place.group)
    }
}

/// The helper, which is built with the tests.
pub(crate) fn helper() -> Way {
    // On a lab node the folder is another: the programs of this build are beside the tests.
    let built = PathBuf::from(env!("CARGO_BIN_EXE_dockline-lvm"));
    let beside = || {
        let tests = std::env::current_exe().expect("a path");
        tests.ancestors().nth(2).expect("target/debug").join("dockline-lvm")
    };
    Way::Library(if built.exists() { built } else { beside() })
}
