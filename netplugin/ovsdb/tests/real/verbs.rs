//! Each verb: what it does, that it may be repeated, and what it refuses.

use dockline_ovsdb::datapath::{Datapath, KernelModule, Reason};
use dockline_ovsdb::switch::{
    BridgeDone, BridgeError, Deleted, FailMode, Marks, Outcome, PortError, PortKind, Target, Until,
    VlanMode,
};
use dockline_testkit::Ovs;

use super::{BRIDGE, bridge, ours, port, soon, switch_at, told, with_bridge};

#[tokio::test]
async fn a_bridge_is_made_once_and_brought_to_what_is_asked() -> anyhow::Result<()> {
    let ovs = Ovs::start().await?;
    let switch = switch_at(&ovs.socket());
    assert_eq!(switch.ensure_bridge(&bridge(), soon()).await?, BridgeDone::Created);
    assert_eq!(switch.ensure_bridge(&bridge(), soon()).await?, BridgeDone::AlreadyThere);
    assert_eq!(
        told(&ovs, &["get", "interface", BRIDGE, "mac_in_use"]).await?,
        "\"02:00:00:00:00:01\""
    );

    ovs.vsctl().args(["set", "bridge", BRIDGE, "other_config:theirs=1"]).run().await?;
    let secure = super::BridgeSpec { fail_mode: FailMode::Secure, ..bridge() };
    assert_eq!(switch.ensure_bridge(&secure, soon()).await?, BridgeDone::Changed);
    assert_eq!(told(&ovs, &["get-fail-mode", BRIDGE]).await?, "secure");
    assert_eq!(told(&ovs, &["get", "bridge", BRIDGE, "other_config:theirs"]).await?, "\"1\"");

    let kernel = super::BridgeSpec { datapath_type: "system".to_owned(), ..bridge() };
    let refused = switch.ensure_bridge(&kernel, soon()).await;
    assert!(matches!(refused, Err(BridgeError::Datapath { .. })), "{refused:?}");

    assert_eq!(switch.delete_bridge(BRIDGE, &ours(), soon()).await?, Deleted::Deleted);
    assert_eq!(switch.delete_bridge(BRIDGE, &ours(), soon()).await?, Deleted::Absent);
    assert_eq!(told(&ovs, &["list-br"]).await?, "");
    Ok(())
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    ovs.vsctl()
        .args(["add-br", "br-theirs", "--"])
        .args(["set", "bridge", "br-theirs"])
        .arg("datapath_type=netdev")
        .run()
        .await?;
    ovs.vsctl()
        .args(["add-port", BRIDGE, "theirs", "--", "set", "interface", "theirs"])
        .arg("type=internal")
        .run()
        .await?;
    let theirs = super::BridgeSpec { name: "br-theirs".to_owned(), ..bridge() };
    let refused = switch.ensure_bridge(&theirs, soon()).await;
    assert!(matches!(refused, Err(BridgeError::NotOurs(_))), "{refused:?}");
    let refused = switch.delete_bridge("br-theirs", &ours(), soon()).await;
    assert!(matches!(refused, Err(BridgeError::NotOurs(_))), "{refused:?}");
    // The name of a port cannot become a bridge's.
    let taken = super::BridgeSpec { name: "theirs".to_owned(), ..bridge() };
    let refused = switch.ensure_bridge(&taken, soon()).await;
    assert!(matches!(refused, Err(BridgeError::NotOurs(_))), "{refused:?}");

    let refused = switch.add_port(port("theirs"), soon()).await;
    assert!(matches!(refused, Err(PortError::Conflict { .. })), "{refused:?}");
    let refused = switch.delete_port("theirs", &ours(), Until::Applied, soon()).await;
    assert!(matches!(refused, Err(PortError::Conflict { .. })), "{refused:?}");
    let columns = VlanMode::All.columns();
    let refused = switch.set_columns(Target::Port, "theirs", &ours(), columns, soon()).await;
    assert!(matches!(refused, Err(PortError::Conflict { .. })), "{refused:?}");
    assert_eq!(told(&ovs, &["list-ports", BRIDGE]).await?, "theirs");
    Ok(())
}

#[tokio::test]
async fn a_port_forwards_when_add_returns_and_is_gone_when_delete_does() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    let mut spec = port("p1");
    spec.mac = Some("02:42:0a:64:00:02".parse()?);
    spec.mtu = Some(1400);
    let added = switch.add_port(spec.clone(), soon()).await?;
    assert_eq!(added.outcome, Outcome::Created);
    let flows = ovs.appctl().args(["dpctl/show"]).run().await?.text();
    assert!(flows.contains("p1 (tap)"), "{flows}");
    let device = ovs.namespace().program("ip").args(["link", "show", "p1"]).run().await?.text();
    assert!(device.contains("mtu 1400") && device.contains("02:42:0a:64:00:02"), "{device}");
    assert_eq!(told(&ovs, &["get", "port", "p1", "tag"]).await?, "100");
    assert_eq!(told(&ovs, &["get", "port", "p1", "external_ids"]).await?, "{owner=dockline}");
    assert_eq!(told(&ovs, &["get", "interface", "p1", "external_ids"]).await?, "{owner=dockline}");
    assert_eq!(told(&ovs, &["get", "interface", "p1", "ofport"]).await?, added.ofport.to_string());

    let again = switch.add_port(spec.clone(), soon()).await?;
    assert_eq!((again.outcome, again.ofport), (Outcome::AlreadyThere, added.ofport));

    assert_eq!(switch.delete_port("p1", &ours(), Until::Applied, soon()).await?, Deleted::Deleted);
    let gone = ovs.namespace().program("ip").args(["link", "show", "p1"]).output().await?;
    assert!(!gone.status.success());
    assert_eq!(switch.delete_port("p1", &ours(), Until::Applied, soon()).await?, Deleted::Absent);
    let rows = told(&ovs, &["--columns=name", "--bare", "list", "interface"]).await?;
    assert_eq!(rows, BRIDGE, "rows are left over");
    Ok(())
}

