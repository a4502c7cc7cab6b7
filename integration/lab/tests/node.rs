//! One node: from boot to ready, commands, files, disks that persist.

use std::time::{Duration, Instant};

use dockline_lab::{Cmd, Lab, LabError, NodeSpec};

async fn one(title: &str) -> anyhow::Result<(Lab, dockline_lab::Node)> {
    let lab = Lab::builder(title).node(NodeSpec::new("a").disk_mib(64)).boot().await?;
    let node = lab.node("a")?;
    Ok((lab, node))
}

#[tokio::test]
async fn from_power_on_to_ready_and_what_a_command_costs() -> anyhow::Result<()> {
    let (lab, node) = one("boot to ready").await?;
    let again = node.power_cycle().await?;
    let started = Instant::now();
    for _ in 0..20 {
        node.run("true").await?;
    }
    let command = started.elapsed() / 20;
    println!("second boot {again:?}, one command {command:?}");
    node.ready_for_ovs().await?;
    println!("ready for Open vSwitch after {:?}", started.elapsed() + again);
    let uptime = node.sh("cut -d. -f1 /proc/uptime").await?;
    assert!(uptime.parse::<u32>()? >= 11, "uptime {uptime}");
    let controllers = node.sh("cat /sys/fs/cgroup/cgroup.subtree_control").await?;
    assert_eq!(controllers, "cpu io memory pids");
    assert_eq!(node.sh("hostname").await?, "a");
    // The control link is nobody's business.
    assert_eq!(node.sh("ls /sys/class/net").await?, "lo");
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn exit_codes_outputs_and_input_arrive_as_they_are() -> anyhow::Result<()> {
    let (lab, node) = one("commands").await?;
    let output = node.output(Cmd::sh("echo out; echo err >&2; exit 7")).await?;
    assert_eq!(
        (output.code, output.text().as_str(), output.stderr.as_slice()),
        (7, "out", b"err\n".as_slice())
    );
    assert_eq!(node.output(Cmd::sh("kill -9 $$")).await?.code, 137);
    let failed = node.run(Cmd::sh("echo no room >&2; exit 5")).await.unwrap_err().to_string();
    assert!(failed.contains("node a exited with 5: no room"), "{failed}");
    let missing = node.run("no-such-program").await.unwrap_err();
    assert!(matches!(missing, LabError::NotStarted { .. }), "{missing}");
    // Every byte, both ways, far beyond any buffer.
    let bytes: Vec<u8> = (0..=255).cycle().take(20 << 20).collect();
    let echoed = node.run(Cmd::new("cat").stdin(bytes.clone())).await?;
    assert!(echoed.stdout == bytes, "20 MiB came back changed ({} bytes)", echoed.stdout.len());
    let big = Cmd::sh("head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2");
    let big = node.run(big).await?;
    assert_eq!((big.stdout.len(), big.stderr.len()), (50_000_000, 50_000_000));
    // Input that nobody reads must not hide the exit code.
    let unread = node.output(Cmd::sh("exit 3").stdin(bytes)).await?;
    assert_eq!(unread.code, 3);
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn a_hung_command_is_killed_and_the_others_go_on() -> anyhow::Result<()> {
    let (lab, node) = one("deadlines").await?;
    let short = Duration::from_millis(500);
    // It ignores the polite signal, has a child, and is fed input that it does not read.
    let hung = Cmd::sh("trap '' TERM; sleep 1000 & wait").stdin(vec![0; 8 << 20]).deadline(short);
    let started = Instant::now();
    let (hung, fine) = tokio::join!(node.run(hung), node.sh("sleep 0.2; echo fine"));
    assert!(matches!(hung.unwrap_err(), LabError::TimedOut { .. }));
    assert_eq!(fine?, "fine");
    assert!(started.elapsed() < Duration::from_secs(10), "the deadline came late");
    let gone = Cmd::sh("! pgrep --exact sleep");
    node.wait_for("the end of the hung command", Duration::from_secs(5), gone).await?;
    // A program left in the background that holds the output open holds nobody up.
    let started = Instant::now();
    assert_eq!(node.sh("sleep 1000 & echo left it").await?, "left it");
    assert!(started.elapsed() < Duration::from_secs(10));
    node.run("pgrep --exact sleep").await?;
    let many: Vec<_> = (0..50)
        .map(|at| {
            let node = node.clone();
            tokio::spawn(async move { node.sh(format!("echo {at}")).await })
        })
        .collect();
    for (at, one) in many.into_iter().enumerate() {
        assert_eq!(one.await??, at.to_string());
    }
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn files_are_copied_both_ways_with_their_rights() -> anyhow::Result<()> {
    let (lab, node) = one("copy").await?;
    let folder = tempfile::tempdir()?;
    let (here, back) = (folder.path().join("here"), folder.path().join("back"));
    std::fs::write(&here, "#!/bin/sh\necho run\n")?;
    std::fs::set_permissions(&here, std::os::unix::fs::PermissionsExt::from_mode(0o750))?;
    node.copy_to(&here, "/root/deep/er/there").await?;
    assert_eq!(node.sh("/root/deep/er/there; stat -c %a /root/deep/er/there").await?, "run\n750");
    node.write("/root/bytes", [0, 255, 10]).await?;
    node.copy_from("/root/bytes", &back).await?;
    assert_eq!(std::fs::read(back)?, [0, 255, 10]);
    assert!(node.copy_from("/root/missing", &folder.path().join("x")).await.is_err());
    // The machine's root is not written to.
    node.sh("echo changed >/etc/lab-was-here; ! touch /lab/bin/x 2>/dev/null").await?;
    assert!(!std::path::Path::new("/etc/lab-was-here").exists());
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn disks_and_the_root_persist_over_a_power_cut() -> anyhow::Result<()> {
    let (lab, node) = one("power cut").await?;
    node.sh("echo raw | dd of=/dev/ubda conv=fsync status=none").await?;
    node.sh("echo root >/etc/kept; sync /etc/kept; echo gone >/tmp/gone").await?;
    // A process that is busy at the moment of the cut must be gone too.
    node.start("busy", "sh -c while:;do:;done").await?;
    let busy = node.start("busy", Cmd::sh("while :; do :; done")).await?;
    assert!(busy > 1);
    node.power_off().await?;
    assert!(matches!(node.run("true").await.unwrap_err(), LabError::Off { .. }));
    node.boot().await?;
    assert_eq!(node.sh("head -c 3 /dev/ubda; cat /etc/kept").await?, "rawroot");
    node.sh("[ ! -e /tmp/gone ]").await?;
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn a_paused_node_does_nothing_and_goes_on() -> anyhow::Result<()> {
    let (lab, node) = one("pause").await?;
    node.pause().await?;
    let answer = node.run(Cmd::new("true").deadline(Duration::from_secs(1))).await;
    assert!(matches!(answer.unwrap_err(), LabError::TimedOut { .. }));
    node.resume().await?;
    node.run("true").await?;
    lab.down().await?;
    Ok(())
}

#[tokio::test]
async fn programs_are_frozen_stopped_and_killed_by_name() -> anyhow::Result<()> {
    let (lab, node) = one("programs").await?;
    let state = "cut -d' ' -f3 /proc/$(pgrep --exact sleep)/stat";
    let pid = node.start("sleeper", "sleep 1000").await?;
    assert_eq!(node.sh("pgrep --exact sleep").await?, pid.to_string());
    node.freeze_program("sleep").await?;
    assert_eq!(node.sh(state).await?, "T");
    node.thaw_program("sleep").await?;
    assert_eq!(node.sh(state).await?, "S");
    node.stop_program("sleep").await?;
    assert!(node.freeze_program("sleep").await.is_err(), "there is none any more");
    // It does not end when asked to, and its parent is gone: somebody must still bury it.
    node.start("stubborn", Cmd::sh("trap '' TERM; sleep 1000 & exit")).await?;
    node.wait_for("the child", Duration::from_secs(5), "pgrep --exact sleep").await?;
    node.kill_program("sleep").await?;
    Ok(lab.down().await?)
}

#[tokio::test]
async fn a_node_that_dies_by_itself_says_so_and_boots_again() -> anyhow::Result<()> {
    let (lab, node) = one("death").await?;
    let crash = Cmd::sh("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger");
    let died = node.run(crash.deadline(Duration::from_secs(10))).await.unwrap_err();
    assert!(matches!(died, LabError::Died { .. }), "{died}");
    assert!(died.to_string().contains("sysrq"), "the console tells why: {died}");
    node.boot().await?;
    node.run("true").await?;
    Ok(lab.down().await?)
}

#[tokio::test]
async fn a_node_that_does_not_boot_fails_with_its_console() {
    let lab = Lab::builder("no boot").node(NodeSpec::new("a").share("/no/such/folder", "/shared"));
    let error = lab.boot().await.unwrap_err();
    assert!(matches!(error, LabError::Boot { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("sharing /no/such/folder"), "the console tells why: {text}");
}
