//! Volumes on LVM, for real: the daemon on lab nodes with device-mapper.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use dockline_lab::{Cmd, Lab, Node, NodeSpec, Userland};
use serde_json::{Value, json};

/// One request over the socket, as dockerd makes it. Perl is on every Debian.
const CALL: &str = r#"
use IO::Socket::UNIX;
my ($method, $body) = @ARGV;
my $socket = IO::Socket::UNIX->new("/run/docker/plugins/dockline-vol.sock") or exit 7;
print $socket "POST /$method HTTP/1.1\r\nHost: p\r\nConnection: close\r\nContent-Length: ",
    length($body), "\r\n\r\n$body";
$socket->flush();
local $/;
my $answer = <$socket>;
$answer =~ s/.*?\r\n\r\n//s or exit 8;
print $answer;
"#;

const CONFIG: &str = r#"
[log]
filter = "info,dockline_lvm=debug"
[vol]
groups = [{ name = "vg", class = "ssd" }]
"#;

/// A node whose daemon has a volume group with a thin pool.
struct Host {
    lab: Lab,
    node: Node,
}

impl Host {
    async fn boot(title: &str, userland: Userland) -> anyhow::Result<Self> {
        let spec =
            NodeSpec::new("a").userland(userland).disk_mib(6144).keep_log("/var/log/lab/vol.log");
        let lab = Lab::builder(title).node(spec).boot().await?;
        let node = lab.node("a")?;
        node.sh("vgcreate -q vg /dev/ubda; lvcreate -q -T -L 3G vg/pool").await?;
        node.write("/etc/dockline/dockline.toml", CONFIG).await?;
        node.write("/root/call.pl", CALL).await?;
        let host = Self { lab, node };
        // The files must outlive a power cut.
        host.node.run("sync").await?;
        host.start().await?;
        Ok(host)
    }

    async fn start(&self) -> anyhow::Result<()> {
        self.node.start("vol", "/lab/bin/dockline-vol").await?;
        let up = Cmd::new("perl").args(["/root/call.pl", "VolumeDriver.Capabilities", "{}"]);
        self.node.wait_for("the daemon", Duration::from_secs(20), up).await?;
        Ok(())
    }

    /// One call; nothing if there was no answer.
    async fn try_call(&self, method: &str, body: &Value) -> Option<Value> {
        let method = format!("VolumeDriver.{method}");
        let cmd = Cmd::new("perl").args(["/root/call.pl".to_owned(), method, body.to_string()]);
        let output = self.node.output(cmd.deadline(Duration::from_secs(120))).await.ok()?;
        serde_json::from_slice(&output.stdout).ok().filter(|_| output.code == 0)
    }

