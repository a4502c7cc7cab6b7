//! The life of a volume on real loop devices, file systems and mounts.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::{Docker, Place, SMALL, occupied, text, until};
use dockline_plugin_specs::volume::VolumeDriver;
use dockline_vol::driver::{Counts, DriverError};

#[tokio::test]
async fn an_xfs_volume_lives_and_leaves_nothing() {
    lives_and_leaves_nothing("xfs").await;
}

#[tokio::test]
async fn an_ext4_volume_lives_and_leaves_nothing() {
    lives_and_leaves_nothing("ext4").await;
}

async fn lives_and_leaves_nothing(fs: &str) {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", &[("size", "300MiB"), ("fs", fs)]).await.expect("made");
    // mkfs.xfs writes its journal, of 64 MiB.
    assert!(occupied(&place.image("data1")) < 80 << 20, "the image is sparse");
    let at = docker.mount("data1", "a").await.expect("mounted");
    let entries = std::fs::read_dir(&at).expect("a folder").count();
    assert_eq!(entries, 0, "Docker's copy-up needs it empty");
    std::fs::write(at.join("file"), "kept").expect("written");
    let mounted = dockline_mounts::mounted_at(at.parent().expect("the root")).expect("a table");
    assert_eq!(mounted.expect("a mount").fs_type, fs);
    docker.unmount("data1", "a").await.expect("unmounted");
    assert!(!at.exists());
    place.assert_clean().await;

    let at = docker.mount("data1", "b").await.expect("mounted");
    assert_eq!(std::fs::read_to_string(at.join("file")).expect("read"), "kept");
    docker.unmount("data1", "b").await.expect("unmounted");
    docker.remove("data1").await.expect("removed");
    assert_eq!(docker.get("data1").await, None);
    for folder in ["volumes", "mounts"] {
        assert_eq!(place.names(folder), Vec::<String>::new());
    }
    place.assert_clean().await;
}

#[tokio::test]
async fn the_size_is_the_disks_and_ends_there() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    let total = dockline_mounts::usage(&at).unwrap().total;
    assert!((12 << 20..=16 << 20).contains(&total), "{total}");
    let full = std::fs::write(at.join("file"), vec![1; 17 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
}

#[tokio::test]
async fn what_containers_delete_goes_back_to_the_hosts_disk() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", &[("fs", "ext4"), ("size", "64MiB")]).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    std::fs::write(at.join("file"), vec![1; 32 << 20]).unwrap();
    nix::unistd::sync();
    assert!(occupied(&place.image("data1")) >= 32 << 20);
    std::fs::remove_file(at.join("file")).unwrap();
    nix::unistd::sync();
    until(|| occupied(&place.image("data1")) < 16 << 20).await;
}

#[tokio::test]
async fn the_owner_is_whom_the_options_say() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    for fs in ["xfs", "ext4"] {
        let owner = [("uid", "100999"), ("gid", "100998"), ("mode", "0750")];
        let opts: Vec<_> = [("fs", fs), ("size", "300MiB")].into_iter().chain(owner).collect();
        docker.create(fs, &opts).await.unwrap();
        let at = docker.mount(fs, "a").await.unwrap();
        assert_eq!(owner_of(&at), (100_999, 100_998, 0o750), "{fs}");
        assert_eq!(owner_of(at.parent().unwrap()), (0, 0, 0o755), "{fs}");
    }
    docker.create("plain", SMALL).await.unwrap();
    let at = docker.mount("plain", "a").await.unwrap();
    assert_eq!(owner_of(&at), (0, 0, 0o755));
    // A remapped root must get through to its folder.
    for above in [place.root(), place.root().join("mounts")] {
        assert_eq!(owner_of(&above), (0, 0, 0o711), "{}", above.display());
    }
}

fn owner_of(path: &Path) -> (u32, u32, u32) {
    let folder = path.metadata().expect("a folder");
    (folder.uid(), folder.gid(), folder.mode() & 0o7777)
}

#[tokio::test]
async fn docker_sees_what_there_is() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    assert_eq!(docker.get("data1").await, None);
    assert_eq!(docker.get("../data1").await, None);
    docker.create("data1", SMALL).await.unwrap();
    let volume = docker.get("data1").await.unwrap();
    assert_eq!(volume.mountpoint, "");
    let made = volume.created_at.unwrap();
    assert!(made.ends_with('Z') && made.len() == 20, "RFC 3339: {made}");
    assert_eq!(volume.status["size"], "16MiB");
    assert_eq!(volume.status["fs"], "ext4");
    assert_eq!(volume.status["mounted"], false);
    assert!(!volume.status.contains_key("used_bytes"));

    let at = docker.mount("data1", "a").await.unwrap();
    std::fs::write(at.join("file"), vec![1; 4 << 20]).unwrap();
    let volume = docker.get("data1").await.unwrap();
    assert_eq!(volume.mountpoint, at.to_str().unwrap());
    assert!(volume.status["used_bytes"].as_u64().unwrap() >= 4 << 20);
    assert!(volume.status["free_bytes"].as_u64().unwrap() <= 12 << 20);
    assert_eq!(driver.list().await.unwrap()[0].mountpoint, at.to_str().unwrap());
    let path = driver.path(dockline_plugin_specs::volume::Path { name: "data1".into() });
    assert_eq!(path.await.unwrap().mountpoint, at.to_str().unwrap());
    assert_eq!(driver.counts(), Counts { volumes: 1, mounted: 1, damaged: 0 });
}

