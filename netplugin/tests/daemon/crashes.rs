//! The daemon is killed at any moment of a call. Started again, it carries out the same call with
//! the same answer, and what is deleted is gone.

use std::time::Duration;

use super::host::{
    CONTAINER_END, ENDPOINT, HOST_END, Host, NETWORK, SWITCH_END, WIRE, endpoint, named,
};
use serde_json::Value;

/// How many moments are tried, and how far apart they lie. A call takes about five milliseconds.
const MOMENTS: u32 = 24;
const APART: Duration = Duration::from_micros(400);

/// Sends a call and kills the daemon so long afterwards.
async fn killed_during(host: &mut Host, method: &str, body: Value, moment: Duration) {
    let plugin = host.plugin.clone();
    let method = format!("NetworkDriver.{method}");
    let call = tokio::spawn(async move { plugin.call(&method, &body).await.is_ok() });
    #[expect(clippy::disallowed_methods, reason = "the moment of the crash is what is varied")]
    tokio::time::sleep(moment).await;
    host.kill().await;
    // Whether it was answered is a matter of the moment; both must come to the same in the end.
    call.await.unwrap();
}

#[tokio::test]
async fn a_crash_while_an_endpoint_is_made_changes_nothing_about_the_answer() {
    let mut host = Host::start().await;
    let expected = host.make_endpoint(ENDPOINT).await.unwrap();
    host.delete_endpoint(ENDPOINT).await.unwrap();
    for moment in (0..MOMENTS).map(|step| step * APART) {
        killed_during(&mut host, "CreateEndpoint", endpoint(ENDPOINT), moment).await;
        host.run().await;
        let repeated = host.make_endpoint(ENDPOINT).await;
        assert_eq!(repeated.as_ref(), Ok(&expected), "killed after {moment:?}");
        assert_eq!(host.ports().await, [SWITCH_END], "killed after {moment:?}");
        assert_eq!(host.devices().await, WIRE, "killed after {moment:?}");
        host.delete_endpoint(ENDPOINT).await.unwrap();
        assert_eq!(host.there().await, (vec![], vec![]), "killed after {moment:?}");
    }
}

#[tokio::test]
async fn a_crash_while_an_endpoint_is_made_leaves_nothing_if_docker_never_asks_again() {
    let mut host = Host::watched().await;
    host.make_endpoint("e2").await.unwrap();
    host.delete_endpoint("e2").await.unwrap();
    for moment in (0..MOMENTS / 4).map(|step| step * APART * 4) {
        killed_during(&mut host, "CreateEndpoint", endpoint(ENDPOINT), moment).await;
        host.run().await;
        host.comes_to(&[], &[]).await;
    }
}

#[tokio::test]
async fn a_crash_while_an_endpoint_is_deleted_leaves_nothing_after_the_next_deletion() {
    let mut host = Host::start().await;
    for moment in (0..MOMENTS).map(|step| step * APART) {
        host.make_endpoint(ENDPOINT).await.unwrap();
        killed_during(&mut host, "DeleteEndpoint", named(ENDPOINT), moment).await;
        host.run().await;
        host.delete_endpoint(ENDPOINT).await.unwrap();
        assert_eq!(host.there().await, (vec![], vec![]), "killed after {moment:?}");
    }
}

#[tokio::test]
async fn networks_and_endpoints_outlive_the_daemon() {
    let mut host = Host::start().await;
    let made = host.make_endpoint(ENDPOINT).await.unwrap();
    host.kill().await;
    host.run().await;
    let joined = host.call("Join", named(ENDPOINT)).await.unwrap();
    assert_eq!(joined["InterfaceName"]["SrcName"], CONTAINER_END);
    assert_eq!(joined["Gateway"], "10.100.0.1");
    assert_eq!(host.make_endpoint(ENDPOINT).await.unwrap(), made);
    let conflict = host.make_network(NETWORK, serde_json::json!({"vlan": "7"})).await.unwrap_err();
    assert!(conflict.contains("is made differently"), "{conflict}");
}

#[tokio::test]
async fn each_half_made_state_is_made_whole_by_the_same_call() {
    let host = Host::start().await;
    let expected = host.make_endpoint(ENDPOINT).await.unwrap();
    let whole = host.there().await;
    // Killed between the devices and the port.
    host.vsctl(&["del-port", SWITCH_END]).await;
    assert_eq!(host.make_endpoint(ENDPOINT).await.unwrap(), expected);
    assert_eq!(host.there().await, whole);
    // A port whose devices are gone, one pair or the other.
    for device in [SWITCH_END, HOST_END] {
        let delete = ["link", "delete", device];
        host.ovs.namespace().program("ip").args(delete).run().await.unwrap();
        assert_eq!(host.make_endpoint(ENDPOINT).await.unwrap(), expected);
        assert_eq!(host.there().await, whole);
    }
    let number = host.vsctl(&["get", "Interface", SWITCH_END, "ofport"]).await;
    assert!(number.parse::<u16>().is_ok(), "the switch does not forward: {number}");
}