    async fn call(&self, method: &str, body: Value) -> Result<Value, String> {
        let answer = self.try_call(method, &body).await.expect("an answer");
        match answer.get("Err").and_then(Value::as_str).filter(|error| !error.is_empty()) {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    async fn create(&self, name: &str, opts: Value) -> Result<Value, String> {
        self.call("Create", json!({ "Name": name, "Opts": opts })).await
    }

    async fn mount(&self, name: &str) -> String {
        let mounted = self.call("Mount", json!({ "Name": name, "ID": "a" })).await.unwrap();
        mounted["Mountpoint"].as_str().unwrap().to_owned()
    }

    async fn unmount(&self, name: &str) {
        self.call("Unmount", json!({ "Name": name, "ID": "a" })).await.unwrap();
    }

    async fn remove(&self, name: &str) -> Result<Value, String> {
        self.call("Remove", json!({ "Name": name })).await
    }

    async fn names(&self) -> Vec<String> {
        let listed = self.call("List", json!({})).await.unwrap();
        let volumes = listed["Volumes"].as_array().unwrap();
        let mut names: Vec<_> =
            volumes.iter().map(|volume| volume["Name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// Waits until LVM has as many volumes of ours as there are volumes: no orphan is left.
    async fn settled(&self, volumes: usize) {
        let script = format!("test $(lvs --noheadings -o name vg | grep -c dv_) = {volumes}");
        let bound = Duration::from_secs(30);
        self.node.wait_for("no orphan", bound, Cmd::sh(script)).await.unwrap();
    }
}

#[tokio::test]
async fn volumes_of_each_kind_live_and_survive_a_power_cut() {
    live_and_survive("volumes on LVM", Userland::Debian12).await;
}

#[tokio::test]
async fn volumes_of_each_kind_live_on_debian13() {
    live_and_survive("volumes on LVM of Debian 13", Userland::Debian13).await;
}

const KINDS: [(&str, &str, &str); 5] = [
    ("thin-btrfs", "btrfs", "thin"),
    ("thin-xfs", "xfs", "thin"),
    ("thin.ext4", "ext4", "thin"),
    ("thick_xfs", "xfs", "thick"),
    ("thick-ext4", "ext4", "thick"),
];

async fn live_and_survive(title: &str, userland: Userland) {
    let host = Host::boot(title, userland).await.unwrap();
    for (name, fs, layout) in KINDS {
        let opts = json!({ "size": "510M", "fs": fs, "layout": layout, "mode": "750", "uid": "7" });
        host.create(name, opts.clone()).await.unwrap();
        host.create(name, opts).await.unwrap();
        let other = host.create(name, json!({ "size": "1G" })).await.unwrap_err();
        assert!(other.contains("size=512MiB"), "{other}");
        let at = host.mount(name).await;
        host.node
            .sh(format!("test -z \"$(ls -A {at})\"; echo {name} >{at}/file; sync"))
            .await
            .unwrap();
        let owner = host.node.sh(format!("stat -c %a:%u {at}")).await.unwrap();
        assert_eq!(owner, "750:7");
        let refused = host.remove_while_held(name, &at).await;
        assert!(refused.contains("in use by"), "{refused}");
    }
    // Thin where a pool is, unless told otherwise.
    host.create("plain", json!({ "size": "300M", "class": "ssd" })).await.unwrap();
    let layouts = host.node.sh("lvs --noheadings -o layout vg -S lv_name=~dv_").await.unwrap();
    assert_eq!(layouts.matches("thin,sparse").count(), 4, "{layouts}");
    for (opts, words) in [
        (json!({ "class": "hdd" }), "no volume group for class hdd"),
        (json!({ "size": "900G", "layout": "thick" }), "insufficient free space"),
        (json!({ "layout": "raid" }), "thin or thick is expected"),
    ] {
        let refused = host.create("never", opts).await.unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }

    host.node.power_cycle().await.unwrap();
    // Everything but LVM's disks is gone.
    host.node.sh("rm -rf /var/lib/dockline/* /run/dockline").await.unwrap();
    host.start().await.unwrap();
    let mut names: Vec<_> = KINDS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    names.push("plain".to_owned());
    names.sort();
    assert_eq!(host.names().await, names);
    for (name, fs, layout) in KINDS {
        let shown = host.call("Get", json!({ "Name": name })).await.unwrap();
        let status = &shown["Volume"]["Status"];
        assert_eq!((&status["fs"], &status["layout"]), (&json!(fs), &json!(layout)));
        let at = host.mount(name).await;
        assert_eq!(host.node.sh(format!("cat {at}/file")).await.unwrap(), name);
        host.unmount(name).await;
        host.remove(name).await.unwrap();
        host.remove(name).await.unwrap();
    }
    host.settled(1).await;
    assert_eq!(host.names().await, ["plain"]);
    host.lab.down().await.unwrap();
}

impl Host {
    /// What removing says while another mount namespace has the volume.
    async fn remove_while_held(&self, name: &str, at: &str) -> String {
        let hold =
            "exec unshare -m --propagation private sh -c 'cd /; touch /run/held; exec sleep 100'";
        self.node.start("holder", Cmd::sh(hold)).await.unwrap();
        let held = Cmd::sh("test -e /run/held");
        self.node.wait_for("a holder", Duration::from_secs(10), held).await.unwrap();
        self.unmount(name).await;
        let refused = self.remove(name).await.unwrap_err();
        self.node.sh(format!("rm /run/held; pkill -x sleep; test ! -e {at}")).await.unwrap();
        refused
    }
}

/// Other volume plugins leave a logical volume behind that can be neither made nor removed.
#[tokio::test]
async fn killed_at_any_moment_it_keeps_its_word() {
    let host = Host::boot("killed", Userland::Debian12).await.unwrap();
    host.create("stays", json!({ "size": "16M", "fs": "ext4" })).await.unwrap();
    for round in 0..12u64 {
        let name = format!("v{round}");
        let name = name.as_str();
        let layout = if round % 2 == 0 { "thin" } else { "thick" };
        let opts = json!({ "size": "16M", "fs": "ext4", "layout": layout });
        let life = async {
            let create = json!({ "Name": name, "Opts": opts.clone() });
            let created = host.try_call("Create", &create).await?;
            host.try_call("Remove", &json!({ "Name": name }))
                .await
                .map(|removed| (created, removed))
        };
        let killed = async {
            // Spread over the second or so that making and removing takes.
            let at = Duration::from_millis(60 + 90 * round);
            let program = ["dockline-vol", "dockline-lvm"][usize::from(round % 3 == 2)];
            let script = format!("sleep {}; pkill -KILL -x {program} || true", at.as_secs_f32());
            host.node.sh(script).await.unwrap();
            program
        };
        let (_, program) = tokio::join!(life, killed);
        if program == "dockline-vol" {
            host.start().await.unwrap();
        }
        let there = host.names().await;
        assert!(there == ["stays"] || there == ["stays".to_owned(), name.to_owned()], "{there:?}");
        // What dockerd does next.
        host.create(name, opts).await.unwrap();
        host.mount(name).await;
        host.unmount(name).await;
        host.remove(name).await.unwrap();
        host.settled(1).await;
    }
    host.lab.down().await.unwrap();
}

#[tokio::test]
async fn a_power_cut_leaves_no_half_a_volume() {
    let host = Host::boot("power cuts", Userland::Debian12).await.unwrap();
    for round in 0..5u64 {
        let name = format!("v{round}");
        let begun = host.node.start(
            "create",
            Cmd::new("perl").args([
                "/root/call.pl".to_owned(),
                "VolumeDriver.Create".to_owned(),
                json!({ "Name": name, "Opts": { "size": "16M", "fs": "ext4" } }).to_string(),
            ]),
        );
        begun.await.unwrap();
        host.node.sh(format!("sleep {}", 0.1 + 0.15 * round as f32)).await.unwrap();
        host.node.power_cycle().await.unwrap();
        host.start().await.unwrap();
        host.create(&name, json!({ "size": "16M", "fs": "ext4" })).await.unwrap();
        host.mount(&name).await;
        host.unmount(&name).await;
        host.settled(usize::try_from(round).unwrap() + 1).await;
    }
    host.lab.down().await.unwrap();
}

#[tokio::test]
async fn with_lvm_hanging_what_needs_no_lvm_is_answered() {
    let host = Host::boot("LVM hangs", Userland::Debian12).await.unwrap();
    host.create("data1", json!({ "size": "16M", "fs": "ext4" })).await.unwrap();
    host.node.start("lock", "flock -x /run/lock/lvm/V_vg sleep 40").await.unwrap();
    let locked = Cmd::sh("! flock -n -x /run/lock/lvm/V_vg true");
    host.node.wait_for("the lock", Duration::from_secs(5), locked).await.unwrap();
    let creating = host.create("data2", json!({ "size": "16M", "fs": "ext4" }));
    let asking = async {
        let started = Instant::now();
        assert_eq!(host.names().await, ["data1"]);
        let found = host.call("Get", json!({ "Name": "data1" })).await.unwrap();
        assert_eq!(found["Volume"]["Name"], "data1");
        let at = host.mount("data1").await;
        host.node.sh(format!("echo x >{at}/file")).await.unwrap();
        host.unmount("data1").await;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    };
    let (created, ()) = tokio::join!(creating, asking);
    let refused = created.unwrap_err();
    assert!(refused.contains("LVM has not finished `lvcreate"), "{refused}");
    // Once the lock is free the command that was begun goes on, and its volume is taken away.
    host.node
        .wait_for(
            "the lock's end",
            Duration::from_secs(40),
            Cmd::sh("flock -x /run/lock/lvm/V_vg true"),
        )
        .await
        .unwrap();
    host.create("data2", json!({ "size": "16M", "fs": "ext4" })).await.unwrap();
    host.settled(2).await;
    host.lab.down().await.unwrap();
}

#[tokio::test]
async fn volumes_grow_while_they_are_written_to() {
    let host = Host::boot("growth", Userland::Debian12).await.unwrap();
    for (name, fs, layout) in [("a", "xfs", "thin"), ("b", "ext4", "thick"), ("c", "btrfs", "thin")]
    {
        host.create(name, json!({ "size": "300M", "fs": fs, "layout": layout })).await.unwrap();
        let at = host.mount(name).await;
        let write = format!(
            "while test ! -e /run/stop-{name}; do head -c 65536 /dev/zero >>{at}/file; sync {at}/file; done"
        );
        host.node.start(&format!("writer-{name}"), Cmd::sh(write)).await.unwrap();
        let resize = format!("/lab/bin/dockline volume resize {name} 500M -o json");
        let started = Instant::now();
        let resized = host.node.sh(resize).await.unwrap();
        println!("{fs}, {layout}: 300 to 500 MiB in {:?}", started.elapsed());
        assert!(resized.contains("\"500MiB\""), "{resized}");
        let room = host.node.sh(format!("df -BM --output=size {at} | tail -n1")).await.unwrap();
        let room: u32 = room.trim().trim_end_matches('M').parse().unwrap();
        assert!(room > 400, "{fs}: {room} MiB");

        // LVM has done its part, and the daemon dies before it does the rest.
        host.node.kill_program("dockline-vol").await.unwrap();
        host.node.sh(format!("lvextend -q -L 700M vg/$(lvs --noheadings -o name @dockline.name={name} | tr -d ' ')")).await.unwrap();
        host.start().await.unwrap();
        let room = host.node.sh(format!("df -BM --output=size {at} | tail -n1")).await.unwrap();
        let room: u32 = room.trim().trim_end_matches('M').parse().unwrap();
        assert!(room > 600, "{fs}: {room} MiB");
        host.node.sh(format!("touch /run/stop-{name}; test -s {at}/file")).await.unwrap();
        host.unmount(name).await;
    }
    let refused = host.node.output("/lab/bin/dockline volume resize a 300M").await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("xfs cannot shrink"), "{refused:?}");
    println!("{}", host.node.sh("/lab/bin/dockline volume ls").await.unwrap());
    host.lab.down().await.unwrap();
}

#[tokio::test]
async fn limits_hold_on_cgroup_v2_and_come_back_after_a_restart() {
    let host = Host::boot("limits", Userland::Debian12).await.unwrap();
    host.create("a", json!({ "size": "300M", "write-bps": "1MiB" })).await.unwrap();
    let at = host.mount("a").await;
    let container = format!(
        "mkdir /sys/fs/cgroup/c; mkfifo /run/go; exec unshare -m --propagation private sh -c '\
         echo $$ >/sys/fs/cgroup/c/cgroup.procs; while read line </run/go; do \
         dd if=/dev/zero of={at}/file bs=256K count=40 oflag=direct status=none; touch /run/done; done'"
    );
    host.node.start("container", Cmd::sh(container)).await.unwrap();
    let in_force = async |rule: &str| {
        let look = Cmd::sh(format!("grep -q '{rule}' /sys/fs/cgroup/c/io.max"));
        host.node.wait_for(rule, Duration::from_secs(10), look).await.unwrap();
    };
    let write = async || {
        let script = "rm -f /run/done; s=$(date +%s%N); echo >/run/go; \
            while ! test -e /run/done; do sleep 0.01; done; echo $((($(date +%s%N) - s) / 1000000))";
        host.node.sh(script).await.unwrap().parse::<u64>().unwrap()
    };
    in_force("wbps=1048576").await;
    let one = write().await;
    host.node.sh("/lab/bin/dockline volume limit a --write-bps 5MiB").await.unwrap();
    in_force("wbps=5242880").await;
    let five = write().await;
    println!("10 MiB: {one} ms at 1 MiB/s, {five} ms at 5 MiB/s");
    assert!(one > 9_000 && five > 1_800, "{one} ms, {five} ms");
    // Not held up by being looked after: a busy machine may add to it, though not this much.
    assert!(one < 20_000 && five < 10_000, "{one} ms, {five} ms");

    host.node.kill_program("dockline-vol").await.unwrap();
    host.node
        .sh("echo \"$(cut -d' ' -f1 /sys/fs/cgroup/c/io.max) wbps=max\" >/sys/fs/cgroup/c/io.max")
        .await
        .unwrap();
    host.start().await.unwrap();
    in_force("wbps=5242880").await;
    host.node.sh("/lab/bin/dockline volume limit a --write-bps none").await.unwrap();
    let left = host.node.sh("cat /sys/fs/cgroup/c/io.max").await.unwrap();
    assert_eq!(left, "", "lifted at once");
    host.lab.down().await.unwrap();
}
