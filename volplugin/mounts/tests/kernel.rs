//! Loop devices and mounts of the real kernel. Every test works in a mount namespace of its own
//! and with loop devices that go with their last user, so nothing stays even if it is killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dockline_exec::Program;
use dockline_mounts::{
    LoopDevice, MountError, holders, mount_disk, mounted_at, unmount, usage, users_below,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A private mount namespace for this thread, and a folder.
fn private() -> tempfile::TempDir {
    unshare(CloneFlags::CLONE_NEWNS).expect("run the tests as root");
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private");
    tempfile::tempdir().expect("a folder")
}

fn sparse(image: &Path, size: u64) {
    std::fs::File::create(image).and_then(|file| file.set_len(size)).expect("an image");
}

/// An image with an ext4 file system.
async fn image(folder: &Path) -> PathBuf {
    let image = folder.join("disk.img");
    sparse(&image, 16 << 20);
    let mkfs = Program::new("mkfs.ext4").arg("-qF").arg(&image);
    mkfs.run().await.expect("apt-get install e2fsprogs");
    image
}

fn mount_point(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir(&path).expect("a folder");
    path
}

/// Runs a shell in a mount namespace below this one until the guard is dropped, and waits until it
/// has done its part.
async fn elsewhere(folder: &Path, script: &str) -> tokio::task::JoinHandle<()> {
    let ready = folder.join("ready");
    let script = format!("{script}; touch {}; sleep 60", ready.display());
    let program = Program::new("unshare").args(["--mount", "--propagation", "private"]);
    let program = program.args(["sh", "-c", &script]).deadline(Duration::from_secs(60));
    let task = tokio::spawn(async move {
        let _ = program.output().await;
    });
    until(|| ready.exists()).await;
    task
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("the condition holds in 10 s");
}

#[tokio::test]
async fn a_disk_is_mounted_used_and_gone_without_a_trace() {
    let folder = private();
    let image = image(folder.path()).await;
    let at = mount_point(folder.path(), "with space");
    let device = LoopDevice::attach(&image).unwrap();
    let number = device.number().unwrap();
    mount_disk(device.path(), &at, "ext4", "").unwrap();
    assert!(device.is_claimed().unwrap());
    drop(device);
    let mounted = mounted_at(&at).unwrap().unwrap();
    assert_eq!((mounted.device, mounted.fs_type.to_str()), (number, Some("ext4")));
    std::fs::write(at.join("file"), vec![1; 1 << 20]).unwrap();
    assert!(usage(&at).unwrap().used >= 1 << 20);
    unmount(&at).unwrap();
    unmount(&at).unwrap();
    assert_eq!(mounted_at(&at).unwrap(), None);
    assert!(LoopDevice::find(&image).unwrap().is_none(), "the device outlived its last user");
}

#[tokio::test]
async fn mounts_have_no_set_user_id_programs_and_no_devices() {
    let folder = private();
    let image = image(folder.path()).await;
    let at = mount_point(folder.path(), "at");
    let device = LoopDevice::attach(&image).unwrap();
    mount_disk(device.path(), &at, "ext4", "").unwrap();
    let flags = nix::sys::statvfs::statvfs(&at).unwrap().flags();
    use nix::sys::statvfs::FsFlags;
    assert!(flags.contains(FsFlags::ST_NOSUID | FsFlags::ST_NODEV));
}

#[tokio::test]
async fn an_image_in_use_elsewhere_keeps_its_device() {
    let folder = private();
    let image = image(folder.path()).await;
    let at = mount_point(folder.path(), "at");
    let device = LoopDevice::attach(&image).unwrap();
    let number = device.number().unwrap();
    mount_disk(device.path(), &at, "ext4", "").unwrap();
    drop(device);
    let other = elsewhere(folder.path(), "true").await;
    unmount(&at).unwrap();

    let found = holders(number, None).unwrap();
    assert_eq!(found.len(), 1, "one per namespace: {found:?}");
    assert_eq!(found[0].path, at);
    assert!(["sh", "sleep", "touch"].contains(&found[0].command.as_str()), "{found:?}");
    let again = LoopDevice::attach(&image).unwrap();
    assert_eq!(again.number().unwrap(), number, "a second device would destroy the file system");
    assert!(again.is_claimed().unwrap());
    mount_disk(again.path(), &at, "ext4", "").unwrap();
    drop(again);
    unmount(&at).unwrap();

    other.abort();
    until(|| LoopDevice::find(&image).unwrap().is_none()).await;
    assert_eq!(holders(number, None).unwrap(), []);
}

#[tokio::test]
async fn a_folder_in_use_is_not_unmounted_and_its_user_is_named() {
    let folder = private();
    let image = image(folder.path()).await;
    let at = mount_point(folder.path(), "at");
    mount_disk(LoopDevice::attach(&image).unwrap().path(), &at, "ext4", "").unwrap();
    let open = std::fs::File::create(at.join("open")).unwrap();
    assert!(matches!(unmount(&at), Err(MountError::Busy { .. })));
    let users = users_below(&at).unwrap();
    assert!(users.iter().any(|user| user.pid == std::process::id()), "{users:?}");
    drop(open);
    unmount(&at).unwrap();
}

#[tokio::test]
async fn what_is_no_file_system_is_not_mounted() {
    let folder = private();
    let image = folder.path().join("disk.img");
    sparse(&image, 16 << 20);
    let at = mount_point(folder.path(), "at");
    let device = LoopDevice::attach(&image).unwrap();
    let refused = mount_disk(device.path(), &at, "ext4", "").unwrap_err();
    assert!(matches!(refused, MountError::Damaged { .. }), "{refused:?}");
    assert_eq!(mounted_at(&at).unwrap(), None);
}

#[tokio::test]
async fn many_devices_are_made_at_once() {
    let folder = private();
    let images: Vec<_> = (0..24)
        .map(|number| {
            let image = folder.path().join(number.to_string());
            sparse(&image, 1 << 20);
            image
        })
        .collect();
    let devices: Vec<LoopDevice> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            images.iter().map(|image| scope.spawn(|| LoopDevice::attach(image).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let numbers: std::collections::BTreeSet<_> =
        devices.iter().map(|device| device.number().unwrap()).collect();
    assert_eq!(numbers.len(), images.len());
    drop(devices);
    assert!(images.iter().all(|image| LoopDevice::find(image).unwrap().is_none()));
}
