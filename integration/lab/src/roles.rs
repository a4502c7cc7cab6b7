//! Programs a node can play a part with: Open vSwitch, dockerd, etcd.
//!
//! Each is started as its package would start it, with its data on the node's own disk, and is
//! waited for until it answers. After a crash or a power cut the same call starts it again on its
//! data. How to kill, stop or freeze one is in [`crate::faults`].

use std::time::Duration;

use crate::command::Cmd;
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::Node;

/// How long a program may take until it answers. Go programs are slow under a user-mode kernel.
const PATIENCE: Duration = Duration::from_secs(60);

/// The database of Open vSwitch; where the machine's own one cannot shine through.
const OVS_DATABASE: &str = "/var/lib/openvswitch/conf.db";

/// Dockline's daemons; the folder of this build's programs is on a node's PATH.
const DOCKLINE: [&str; 3] = ["dockline-ipam", "dockline-net", "dockline-vol"];

impl Node {
    /// Starts Open vSwitch with the kernel datapath; waits the start-up trap of its daemon out.
    pub async fn start_ovs(&self) -> Result<(), LabError> {
        self.run("modprobe openvswitch").await?;
        self.start_ovsdb().await?;
        self.start_vswitchd().await
    }

    /// Starts ovsdb-server alone.
    pub async fn start_ovsdb(&self) -> Result<(), LabError> {
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        let prepare = format!(
            "mkdir -p /run/openvswitch; [ -e {OVS_DATABASE} ] || ovsdb-tool create {OVS_DATABASE} {schema}"
        );
        self.sh(prepare).await?;
        let server = Cmd::new("ovsdb-server").args([
            OVS_DATABASE,
            "--remote=punix:/run/openvswitch/db.sock",
            "--pidfile=/run/openvswitch/ovsdb-server.pid",
        ]);
        self.start("ovsdb-server", server).await?;
        let answers = "ovs-vsctl --no-wait --timeout=5 init";
        self.wait_for("an answer of ovsdb-server", PATIENCE, answers).await.map(drop)
    }

    /// Starts ovs-vswitchd alone, once the node is old enough, and waits until it has taken the
    /// database's content on.
    pub async fn start_vswitchd(&self) -> Result<(), LabError> {
        self.ready_for_ovs().await?;
        let daemon = Cmd::new("ovs-vswitchd")
            .args(["unix:/run/openvswitch/db.sock", "--pidfile=/run/openvswitch/ovs-vswitchd.pid"]);
        self.start("ovs-vswitchd", daemon).await?;
        // The daemon names its version only once it has configured itself; then a change that
        // waits for it comes back.
        let answers = Cmd::sh(
            "[ \"$(ovs-vsctl --timeout=5 get Open_vSwitch . datapath_types)\" != '[]' ]; \
             ovs-vsctl --timeout=5 set Open_vSwitch . external_ids:lab=ready",
        );
        self.wait_for("an answer of ovs-vswitchd", PATIENCE, answers).await.map(drop)
    }

    /// Starts dockerd with overlay2 and without iptables, on its default socket, with more options
    /// if wanted, and waits until it answers.
    pub async fn start_dockerd(&self, options: &[&str]) -> Result<(), LabError> {
        // A daemon that lost its power leaves these; its own start script would remove them.
        self.sh("rm -f /run/docker.pid /run/docker.sock").await?;
        let dockerd = Cmd::new("dockerd").args(["--iptables=false", "--storage-driver=overlay2"]);
        self.start("dockerd", dockerd.args(options.iter().copied())).await?;
        self.wait_for("an answer of dockerd", PATIENCE, "docker version").await.map(drop)
    }

    /// Starts Dockline's three daemons, as this build made them, and waits until all are up and have
    /// what they need (Open vSwitch among it).
    pub async fn start_dockline(&self) -> Result<(), LabError> {
        // A distribution's udev and kmod would load these at the first use.
        self.run("modprobe -a loop ipv6").await?;
        for daemon in DOCKLINE {
            self.start(daemon, daemon).await?;
        }
        self.wait_for("all of dockline's daemons", PATIENCE, "dockline status").await.map(drop)
    }

    /// Makes a volume group `vg0` with a thin pool of the node's first disk.
    pub async fn make_volume_group(&self) -> Result<(), LabError> {
        let group = "vgcreate vg0 /dev/ubda && lvcreate --type thin-pool -l 90%FREE -n pool vg0";
        self.sh(group).await.map(drop)
    }

    /// Writes Dockline's configuration file. For before [`Self::start_dockline`].
    pub async fn configure_dockline(&self, config: &str) -> Result<(), LabError> {
        self.run("mkdir -p /etc/dockline").await?;
        self.write("/etc/dockline/dockline.toml", config).await?;
        // So that it is there after a power cut, too.
        self.run("sync").await.map(drop)
    }

    /// Makes the image `busybox:lab` out of the node's own busybox, as nothing can be pulled.
    pub async fn import_busybox(&self) -> Result<(), LabError> {
        let script = "d=$(mktemp -d); mkdir -p $d/bin $d/tmp $d/proc $d/sys $d/dev $d/etc; \
            cp /bin/busybox $d/bin/; \
            for name in $($d/bin/busybox --list); do \
              [ $name = busybox ] || ln -s busybox $d/bin/$name; \
            done; \
            tar -C $d -c . | docker import --change 'CMD [\"sh\"]' - busybox:lab; rm -r $d";
        self.sh(script).await.map(drop)
    }

    /// Starts this node's member of an etcd cluster whose members are the given nodes, at their
    /// trunk addresses; does not wait for the others.
    pub async fn start_etcd_member(&self, members: &[Node]) -> Result<(), LabError> {
        let peer = |node: &Node| {
            let address = node.address().ok_or_else(|| {
                node.no_such("trunk card with an address, which a member of etcd needs".to_owned())
            })?;
            Ok::<_, LabError>(format!("http://{address}:2380"))
        };
        let mut cluster = Vec::new();
        for member in members {
            cluster.push(format!("{}={}", member.name(), peer(member)?));
        }
        let (peer, cluster) = (peer(self)?, cluster.join(","));
        let client = peer.replace("2380", "2379");
        let etcd = Cmd::new("etcd").args([
            "--name",
            self.name(),
            "--data-dir",
            "/var/lib/etcd/member",
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--listen-client-urls",
            &format!("{client},http://127.0.0.1:2379"),
            "--advertise-client-urls",
            &client,
            "--initial-cluster",
            &cluster,
            "--initial-cluster-state",
            "new",
            // All nodes share few CPUs: the defaults of 100 ms and 1 s would elect for ever.
            "--heartbeat-interval",
            "300",
            "--election-timeout",
            "3000",
        ]);
        self.start("etcd", etcd).await.map(drop)
    }

    /// Waits until this node's member of an etcd cluster serves, which takes a majority.
    pub async fn wait_for_etcd(&self) -> Result<(), LabError> {
        let healthy = Cmd::from("etcdctl endpoint health").env("ETCDCTL_API", "3");
        self.wait_for("a healthy etcd", PATIENCE, healthy).await.map(drop)
    }
}

impl Lab {
    /// Starts an etcd cluster on all nodes and waits until every member serves; returns the
    /// endpoints.
    pub async fn start_etcd(&self) -> Result<Vec<String>, LabError> {
        let mut endpoints = Vec::new();
        for node in self.nodes() {
            node.start_etcd_member(self.nodes()).await?;
            endpoints.extend(node.address().map(|address| format!("http://{address}:2379")));
        }
        for node in self.nodes() {
            node.wait_for_etcd().await?;
        }
        Ok(endpoints)
    }
}