#[tokio::test]
async fn the_same_name_with_other_wishes_is_a_conflict() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    let second = super::BridgeSpec { name: "dock1".to_owned(), mac: None, ..bridge() };
    switch.ensure_bridge(&second, soon()).await?;
    switch.add_port(port("p1"), soon()).await?;
    let mut others = vec![port("p1"), port("p1"), port("p1"), port("p1")];
    others[0].vlan = VlanMode::Access(200.try_into()?);
    others[1].kind = PortKind::System;
    others[2].bridge = "dock1".to_owned();
    others[3].marks = Marks::new("owner", "dockline").with("endpoint", "another");
    for other in others {
        let refused = switch.add_port(other.clone(), soon()).await;
        assert!(matches!(refused, Err(PortError::Conflict { .. })), "{other:?} {refused:?}");
    }
    let mut nowhere = port("p2");
    nowhere.bridge = "none".to_owned();
    let refused = switch.add_port(nowhere, soon()).await;
    assert!(matches!(refused, Err(PortError::NoBridge(_))), "{refused:?}");
    assert_eq!(told(&ovs, &["list-ports", BRIDGE]).await?, "p1");
    assert_eq!(told(&ovs, &["list-ports", "dock1"]).await?, "");
    Ok(())
}

#[tokio::test]
async fn a_device_that_is_not_there_leaves_no_port() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    let mut missing = port("missing");
    missing.kind = PortKind::System;
    let (missing, good) =
        tokio::join!(switch.add_port(missing, soon()), switch.add_port(port("good"), soon()));
    let Err(PortError::Device { reason, .. }) = missing else { panic!("{missing:?}") };
    assert!(reason.contains("No such device"), "{reason}");
    good?;
    assert_eq!(told(&ovs, &["list-ports", BRIDGE]).await?, "good");
    Ok(())
}

#[tokio::test]
async fn a_name_can_be_used_again_at_once() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    for vlan in [10_u16, 20, 30] {
        let mut spec = port("p1");
        spec.vlan = VlanMode::Access(vlan.try_into()?);
        let added = switch.add_port(spec, soon()).await?;
        assert_eq!(added.outcome, Outcome::Created);
        assert_eq!(told(&ovs, &["get", "port", "p1", "tag"]).await?, vlan.to_string());
        switch.delete_port("p1", &ours(), Until::Committed, soon()).await?;
    }
    // Asked at once, an add and a delete of one port come one after the other.
    let (guard, spec) = (ours(), port("p1"));
    let (added, deleted) = tokio::join!(
        switch.add_port(spec, soon()),
        switch.delete_port("p1", &guard, Until::Applied, soon())
    );
    assert_eq!(added?.outcome, Outcome::Created);
    assert_eq!(deleted?, Deleted::Deleted);
    Ok(())
}

#[tokio::test]
async fn columns_are_set_and_wrong_ones_refused_alone() -> anyhow::Result<()> {
    let (ovs, switch) = with_bridge().await?;
    let names: Vec<String> = (0..8).map(|n| format!("p{n}")).collect();
    for added in switch.add_ports(names.iter().map(|name| port(name)).collect(), soon()).await {
        added?;
    }
    let guard = ours();
    let rate = |rate: i64| vec![("ingress_policing_rate", rate.into())];
    let sets = names.iter().enumerate().map(|(n, name)| {
        let rate = rate(if n == 3 { -1 } else { 1000 });
        switch.set_columns(Target::Interface, name, &guard, rate, soon())
    });
    for (n, result) in futures_util::future::join_all(sets).await.into_iter().enumerate() {
        match (n, result) {
            (3, Err(PortError::Refused { source, .. })) => {
                assert!(source.refusal().is_some(), "{source}");
            }
            (3, other) => panic!("{other:?}"),
            (_, result) => result?,
        }
    }
    assert_eq!(told(&ovs, &["get", "interface", "p3", "ingress_policing_rate"]).await?, "0");
    assert_eq!(told(&ovs, &["get", "interface", "p7", "ingress_policing_rate"]).await?, "1000");
    let missing = switch.set_columns(Target::Port, "none", &guard, Vec::new(), soon()).await;
    assert!(matches!(missing, Err(PortError::NoPort(_))), "{missing:?}");
    Ok(())
}

#[tokio::test]
async fn the_datapath_is_what_ovs_vswitchd_offers() -> anyhow::Result<()> {
    let (_ovs, switch) = with_bridge().await?;
    let choose = |module| switch.client().look(|picture| Datapath::choose(picture, module));
    let not_offered = Datapath::Userspace(Reason::NotOffered);
    assert_eq!(choose(KernelModule::Present), Some(not_offered));
    assert_eq!(choose(KernelModule::Absent), Some(Datapath::Userspace(Reason::NoModule)));
    Ok(())
}
