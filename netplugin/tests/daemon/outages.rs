//! What the daemon needs is away: it says so in time, and leaves nothing half-made.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use dockline_testkit::{Ovs, OvsDaemon, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::host::{CONTAINER_END, ENDPOINT, Host, NETWORK, PATIENCE, SWITCH_END};

/// dockerd's own client is answered within this many seconds, whatever is down.
const ANSWERED_S: u64 = 31;

/// Makes an endpoint that cannot be made and gives the refusal.
async fn refused_in_time(host: &Host) -> String {
    let started = Instant::now();
    let refusal = host.make_endpoint(ENDPOINT).await.unwrap_err();
    assert!(started.elapsed().as_secs() < ANSWERED_S, "{:?}: {refusal}", started.elapsed());
    refusal
}

#[tokio::test]
async fn without_the_database_an_endpoint_is_refused_and_nothing_is_made() {
    let mut host = Host::start().await;
    host.make_endpoint("e2").await.unwrap();
    host.ovs.end(OvsDaemon::Server, Signal::SIGKILL).await.unwrap();
    let refusal = refused_in_time(&host).await;
    assert!(refusal.contains("ovsdb-server"), "{refusal}");
    assert_eq!(host.devices().await, ["dc-e2", "dh-e2", "dl-e2", "ds-e2"]);
    let status: Value = host.admin().get("status").await.unwrap();
    assert_eq!(status["parts"][1]["state"], "down", "{status}");

    host.ovs.run(OvsDaemon::Server).await.unwrap();
    host.make_endpoint(ENDPOINT).await.unwrap();
    host.delete_endpoint(ENDPOINT).await.unwrap();
}

#[tokio::test]
async fn a_frozen_switch_makes_the_call_fail_and_leaves_nothing_once_it_goes_on() {
    let host = Host::start().await;
    host.make_endpoint("e2").await.unwrap();
    host.ovs.pause(OvsDaemon::Vswitchd).unwrap();
    let refusal = refused_in_time(&host).await;
    assert!(refusal.contains("ovs-vswitchd"), "{refusal}");
    host.delete_endpoint("e2").await.unwrap();
    assert_eq!(host.devices().await, [""; 0], "taken back while the switch stands still");
    host.ovs.resume(OvsDaemon::Vswitchd).unwrap();
    host.comes_to(&[], &[]).await;
    host.make_endpoint(ENDPOINT).await.unwrap();
}

#[tokio::test]
async fn without_a_switch_the_call_fails_and_succeeds_when_it_is_back() {
    let mut host = Host::start().await;
    host.ovs.end(OvsDaemon::Vswitchd, Signal::SIGKILL).await.unwrap();
    let refusal = refused_in_time(&host).await;
    assert!(refusal.contains("ovs-vswitchd"), "{refusal}");
    assert_eq!(host.there().await, (vec![], vec![]));
    host.ovs.run(OvsDaemon::Vswitchd).await.unwrap();
    host.make_endpoint(ENDPOINT).await.unwrap();
    assert_eq!(host.ports().await, [SWITCH_END]);
}

#[tokio::test]
async fn an_interface_whose_name_is_taken_is_told_and_nothing_is_made() {
    let host = Host::start().await;
    host.make_endpoint("e2").await.unwrap();
    let taken = ["link", "add", CONTAINER_END, "type", "veth", "peer", "name", "stranger"];
    host.ovs.namespace().program("ip").args(taken).run().await.unwrap();
    let refusal = host.make_endpoint(ENDPOINT).await.unwrap_err();
    assert!(refusal.contains("is there already"), "{refusal}");
    assert_eq!(host.ports().await, ["dl-e2"]);
    assert_eq!(host.devices().await, [CONTAINER_END, "dc-e2", "dh-e2", "dl-e2", "ds-e2"]);
}

#[tokio::test]
async fn the_daemon_is_up_before_open_vswitch_and_serves_as_soon_as_it_comes() {
    let mut ovs = Ovs::start_server_only().await.unwrap();
    ovs.end(OvsDaemon::Server, Signal::SIGKILL).await.unwrap();
    let mut host = Host::without_daemon(ovs, 3600);
    host.run().await;
    let activated = host.plugin.call("Plugin.Activate", &Value::Null).await.unwrap().unwrap();
    assert_eq!(activated, json!({"Implements": ["NetworkDriver"]}));
    let capabilities = host.call("GetCapabilities", Value::Null).await.unwrap();
    assert_eq!(capabilities, json!({"Scope": "local", "ConnectivityScope": "global"}));
    host.make_network(NETWORK, json!({})).await.unwrap();
    host.ovs.run(OvsDaemon::Server).await.unwrap();
    host.ovs.run(OvsDaemon::Vswitchd).await.unwrap();
    host.make_endpoint(ENDPOINT).await.unwrap();
    assert_eq!(host.ports().await, [SWITCH_END]);
}

#[tokio::test]
async fn a_damaged_store_is_told_and_is_left_as_it_is() {
    let mut host = Host::start().await;
    host.kill().await;
    let damaged = vec![7; 64 << 10];
    std::fs::write(host.store(), &damaged).unwrap();
    host.run().await;
    host.plugin.call("Plugin.Activate", &Value::Null).await.unwrap().unwrap();
    let refusal = host.make_endpoint(ENDPOINT).await.unwrap_err();
    assert!(refusal.contains("cannot open its store"), "{refusal}");
    assert!(refusal.contains("net.redb"), "the file is not named: {refusal}");
    assert_eq!(std::fs::read(host.store()).unwrap(), damaged);
    assert_eq!(host.there().await, (vec![], vec![]));
    let status: Value = host.admin().get("status").await.unwrap();
    assert_eq!(status["parts"][0]["state"], "down", "{status}");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_told_and_is_used_once_it_can() {
    let ovs = Ovs::start().await.unwrap();
    let mut host = Host::without_daemon(ovs, 3600);
    // Not a folder: root may write into any.
    let state = host.store().parent().unwrap().to_owned();
    std::fs::write(&state, "").unwrap();
    host.run().await;
    host.plugin.call("Plugin.Activate", &Value::Null).await.unwrap().unwrap();
    let refusal = host.make_network(NETWORK, json!({})).await.unwrap_err();
    assert!(refusal.contains("cannot open its store"), "{refusal}");
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    host.make_network(NETWORK, json!({})).await.unwrap();
    let mode = std::fs::metadata(host.store()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "the store is open to others");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let host = Host::start().await;
    host.ovs.pause(OvsDaemon::Vswitchd).unwrap();
    let call = host.make_endpoint(ENDPOINT);
    let gone = tokio::time::timeout(std::time::Duration::from_millis(500), call).await;
    assert!(gone.is_err(), "the call ended with the switch frozen");
    host.ovs.resume(OvsDaemon::Vswitchd).unwrap();
    eventually("the port to be taken back", PATIENCE, async || {
        (host.there().await == (vec![], vec![])).then_some(())
    })
    .await
    .unwrap();
}
