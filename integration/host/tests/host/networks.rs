//! Networks as containers have them, through the unmodified docker client.

use std::time::Duration;

use dockline_host::suite::Suite;
use serde_json::Value;

use crate::support::{exec, nothing_left, ports, run};

async fn make_network(suite: &Suite, name: &str, options: &[&str]) {
    let mut args = vec!["network", "create", "-d", "dockline-net"];
    args.extend(options);
    args.push(name);
    suite.docker(&args).await.unwrap();
}

const IPAM: [&str; 2] = ["--ipam-driver", "dockline-ipam"];

async fn remove_all(suite: &Suite, containers: &[&str], networks: &[&str]) {
    for container in containers {
        suite.docker(&["rm", "-f", container]).await.unwrap();
    }
    for network in networks {
        suite.docker(&["network", "rm", network]).await.unwrap();
    }
    nothing_left(suite, Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn both_families_reach_each_other_and_an_internal_network_has_no_way_out() {
    let suite = Suite::start().await.unwrap();
    let families =
        ["--ipv6", "--subnet", "10.5.0.0/24", "--subnet", "fd00:5::/64", "-o", "vlan=50"];
    make_network(&suite, "dual", &[&IPAM[..], &families].concat()).await;
    make_network(
        &suite,
        "inner",
        &[&IPAM[..], &["--internal", "--subnet", "10.6.0.0/24"]].concat(),
    )
    .await;
    run(&suite, "one", &["--network", "dual"]).await.unwrap();
    run(&suite, "two", &["--network", "dual", "--ip6", "fd00:5::77"]).await.unwrap();
    exec(&suite, "one", &["ping", "-c", "1", "-w", "10", "fd00:5::77"]).await.unwrap();
    let route = exec(&suite, "one", &["ip", "-6", "route"]).await.unwrap();
    assert!(route.contains("default via fd00:5::1"), "{route}");

    // A second network, while it runs.
    suite.docker(&["network", "connect", "inner", "one"]).await.unwrap();
    let shown = exec(&suite, "one", &["ip", "-o", "link"]).await.unwrap();
    assert!(shown.contains("eth0@") && shown.contains("eth1@"), "{shown}");
    assert!(!shown.contains("eth2@"), "an interface of Docker's own: {shown}");
    run(&suite, "three", &["--network", "inner"]).await.unwrap();
    let route = exec(&suite, "three", &["ip", "route"]).await.unwrap();
    assert!(!route.contains("default"), "{route}");
    assert_eq!(ports(&suite).await.unwrap().len(), 4);
    suite.docker(&["network", "disconnect", "inner", "one"]).await.unwrap();
    assert_eq!(ports(&suite).await.unwrap().len(), 3);
    remove_all(&suite, &["one", "two", "three"], &["dual", "inner"]).await;
}

#[tokio::test]
async fn a_network_without_addresses_carries_frames_only() {
    let suite = Suite::start().await.unwrap();
    make_network(&suite, "wire", &["--ipam-driver", "null", "-o", "vlan=60"]).await;
    for (name, address) in [("one", "10.60.0.1/24"), ("two", "10.60.0.2/24")] {
        run(&suite, name, &["--network", "wire", "--cap-add", "NET_ADMIN"]).await.unwrap();
        let shown = exec(&suite, name, &["ip", "-o", "address"]).await.unwrap();
        assert!(!shown.contains("eth0    inet "), "{shown}");
        assert!(!shown.contains("eth1"), "an interface of Docker's own: {shown}");
        exec(&suite, name, &["ip", "address", "add", address, "dev", "eth0"]).await.unwrap();
    }
    exec(&suite, "one", &["ping", "-c", "1", "-w", "10", "10.60.0.2"]).await.unwrap();
    remove_all(&suite, &["one", "two"], &["wire"]).await;
}

#[tokio::test]
async fn published_ports_are_passed_over_where_the_network_says_so() {
    let suite = Suite::start().await.unwrap();
    let options = ["--subnet", "10.7.0.0/24", "-o", "published-ports=ignore"];
    make_network(&suite, "open", &[&IPAM[..], &options].concat()).await;
    run(&suite, "one", &["--network", "open", "-p", "8080:80"]).await.unwrap();
    let log = std::fs::read_to_string(suite.place.log("dockline-net")).unwrap();
    assert!(log.contains("published ports passed over"), "{log}");
    remove_all(&suite, &["one"], &["open"]).await;
}

/// A program in a container's network namespace.
async fn inside(suite: &Suite, container: &str, args: &[&str]) -> anyhow::Result<String> {
    let pid = suite.docker(&["inspect", "-f", "{{.State.Pid}}", container]).await?;
    let enter = [&["--target", &pid, "--net", "--"], args].concat();
    let program = suite.place.program("nsenter").args(enter).deadline(Duration::from_secs(60));
    Ok(program.run().await?.text())
}

/// What arrives at a container in Mbit/s, of IP packets as far as can be told from their payload.
async fn arrives(suite: &Suite, from: &str, to: &str, asked: f64) -> f64 {
    let target = suite
        .docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", to])
        .await
        .unwrap();
    inside(suite, to, &["iperf3", "-s", "-1", "-D"]).await.unwrap();
    dockline_host::report::wait_until("iperf3 listens", Duration::from_secs(10), async || {
        Ok(inside(suite, to, &["ss", "-Hltn", "sport", "=", "5201"]).await?.contains("5201"))
    })
    .await
    .unwrap();
    // What waits in the queue at first is much of what a slow link carries in a short while.
    let seconds = if asked < 5.0 { "12" } else { "4" };
    let client = ["iperf3", "-c", &target, "-t", seconds, "-O", "1", "-J"];
    let shown = inside(suite, from, &client).await.unwrap();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let rate = shown["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6;
    // Headers of TCP (with time stamps) and IP.
    rate * 1500.0 / 1448.0
}

/// Measures until it is within five per cent; nothing may ever be more than that above.
async fn settles(suite: &Suite, asked: f64, from: &str, to: &str) {
    let mut seen = Vec::new();
    for _ in 0..5 {
        let rate = arrives(suite, from, to, asked).await;
        seen.push(rate);
        assert!(rate < asked * 1.05, "{from} to {to}: asked {asked}, seen {seen:?}");
        if rate > asked * 0.95 {
            println!("{from} to {to}: asked {asked} Mbit/s, seen {seen:?}");
            return;
        }
    }
    panic!("{from} to {to}: asked {asked}, seen {seen:?}");
}

#[tokio::test]
async fn bandwidth_is_what_was_asked_for_in_both_directions_and_changes_live() {
    let suite = Suite::start().await.unwrap();
    let options = ["--subnet", "10.8.0.0/24", "-o", "rx-rate=1mbit", "-o", "tx-rate=10mbit"];
    make_network(&suite, "slow", &[&IPAM[..], &options].concat()).await;
    make_network(&suite, "fast", &[&IPAM[..], &["--subnet", "10.8.1.0/24"]].concat()).await;
    run(&suite, "one", &["--network", "slow", "--ip", "10.8.0.9"]).await.unwrap();
    let free = "\"name=slow\",\"driver-opt=rx-rate=1gbit\",\"driver-opt=tx-rate=1gbit\"";
    run(&suite, "two", &["--network", free]).await.unwrap();
    settles(&suite, 10.0, "one", "two").await;
    settles(&suite, 1.0, "two", "one").await;

    let dockline = dockline_host::daemons::built("dockline").unwrap().display().to_string();
    let config = suite.place.folder.join("dockline.toml").display().to_string();
    let set = ["--config", &config, "port", "set-rate", "10.8.0.9"];
    let rates = ["--rx-rate", "20mbit", "--tx-rate", "50mbit"];
    let shown = suite.run(&dockline, &[&set[..], &rates].concat()).await.unwrap();
    assert!(shown.contains("20mbit") && shown.contains("50mbit"), "{shown}");
    settles(&suite, 50.0, "one", "two").await;
    settles(&suite, 20.0, "two", "one").await;
    remove_all(&suite, &["one", "two"], &["slow", "fast"]).await;
}
