//! Devices in network namespaces of the test's own. Needs root and the packages
//! `openvswitch-switch`, `busybox-static` and `ethtool`.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use dockline_links::{Deleted, Kind, LinkError, Links, Peer, VethSpec};
use dockline_testkit::{Namespace, Ovs};
use dockline_types::IfName;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn pair(host: &str, container: &str) -> VethSpec {
    VethSpec { host: name(host), container: name(container), mac: None, mtu: None }
}

#[tokio::test]
async fn a_pair_is_made_as_asked_or_not_at_all() -> anyhow::Result<()> {
    let here = Namespace::new().await?;
    here.block_on(async || {
        let links = Links::open()?;
        let mac = "02:42:0a:64:00:02".parse()?;
        let spec = VethSpec { mac: Some(mac), mtu: Some(9000), ..pair("h1", "c1") };
        links.create_veth(&spec).await?;
        let host = links.find(&name("h1")).await?.unwrap();
        let container = links.find(&name("c1")).await?.unwrap();
        assert_eq!((host.mtu, container.mtu), (9000, 9000));
        assert_eq!((host.up, container.up), (false, false));
        assert_eq!((&host.kind, container.mac), (&Kind::Veth, Some(mac)));
        assert_eq!(host.peer, Some(Peer::Here(container.index)));

        // Either name being taken is told as such, and makes nothing.
        for (taken, free) in [(pair("h1", "c2"), "c2"), (pair("h2", "c1"), "h2")] {
            let refused = links.create_veth(&taken).await;
            assert!(matches!(refused, Err(LinkError::Exists(_))), "{refused:?}");
            assert_eq!(links.find(&name(free)).await?, None);
        }
        let refused = links.create_veth(&VethSpec { mtu: Some(7), ..pair("h2", "c2") }).await;
        assert!(matches!(refused, Err(LinkError::Kernel { .. })), "{refused:?}");
        assert_eq!(links.list().await?.len(), 3, "lo and the pair");

        links.set_mtu(&name("h1"), 1400).await?;
        links.set_up(&name("c1")).await?;
        assert_eq!(links.find(&name("h1")).await?.unwrap().mtu, 1400);
        assert!(links.find(&name("c1")).await?.unwrap().up);
        let missing = links.set_mtu(&name("none"), 1400).await;
        assert!(matches!(missing, Err(LinkError::Missing(_))), "{missing:?}");

        assert_eq!(links.delete(&name("h1")).await?, Deleted::Deleted);
        assert_eq!(links.delete(&name("h1")).await?, Deleted::Absent);
        assert_eq!(links.find(&name("c1")).await?, None);
        anyhow::Ok(())
    })?
}

#[tokio::test]
async fn an_end_that_has_left_is_seen_from_the_other() -> anyhow::Result<()> {
    let (here, there) = (Namespace::new().await?, Namespace::new().await?);
    here.block_on(async || {
        let links = Links::open()?;
        links.create_veth(&pair("h1", "c1")).await?;
        links.move_to(&name("c1"), there.as_fd()).await?;
        assert_eq!(links.find(&name("h1")).await?.unwrap().peer, Some(Peer::Elsewhere));
        assert_eq!(links.find(&name("c1")).await?, None);
        there.program("ip").args(["link", "del", "c1"]).run().await?;
        assert_eq!(links.find(&name("h1")).await?, None, "the pair is gone");
        anyhow::Ok(())
    })?
}

#[tokio::test]
async fn asking_for_the_switchs_module_agrees_with_the_kernel() -> anyhow::Result<()> {
    let here = Namespace::new().await?;
    let found = here.block_on(async || Links::open()?.has_ovs_module())??;
    assert_eq!(found, std::path::Path::new("/sys/module/openvswitch").exists());
    Ok(())
}

/// A container's namespace with an address, its veth a port of the switch.
async fn container(ovs: &Ovs, number: u8) -> anyhow::Result<Namespace> {
    let inside = Namespace::new().await?;
    let (host, end) = (format!("h{number}"), format!("c{number}"));
    ovs.namespace().block_on(async || {
        let links = Links::open()?;
        links.create_veth(&pair(&host, &end)).await?;
        links.set_up(&name(&host)).await?;
        links.move_to(&name(&end), inside.as_fd()).await
    })??;
    ovs.vsctl().args(["add-port", "br0", &host]).run().await?;
    let address = format!("10.0.0.{number}/24");
    inside.program("ip").args(["addr", "add", &address, "dev", &end]).run().await?;
    inside.program("ip").args(["link", "set", &end, "up"]).run().await?;
    Ok(inside)
}

/// Sends 1 MiB over TCP from one to the other; whether it arrived.
fn tcp_passes(from: &Namespace, to: &Namespace, address: SocketAddr) -> anyhow::Result<bool> {
    let sent = vec![7; 1 << 20];
    let listener = to.inside(|| TcpListener::bind(address))??;
    let patience = Duration::from_millis(1500);
    let connected = from.inside(|| TcpStream::connect_timeout(&address, patience))?;
    let Ok(mut stream) = connected else { return Ok(false) };
    let (mut receiver, _) = listener.accept()?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // What did not get through is seen by the receiver.
            let _ = stream.write_all(&sent);
            drop(stream);
        });
        receiver.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut got = Vec::new();
        receiver.read_to_end(&mut got)?;
        Ok(got == sent)
    })
}

#[tokio::test]
async fn tcp_through_the_userspace_switch_needs_real_checksums() -> anyhow::Result<()> {
    let ovs = Ovs::start().await?;
    let bridge = ["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"];
    ovs.vsctl().args(bridge).run().await?;
    let (one, two) = (container(&ovs, 1).await?, container(&ovs, 2).await?);
    // The way is open: a ping computes its own checksum.
    one.program("busybox").args(["ping", "-c1", "-w10", "10.0.0.2"]).run().await?;
    let address = "10.0.0.2:5000".parse()?;
    assert!(!tcp_passes(&one, &two, address)?, "the switch computes checksums: drop the remedy");

    for (inside, end) in [(&one, "c1"), (&two, "c2")] {
        inside.block_on(async || Links::open()?.disable_tx_checksum(&name(end)))??;
        let told = inside.program("ethtool").args(["-k", end]).run().await?.text();
        assert!(told.contains("tx-checksumming: off"), "{told}");
    }
    assert!(tcp_passes(&one, &two, address)?);
    let missing = one.block_on(async || Links::open()?.disable_tx_checksum(&name("none")))?;
    assert!(matches!(missing, Err(LinkError::Missing(_))), "{missing:?}");
    Ok(())
}
