//! Bad input through docker: each gets an error that says what to do, and leaves nothing.

use std::time::Duration;

use dockline_host::suite::Suite;

use crate::support::{nothing_left, run};

async fn refused(suite: &Suite, args: &[&str], words: &[&str]) {
    let error = suite.docker_error(args).await.unwrap();
    let said = words.iter().all(|&word| error.contains(word));
    assert!(said, "docker {}: expected {words:?} in: {error}", args.join(" "));
}

fn network<'a>(options: &[&'a str], name: &'a str) -> Vec<&'a str> {
    let mut args = vec!["network", "create", "-d", "dockline-net"];
    args.extend(["--ipam-driver", "dockline-ipam"]);
    args.extend(options);
    args.push(name);
    args
}

#[tokio::test]
async fn networks() {
    let suite = Suite::start().await.unwrap();
    let subnet = ["--subnet", "10.1.0.0/24"];
    for (option, words) in [
        ("vlan=0", ["vlan", "1 to 4094"]),
        ("vlan=4095", ["vlan", "1 to 4094"]),
        ("vlan=abc", ["vlan", "\"abc\""]),
        ("mtu=67", ["mtu", "68 to 65535"]),
        ("vlna=1", ["unknown network option vlna", "vlan, mtu"]),
    ] {
        let args = network(&[&subnet[..], &["-o", option]].concat(), "bad");
        refused(&suite, &args, &words).await;
    }
    nothing_left(&suite, Duration::from_secs(5)).await.unwrap();

    suite.docker(&network(&subnet, "good")).await.unwrap();
    let overlapping = network(&["--subnet", "10.1.0.0/16"], "bad");
    refused(&suite, &overlapping, &["10.1.0.0/16", "10.1.0.0/24", "overlap"]).await;
    let option = network(&["--subnet", "10.2.0.0/24", "--ipam-opt", "spacee=x"], "bad");
    refused(&suite, &option, &["spacee"]).await;

    let ip = ["--network", "good", "--ip", "10.1.0.9"];
    run(&suite, "holder", &ip).await.unwrap();
    let second = [&["run"], &ip[..], &["dockline/busybox:demo", "true"]].concat();
    refused(&suite, &second, &["10.1.0.9", "in use"]).await;
    let outside = ["run", "--network", "good", "--ip", "10.9.0.9", "dockline/busybox:demo", "true"];
    refused(&suite, &outside, &["10.9.0.9"]).await;
    let published = ["run", "--network", "good", "-p", "80:80", "dockline/busybox:demo", "true"];
    refused(&suite, &published, &["published", "published-ports=ignore"]).await;
}

#[tokio::test]
async fn volumes() {
    let suite = Suite::start().await.unwrap();
    let long = "x".repeat(300);
    let control = "a\u{7}b";
    for name in ["a/b", "..", "../../etc", &long, control] {
        let args = ["volume", "create", "-d", "dockline-vol", name];
        let error = suite.docker_error(&args).await.unwrap();
        assert!(error.contains("volume name") || error.contains("name"), "{name}: {error}");
    }
    for (option, words) in [
        ("size=0", ["0B", "at least 300MiB"]),
        ("size=10,5G", ["size", "10,5G"]),
        ("size=1e10", ["size", "1e10"]),
        ("size=900TiB", ["900TiB", "more than the whole disk"]),
        ("fs=ntfs", ["fs", "ntfs"]),
        ("sizee=1G", ["sizee", "size"]),
    ] {
        let args = ["volume", "create", "-d", "dockline-vol", "-o", option, "bad"];
        refused(&suite, &args, &words).await;
        let found = suite.docker(&["volume", "ls", "--quiet"]).await.unwrap();
        assert_eq!(found, "", "{option} left a volume");
    }
    nothing_left(&suite, Duration::from_secs(5)).await.unwrap();
}
