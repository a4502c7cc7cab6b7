//! Wires and their limits in network namespaces of the test's own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail as the test does")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use dockline_links::{Deleted, LinkError, Links, Peer, Shape, WireSpec};
use dockline_testkit::Namespace;
use dockline_types::IfName;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn wire() -> WireSpec {
    WireSpec {
        container: name("dc-1"),
        host: name("dh-1"),
        joint: name("ds-1"),
        switch: name("dl-1"),
        mac: "02:42:0a:64:00:02".parse().unwrap(),
        mtu: 1500,
    }
}

/// A host with a wire whose two ends are in namespaces, with addresses 10.0.0.1 and 10.0.0.2.
async fn host() -> anyhow::Result<(Namespace, Namespace, Namespace)> {
    let (host, one, two) =
        (Namespace::new().await?, Namespace::new().await?, Namespace::new().await?);
    host.block_on(async || {
        let links = Links::open()?;
        links.create_wire(&wire()).await?;
        links.move_to(&name("dc-1"), one.as_fd()).await?;
        links.move_to(&name("dl-1"), two.as_fd()).await
    })??;
    for (inside, end, address) in [(&one, "dc-1", "10.0.0.1/24"), (&two, "dl-1", "10.0.0.2/24")] {
        inside.program("ip").args(["addr", "add", address, "dev", end]).run().await?;
        inside.program("ip").args(["link", "set", end, "up"]).run().await?;
    }
    Ok((host, one, two))
}

#[tokio::test]
async fn a_wire_is_made_whole_and_deleted_whole() -> anyhow::Result<()> {
    let here = Namespace::new().await?;
    here.block_on(async || {
        let links = Links::open()?;
        links.create_wire(&wire()).await?;
        let find = async |text| links.find(&name(text)).await;
        let container = find("dc-1").await?.unwrap();
        assert_eq!(container.mac, Some(wire().mac));
        assert!(!container.up, "Docker switches it on");
        for device in ["dh-1", "ds-1", "dl-1"] {
            let link = find(device).await?.unwrap();
            assert!(link.up && link.mtu == 1500, "{link:?}");
        }
        assert_eq!(find("dh-1").await?.unwrap().peer, Some(Peer::Here(container.index)));
        let again = links.create_wire(&wire()).await;
        assert!(matches!(again, Err(LinkError::Exists(_))), "{again:?}");
        let deleted = links.delete_wire(&name("dh-1"), &name("dl-1")).await?;
        assert_eq!(deleted, Deleted::Deleted);
        assert_eq!(links.delete_wire(&name("dh-1"), &name("dl-1")).await?, Deleted::Absent);
        assert_eq!(links.list().await?.len(), 1, "lo");
        anyhow::Ok(())
    })?
}

#[tokio::test]
async fn the_host_itself_sends_nothing_over_a_wire() -> anyhow::Result<()> {
    let (host, ..) = host().await?;
    let shown = host.program("ip").args(["-6", "address", "show"]).run().await?.text();
    for device in ["dh-1", "ds-1"] {
        assert!(!shown.contains(device), "the host has an address on a wire: {shown}");
    }
    Ok(())
}

/// Sends so many bytes and gives how many bits a second arrived.
fn rate(from: &Namespace, to: &Namespace, address: &str, bytes: usize) -> anyhow::Result<f64> {
    let listener = to.inside(|| TcpListener::bind((address, 5000)))??;
    let mut stream = from.inside(|| TcpStream::connect((address, 5000)))??;
    let (mut receiver, _) = listener.accept()?;
    std::thread::scope(|scope| {
        scope.spawn(move || stream.write_all(&vec![7; bytes]));
        receiver.set_read_timeout(Some(Duration::from_secs(20)))?;
        let (mut chunk, mut got, started) = (vec![0; 1 << 16], 0, Instant::now());
        while got < bytes {
            match receiver.read(&mut chunk)? {
                0 => anyhow::bail!("only {got} bytes came"),
                read => got += read,
            }
        }
        Ok(got as f64 * 8.0 / started.elapsed().as_secs_f64())
    })
}

/// Measures until the rate is within the range; a busy machine may make it too low now and then,
/// and nothing may ever make it too high.
fn settles(
    range: &std::ops::Range<f64>,
    mut measure: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    for _ in 0..6 {
        let rate = measure()?;
        seen.push(rate);
        anyhow::ensure!(rate < range.end, "{rate} is beyond {range:?}");
        if range.contains(&rate) {
            return Ok(());
        }
    }
    anyhow::bail!("{seen:?} are below {range:?}")
}

