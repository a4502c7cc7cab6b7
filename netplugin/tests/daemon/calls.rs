//! Docker's calls when all is well, and every one of them twice.

use serde_json::json;

use super::host::{
    BRIDGE, CONTAINER_END, ENDPOINT, HOST_END, Host, JOINT, NETWORK, SWITCH_END, WIRE, endpoint,
    named, network,
};

/// Shares the twelve digits that make the devices' names with [`ENDPOINT`].
const NAMESAKE: &str = "e1d0000000010000000000000000000000000000000000000000000000000002";

#[tokio::test]
async fn every_call_twice_is_the_call_once() {
    let host = Host::start().await;
    let again = json!({"vlan": "100", "mtu": "1400"});
    assert_eq!(host.make_network(NETWORK, again).await.unwrap(), json!({}));
    let other = host.make_network(NETWORK, json!({"vlan": "101"})).await.unwrap_err();
    assert!(other.contains("is made differently"), "{other}");

    let first = host.make_endpoint(ENDPOINT).await.unwrap();
    let mac = &first["Interface"]["MacAddress"];
    assert_eq!(mac, "02:42:0a:64:00:02");
    let before = host.ip(&["link", "show", HOST_END]).await[0]["ifindex"].clone();
    assert_eq!(host.make_endpoint(ENDPOINT).await.unwrap(), first);
    let after = host.ip(&["link", "show", HOST_END]).await[0]["ifindex"].clone();
    assert_eq!(before, after, "the device was made anew under a running container");
    let mut elsewhere = endpoint(ENDPOINT);
    elsewhere["Interface"]["Address"] = "10.100.0.3/24".into();
    let other = host.call("CreateEndpoint", elsewhere).await.unwrap_err();
    assert!(other.contains("belongs to another endpoint"), "{other}");

    for _ in 0..2 {
        let joined = host.call("Join", named(ENDPOINT)).await.unwrap();
        assert_eq!(joined["InterfaceName"]["SrcName"], CONTAINER_END);
        assert_eq!(joined["Gateway"], "10.100.0.1");
        let info = host.call("EndpointOperInfo", named(ENDPOINT)).await.unwrap();
        assert_eq!(info["Value"], json!({"port": SWITCH_END, "mac": mac}));
    }
    assert_eq!(host.there().await, strings(&[SWITCH_END], &WIRE));
    for method in ["Leave", "DeleteEndpoint", "DeleteNetwork"] {
        for _ in 0..2 {
            assert_eq!(host.call(method, named(ENDPOINT)).await.unwrap(), json!({}), "{method}");
        }
    }
    assert_eq!(host.there().await, strings(&[], &[]));
    let gone = host.make_endpoint(ENDPOINT).await.unwrap_err();
    assert!(gone.contains("does not know the network"), "{gone}");
}

#[tokio::test]
async fn what_was_asked_is_on_the_device_and_on_the_switch() {
    let host = Host::start().await;
    let mut request = endpoint(ENDPOINT);
    request["Interface"]["MacAddress"] = "02:00:00:00:00:99".into();
    let answer = host.call("CreateEndpoint", request).await.unwrap();
    assert_eq!(answer["Interface"]["MacAddress"], "", "what was given must not be answered");

    let states = [(SWITCH_END, "UP"), (HOST_END, "UP"), (JOINT, "UP"), (CONTAINER_END, "DOWN")];
    for (device, state) in states {
        let link = &host.ip(&["link", "show", device]).await[0];
        assert_eq!(link["mtu"], 1400, "{device}");
        let up = link["flags"].as_array().unwrap().iter().any(|flag| flag == "UP");
        assert_eq!(up, state == "UP", "{device}");
    }
    let container = &host.ip(&["link", "show", CONTAINER_END]).await[0];
    assert_eq!(container["address"], "02:00:00:00:00:99");
    let port = host.vsctl(&["get", "Port", SWITCH_END, "tag", "vlan_mode"]).await;
    assert_eq!(port.split_whitespace().collect::<Vec<_>>(), ["100", "access"]);
    assert_eq!(host.vsctl(&["port-to-br", SWITCH_END]).await, BRIDGE);

    let untagged = NETWORK.replace("cafe", "beef");
    host.call("CreateNetwork", network(&untagged, json!({}))).await.unwrap();
    let mut plain = endpoint("e2");
    plain["NetworkID"] = untagged.into();
    host.call("CreateEndpoint", plain).await.unwrap();
    let port = host.vsctl(&["get", "Port", "dl-e2", "tag", "vlan_mode"]).await;
    assert_eq!(port.split_whitespace().collect::<Vec<_>>(), ["0", "access"]);
    assert_eq!(host.ip(&["link", "show", "dl-e2"]).await[0]["mtu"], 1500);
}

#[tokio::test]
async fn two_endpoints_whose_names_are_alike_are_not_mixed_up() {
    let host = Host::start().await;
    host.make_endpoint(ENDPOINT).await.unwrap();
    let ours = host.there().await;
    let refused = host.make_endpoint(NAMESAKE).await.unwrap_err();
    assert!(refused.contains("belongs to another endpoint"), "{refused}");
    host.delete_endpoint(NAMESAKE).await.unwrap();
    assert_eq!(host.there().await, ours, "the other's port was touched");
    let both = [host.make_endpoint(ENDPOINT), host.make_endpoint(NAMESAKE)];
    let [first, second] = both.map(|call| async { call.await.is_ok() });
    assert_eq!(tokio::join!(first, second), (true, false));
    assert_eq!(host.there().await, ours);
}

#[tokio::test]
async fn a_port_whose_marks_are_damaged_is_named_and_left_alone() {
    let host = Host::start().await;
    host.make_endpoint(ENDPOINT).await.unwrap();
    host.vsctl(&["set", "Port", SWITCH_END, "external_ids:dockline-mac=nonsense"]).await;
    for method in ["Join", "CreateEndpoint"] {
        let mut body = endpoint(ENDPOINT);
        body["SandboxKey"] = "/var/run/docker/netns/1".into();
        let refused = host.call(method, body).await.unwrap_err();
        assert!(refused.contains("ovs-vsctl del-port dl-e1d000000001"), "{method}: {refused}");
        assert!(refused.contains("dockline-mac=\"nonsense\""), "{method}: {refused}");
    }
    // It bears the endpoint's own mark still, so the endpoint's removal takes it.
    host.delete_endpoint(ENDPOINT).await.unwrap();
    assert_eq!(host.there().await, strings(&[], &[]));
}

#[tokio::test]
async fn a_strangers_port_of_our_name_is_never_touched() {
    let host = Host::start().await;
    host.make_endpoint("e2").await.unwrap();
    host.vsctl(&[
        "add-port",
        BRIDGE,
        SWITCH_END,
        "--",
        "set",
        "Interface",
        SWITCH_END,
        "type=internal",
    ])
    .await;
    let before = host.there().await;
    let refused = host.make_endpoint(ENDPOINT).await.unwrap_err();
    assert!(refused.contains("belongs to another endpoint"), "{refused}");
    host.delete_endpoint(ENDPOINT).await.unwrap();
    assert_eq!(host.there().await, before);
}

fn strings(ports: &[&str], devices: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    (owned(ports), owned(devices))
}