#[tokio::test]
async fn the_same_again_succeeds_and_another_is_a_conflict() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    let id = docker.get("data1").await.unwrap().status["id"].clone();
    docker.create("data1", SMALL).await.unwrap();
    assert_eq!(docker.get("data1").await.unwrap().status["id"], id);
    let refused = docker.create("data1", &[("size", "32MiB"), ("fs", "ext4")]).await;
    assert_eq!(
        text(refused),
        "volume data1 exists already, and is another: choose another name, or ask for what it is: \
         it has size=16MiB, and size=32MiB is asked for"
    );
    docker.remove("data1").await.unwrap();
    docker.remove("data1").await.unwrap();
    docker.unmount("data1", "never").await.unwrap();
    assert!(matches!(docker.mount("data1", "a").await, Err(DriverError::Unknown(_))));
}

#[tokio::test]
async fn bad_input_is_refused_in_clear_words_and_leaves_nothing() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    let long = "a".repeat(300);
    for name in ["", "..", "a/b", "../../etc", "a\0b", "a\nb", "-x", ".x", &long, "é"] {
        assert!(matches!(docker.create(name, SMALL).await, Err(DriverError::Name(_))), "{name:?}");
        assert!(matches!(docker.mount(name, "a").await, Err(DriverError::Name(_))), "{name:?}");
    }
    for opts in [("size", "0"), ("size", "-1G"), ("size", "10,5G"), ("fs", "zfs"), ("nope", "1")] {
        assert!(matches!(docker.create("v", &[opts]).await, Err(DriverError::Options(_))));
    }
    let beyond = text(docker.create("v", &[("size", "4096PiB")]).await);
    assert!(
        beyond.starts_with("4PiB is more than the whole disk") || beyond.contains("4EiB is more"),
        "{beyond}"
    );
    assert!(matches!(docker.mount("v", &"i".repeat(300)).await, Err(DriverError::MountId(_))));
    assert_eq!(place.names("volumes"), Vec::<String>::new());
    place.assert_clean().await;
}

#[tokio::test]
async fn a_use_ends_when_docker_has_ended_all_of_it() {
    let place = Place::new();
    let driver = place.start().await;
    let docker = Docker(&driver);
    docker.create("data1", SMALL).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    docker.mount("data1", "a").await.unwrap(); // `docker cp` on the running container
    docker.mount("data1", "b").await.unwrap();
    for id in ["a", "stray", "b"] {
        docker.unmount("data1", id).await.unwrap();
        assert!(at.exists(), "still in use after {id}");
    }
    docker.unmount("data1", "a").await.unwrap();
    assert!(!at.exists());
    place.assert_clean().await;
}

#[tokio::test]
async fn volumes_and_their_uses_survive_a_restart() {
    let place = Place::new();
    let first = place.start().await;
    let docker = Docker(&first);
    docker.create("data1", SMALL).await.unwrap();
    docker.create("data2", SMALL).await.unwrap();
    let at = docker.mount("data1", "a").await.unwrap();
    let known = docker.get("data1").await.unwrap().status["id"].clone();
    let open = std::fs::File::create(at.join("open")).unwrap();
    drop(first);

    let second = place.start().await;
    let docker = Docker(&second);
    assert_eq!(second.counts(), Counts { volumes: 2, mounted: 1, damaged: 0 });
    assert_eq!(docker.get("data1").await.unwrap().status["id"], known);
    assert!(at.join("open").exists(), "a restart does not touch what is in use");
    drop(open);
    docker.unmount("data1", "a").await.unwrap();
    assert!(!at.exists());
    place.assert_clean().await;
}

#[tokio::test]
async fn two_daemons_do_not_share_a_root() {
    let place = Place::new();
    let _first = place.start().await;
    let second = dockline_vol::loopfile::LoopFiles::open(&place.root(), place.mkfs.clone()).await;
    let refused = second.unwrap_err().to_string();
    assert!(refused.starts_with("another dockline-vol works in "), "{refused}");
}

#[tokio::test]
async fn fifty_at_once_leave_no_descriptor_and_no_device() {
    let place = Place::new();
    let driver = place.start().await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let round = |round: u32| {
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let driver = driver.clone();
                tokio::spawn(async move {
                    let docker = Docker(&driver);
                    // Five tasks for each of ten names: they meet, and all must succeed.
                    let (name, id) = (format!("v{}", number % 10), format!("{round}-{number}"));
                    docker.create(&name, SMALL).await.unwrap();
                    let at = docker.mount(&name, &id).await.unwrap();
                    std::fs::write(at.join(&id), "x").unwrap();
                    docker.unmount(&name, &id).await.unwrap();
                })
            })
            .collect();
        async {
            for task in tasks {
                task.await.unwrap();
            }
        }
    };
    round(0).await;
    let before = descriptors();
    round(1).await;
    until(|| descriptors() <= before).await;
    place.assert_clean().await;

    let at = Docker(&driver).mount("v3", "look").await.unwrap();
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 10, "every task's file is there");
    Docker(&driver).unmount("v3", "look").await.unwrap();
    let removals = (0..50).map(|number| {
        let driver = driver.clone();
        tokio::spawn(async move { Docker(&driver).remove(&format!("v{}", number % 10)).await })
    });
    for removal in removals.collect::<Vec<_>>() {
        removal.await.unwrap().unwrap();
    }
    assert_eq!(place.names("volumes"), Vec::<String>::new());
    place.assert_clean().await;
}