#[tokio::test]
async fn each_direction_is_limited_by_itself_live_and_until_it_is_lifted() -> anyhow::Result<()> {
    let (host, container, switch) = host().await?;
    let shape = |device: &str, shape| {
        host.block_on(async || {
            let links = Links::open()?;
            let index = links.index(&name(device)).await?;
            links.shape(index, shape).await?;
            anyhow::Ok(links.shaped().await?.get(&index).copied())
        })?
    };
    let sends = |bytes| rate(&container, &switch, "10.0.0.2", bytes);
    let receives = |bytes| rate(&switch, &container, "10.0.0.1", bytes);
    // 16 Mbit/s: little enough for a busy machine.
    let limit = Shape { bytes_per_s: 2_000_000, burst: 10_000, queue: 200_000 };
    const LIMITED: std::ops::Range<f64> = 14.5e6..16.5e6;
    const UNLIMITED: std::ops::Range<f64> = 34e6..f64::INFINITY;

    let found = shape("ds-1", Some(limit))?.unwrap();
    assert!(found.is(&limit), "{found:?}");
    settles(&LIMITED, || sends(2 << 20))?;
    settles(&UNLIMITED, || receives(10 << 20))?;

    shape("dh-1", Some(limit))?;
    settles(&LIMITED, || receives(2 << 20))?;
    let twice = Shape { bytes_per_s: 4_000_000, ..limit };
    shape("dh-1", Some(twice))?;
    settles(&(29e6..33e6), || receives(4 << 20))?;
    for device in ["ds-1", "dh-1"] {
        assert_eq!(shape(device, None)?, None);
        assert_eq!(shape(device, None)?, None, "lifting twice");
    }
    settles(&UNLIMITED, || sends(10 << 20))?;
    settles(&UNLIMITED, || receives(10 << 20))?;
    Ok(())
}

/// Floods with UDP for a while and gives how many bits a second arrived, of IP packets.
fn flood(from: &Namespace, to: &Namespace) -> anyhow::Result<f64> {
    const LASTS: Duration = Duration::from_secs(2);
    let receiver = to.inside(|| std::net::UdpSocket::bind("10.0.0.2:5001"))??;
    let sender = from.inside(|| std::net::UdpSocket::bind("10.0.0.1:0"))??;
    receiver.set_read_timeout(Some(Duration::from_secs(5)))?;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // What does not fit is dropped, which is the point.
                let _ = sender.send_to(&[7; 1400], "10.0.0.2:5001");
            }
        });
        let measured = (|| {
            let (mut chunk, mut got) = ([0; 1500], 0);
            receiver.recv(&mut chunk)?;
            let started = Instant::now();
            while started.elapsed() < LASTS {
                got += receiver.recv(&mut chunk)? + 28;
            }
            anyhow::Ok(got as f64 * 8.0 / started.elapsed().as_secs_f64())
        })();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        measured
    })
}

#[tokio::test]
async fn a_flood_of_udp_arrives_at_the_rate() -> anyhow::Result<()> {
    let (host, container, switch) = host().await?;
    host.block_on(async || {
        let links = Links::open()?;
        let limit = Shape { bytes_per_s: 2_000_000, burst: 40_000, queue: 200_000 };
        links.shape(links.index(&name("ds-1")).await?, Some(limit)).await
    })??;
    settles(&(15.2e6..16.4e6), || flood(&container, &switch))
}

#[tokio::test]
async fn a_rate_beyond_32_bits_reads_back_the_same() -> anyhow::Result<()> {
    let (host, ..) = host().await?;
    host.block_on(async || {
        let links = Links::open()?;
        let index = links.index(&name("ds-1")).await?;
        let terabit = Shape { bytes_per_s: 125_000_000_000, burst: 1 << 30, queue: u32::MAX };
        links.shape(index, Some(terabit)).await?;
        let found = links.shaped().await?[&index];
        assert!(found.is(&terabit), "{found:?}");
        anyhow::Ok(())
    })?
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_is_counted() -> anyhow::Result<()> {
    let (host, container, switch) = host().await?;
    let socket = container.inside(|| std::net::UdpSocket::bind("10.0.0.1:0"))??;
    let _receiver = switch.inside(|| std::net::UdpSocket::bind("10.0.0.2:5000"))??;
    let index = host.block_on(async || {
        let links = Links::open()?;
        let index = links.index(&name("ds-1")).await?;
        let limit = Shape { bytes_per_s: 1_000, burst: 10_000, queue: 10_000 };
        links.shape(index, Some(limit)).await?;
        anyhow::Ok(index)
    })??;
    let dropped = || {
        host.block_on(async || {
            let shaped = Links::open()?.shaped().await?;
            anyhow::Ok(shaped[&index].dropped)
        })?
    };
    assert_eq!(dropped()?, 0);
    let started = Instant::now();
    while dropped()? == 0 {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(20), "nothing is counted");
        for _ in 0..20 {
            socket.send_to(&[7; 1400], "10.0.0.2:5000")?;
        }
    }
    Ok(())
}
