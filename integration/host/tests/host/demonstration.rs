//! The demonstration that `make up` runs.

use std::time::Duration;

use dockline_host::demo::{Connection, Demo};
use dockline_host::suite::Suite;

use crate::support::{exec, nothing_left, status};

#[tokio::test]
async fn the_demonstration_runs_and_a_second_time_changes_nothing() {
    let suite = Suite::start().await.unwrap();
    let demo = Demo::new(&suite.docker, &suite.place);
    demo.run().await.unwrap();

    let Connection { address, mac, vlan, .. } = demo.connection("web1").await.unwrap();
    assert!(address.starts_with("10.100.0.") && address.ends_with("/24"), "{address}");
    assert!(mac.starts_with("02:42:"), "{mac}");
    assert_eq!(vlan, "100");
    let second = demo.connection("web2").await.unwrap();
    assert_ne!(second.address, address);
    let route = exec(&suite, "web1", &["ip", "route"]).await.unwrap();
    assert!(route.contains("default via 10.100.0.1 dev eth0"), "{route}");
    let disk = exec(&suite, "web1", &["df", "-k", "/data"]).await.unwrap();
    let kib: u64 = disk.lines().last().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    // The file system's own structures take a little of the 1 GiB.
    assert!((900 << 10..=1 << 20).contains(&kib), "{disk}");

    demo.run().await.unwrap();
    assert_eq!(demo.connection("web2").await.unwrap(), second);

    let net = status(&suite, "dockline-net").await.unwrap();
    assert_eq!(net["counts"], serde_json::json!({"networks": 1, "endpoints": 2}));
    demo.remove(false).await.unwrap();
    nothing_left(&suite, Duration::from_secs(20)).await.unwrap();
    let volumes = suite.docker(&["volume", "ls", "--quiet"]).await.unwrap();
    assert_eq!(volumes, "data1", "the user's data went without being asked for");
    assert_eq!(suite.docker(&["image", "ls", "--quiet"]).await.unwrap(), "");
    demo.remove(true).await.unwrap();
    assert_eq!(suite.docker(&["volume", "ls", "--quiet"]).await.unwrap(), "");
}
