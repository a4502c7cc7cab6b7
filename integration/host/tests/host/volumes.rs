//! Volumes as containers see them.

use std::time::Duration;

use dockline_host::suite::Suite;

use crate::support::{exec, loop_devices, nothing_left, run};

const NONE: [&str; 2] = ["--network", "none"];

#[tokio::test]
async fn docker_cp_leaves_a_running_containers_volume_mounted() {
    let suite = Suite::start().await.unwrap();
    let volume = ["-v", "v1:/data", "--volume-driver", "dockline-vol"];
    let create = ["volume", "create", "-d", "dockline-vol", "-o", "size=512MiB", "-o", "fs=ext4"];
    suite.docker(&[&create[..], &["v1"]].concat()).await.unwrap();
    run(&suite, "one", &[&NONE[..], &volume].concat()).await.unwrap();
    exec(&suite, "one", &["sh", "-c", "echo inside > /data/file"]).await.unwrap();

    let outside = suite.place.folder.join("copied").display().to_string();
    suite.docker(&["cp", "one:/data/file", &outside]).await.unwrap();
    assert_eq!(suite.run("cat", &[&outside]).await.unwrap(), "inside");
    suite.docker(&["cp", &outside, "one:/data/again"]).await.unwrap();
    assert_eq!(exec(&suite, "one", &["cat", "/data/again"]).await.unwrap(), "inside");
    assert_eq!(loop_devices(&suite).await.unwrap().len(), 1);

    // A second container shares it, and the first's end does not take it away.
    run(&suite, "two", &[&NONE[..], &volume].concat()).await.unwrap();
    suite.docker(&["rm", "-f", "one"]).await.unwrap();
    assert_eq!(exec(&suite, "two", &["cat", "/data/again"]).await.unwrap(), "inside");
    let busy = suite.docker_error(&["volume", "rm", "v1"]).await.unwrap();
    assert!(busy.contains("in use"), "{busy}");

    suite.docker(&["rm", "-f", "two"]).await.unwrap();
    suite.docker(&["volume", "rm", "v1"]).await.unwrap();
    nothing_left(&suite, Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn what_the_image_has_at_the_mount_point_is_copied_into_a_new_volume() {
    let suite = Suite::start().await.unwrap();
    run(&suite, "donor", &NONE).await.unwrap();
    exec(&suite, "donor", &["sh", "-c", "mkdir /seed; echo seed > /seed/file"]).await.unwrap();
    suite.docker(&["commit", "donor", "seeded:1"]).await.unwrap();
    let create = ["volume", "create", "-d", "dockline-vol", "-o", "size=64MiB", "-o", "fs=ext4"];
    suite.docker(&[&create[..], &["v2"]].concat()).await.unwrap();
    let read =
        ["run", "--rm", "--network", "none", "-v", "v2:/seed", "seeded:1", "ls", "-A", "/seed"];
    // `lost+found` in it would have stopped Docker from copying, and databases from starting.
    assert_eq!(suite.docker(&read).await.unwrap(), "file");
}
