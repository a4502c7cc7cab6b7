//! A lab: its building, its nodes, its end.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockline_exec::Program;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::boot_config::BootConfig;
use crate::channel::Channel;
use crate::error::{LabError, io};
use crate::mark::LabId;
use crate::namespace::Namespace;
use crate::node::{Inner, Node, Power};
use crate::sweep::{Reaper, sweep, tear_down};
use crate::topology::{Builder, NodeSpec, Userland};
use crate::trunk::{Taps, Trunk};
use crate::uml::Kernel;
use crate::wire::AGENT_PORT;
use crate::{collect, images, tools};

/// The size of the disk that keeps what a node writes over its root; sparse.
const SYSTEM_DISK: u64 = 16 << 30;

/// A booted lab. It is torn down to nothing when it ends in whatever way; one that ends without
/// [`Lab::down`] is taken to have failed, and its nodes' logs are kept.
#[derive(Debug)]
pub struct Lab {
    title: String,
    id: LabId,
    nodes: Vec<Node>,
    /// Held open so that the lab ends with its owner.
    _reaper: Reaper,
    /// Whether a lab that ends without having finished has failed a test.
    is_test: bool,
    finished: bool,
}

impl Lab {
    /// Begins a topology; the title is for people.
    pub fn builder(title: impl Into<String>) -> Builder {
        Builder::new(title.into())
    }

    /// The lab's identity: its folder and its namespace.
    pub fn id(&self) -> LabId {
        self.id
    }

    /// All nodes, in the topology's order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<Node, LabError> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.cloned().ok_or_else(|| LabError::NoSuchNode {
            node: name.to_owned(),
            known: self.nodes.iter().map(Node::name).collect::<Vec<_>>().join(", "),
        })
    }

    /// Copies every node's console and chosen logs into a folder and returns it. Nodes that have no
    /// power give their console only.
    pub async fn collect_logs(&self) -> Result<PathBuf, LabError> {
        collect::logs(&self.title, self.id, &self.nodes).await
    }

    /// Ends a lab that has served its purpose, and leaves nothing behind.
    pub async fn down(mut self) -> Result<(), LabError> {
        self.finished = true;
        for node in &self.nodes {
            node.power_off().await?;
        }
        tear_down(self.id)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.is_test && !self.finished {
            collect::logs_on_failure(&self.title, self.id, &self.nodes);
        }
        if let Err(error) = tear_down(self.id) {
            // Nobody is left to hand it to; the reaper tries again.
            eprintln!("lab {}: {error}", self.id);
        }
    }
}

impl Builder {
    /// Builds the lab and boots all its nodes; prints what it booted and how long it took.
    pub async fn boot(self) -> Result<Lab, LabError> {
        self.check()?;
        tools::check()?;
        for id in sweep()? {
            println!("lab: swept {id}, whose owner is dead");
        }
        let program = tools::lab_program()?;
        let started = Instant::now();
        let id = LabId::fresh().map_err(io("name the lab"))?;
        let reaper = Reaper::start(&program, id)?;
        // From here on the guard removes whatever was made.
        let mut lab = Lab {
            title: self.title.clone(),
            id,
            nodes: Vec::new(),
            _reaper: reaper,
            is_test: !self.quiet,
            finished: true,
        };
        std::fs::create_dir_all(id.folder()).map_err(io("make the lab's folder"))?;
        let namespace = Arc::new(Namespace::create(id.namespace())?);
        let links: Vec<_> = (0..)
            .zip(&self.nodes)
            .map(|(at, node)| (Taps::of(at, node.cards.len()), control_address(at, 1).to_string()))
            .collect();
        let trunk = Arc::new(Trunk::build(Arc::clone(&namespace), &links).await?);
        for at in 0..self.nodes.len() {
            let node = self.build(at, id, &program, &namespace, &trunk).await?;
            lab.nodes.push(node);
        }
        lab.finished = false;
        let booted = boot_all(&lab.nodes).await?;
        let names: Vec<String> = lab
            .nodes
            .iter()
            .zip(booted)
            .map(|(node, took)| {
                format!("{} ({:?}, {:.1} s)", node.name(), node.userland(), took.as_secs_f32())
            })
            .collect();
        let took = started.elapsed().as_secs_f32();
        let line =
            format!("lab {id} \"{}\": booted {} in {took:.1} s", self.title, names.join(", "));
        if self.quiet {
            eprintln!("{line}");
        } else {
            println!("{line}");
        }
        Ok(lab)
    }

    async fn build(
        &self,
        at: usize,
        id: LabId,
        program: &Path,
        namespace: &Arc<Namespace>,
        trunk: &Arc<Trunk>,
    ) -> Result<Node, LabError> {
        let spec = &self.nodes[at];
        let folder = id.folder().join(&spec.name);
        std::fs::create_dir(&folder).map_err(io("make a node's folder"))?;
        let root = match spec.userland {
            Userland::Debian12 => PathBuf::from("/"),
            Userland::Debian13 => images::debian13().await?,
        };
        let mut shares = spec.shares.clone();
        let bin = program.parent().unwrap_or(Path::new("/"));
        shares.push((bin.to_owned(), PathBuf::from("/lab/bin")));
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let addresses = (0..).zip(&spec.cards).filter_map(|(card, spec)| {
            let (address, prefix) = spec.address?;
            Some((format!("vec{card}"), format!("{address}/{prefix}")))
        });
        let config = BootConfig {
            name: spec.name.clone(),
            boot: 0,
            program: format!("/lab/bin/{name}"),
            root,
            shares,
            lab_address: control_address(at, 1),
            node_address: control_address(at, 2),
            addresses: addresses.collect(),
            hosts: self.hosts(),
        };
        let taps = Taps::of(at, spec.cards.len());
        let kernel = self.kernel(at, folder, program, namespace, &taps).await?;
        Ok(Node(Arc::new(Inner {
            name: spec.name.clone(),
            userland: spec.userland,
            channel: Channel {
                node: spec.name.clone(),
                namespace: Arc::clone(namespace),
                agent: (config.node_address, AGENT_PORT).into(),
            },
            kernel,
            config,
            taps,
            trunk: Arc::clone(trunk),
            patience: self.patience,
            logs: spec.logs.clone(),
            power: Mutex::new(Power::default()),
        })))
    }

    async fn kernel(
        &self,
        at: usize,
        folder: PathBuf,
        program: &Path,
        namespace: &Namespace,
        taps: &Taps,
    ) -> Result<Kernel, LabError> {
        let spec = &self.nodes[at];
        let mac = |card: usize| format!("02:d0:c1:00:{at:02x}:{card:02x}");
        let cards = taps.cards.iter().enumerate().map(|(card, tap)| (tap.clone(), mac(card)));
        Ok(Kernel {
            name: spec.name.clone(),
            namespace: namespace.handle().to_owned(),
            init: program.to_owned(),
            config: folder.join("boot.json"),
            memory: spec.memory,
            cpu: spec.cpu.unwrap_or_else(|| cpu_for(at)),
            disks: disks(spec, &folder).await?,
            cards: cards.collect(),
            control: (taps.control.clone(), mac(0xff)),
            folder,
        })
    }

    /// Every node that has an address on the trunk, by name.
    fn hosts(&self) -> Vec<(String, String)> {
        let host = |node: &NodeSpec| {
            let (address, _) = node.cards.iter().find_map(|card| card.address)?;
            Some((node.name.clone(), address.to_string()))
        };
        self.nodes.iter().filter_map(host).collect()
    }
}

/// The lab's (1) or the node's (2) address on a node's control link; nobody else sees it.
fn control_address(node: usize, end: u8) -> Ipv4Addr {
    Ipv4Addr::new(169, 254, u8::try_from(node).unwrap_or(u8::MAX), end)
}

/// Spreads nodes over the CPUs this process may use; two labs that the test runner starts at once
/// begin at different ones.
fn cpu_for(node: usize) -> usize {
    let slot = std::env::var("NEXTEST_TEST_GROUP_SLOT").ok().and_then(|slot| slot.parse().ok());
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    let allowed = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let allowed: Vec<usize> = allowed.collect();
    let turn = node + slot.unwrap_or(0);
    allowed.get(turn % allowed.len().max(1)).copied().unwrap_or(0)
}

/// Makes the images of a node's disks; the last one, for its root, with a file system.
async fn disks(spec: &NodeSpec, folder: &Path) -> Result<Vec<(usize, PathBuf)>, LabError> {
    let make = |name: String, bytes: u64| {
        let image = folder.join(name);
        let file = std::fs::File::create(&image).and_then(|file| file.set_len(bytes));
        file.map(|()| image).map_err(io("make a disk image"))
    };
    let mut disks = Vec::new();
    for (at, mib) in spec.disks.iter().enumerate() {
        disks.push((at, make(format!("disk{at}.img"), mib << 20)?));
    }
    let system = make("system.img".to_owned(), SYSTEM_DISK)?;
    let lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    let format = Program::new("mkfs.ext4").args(["-q", "-F", "-E", lazy]).arg(&system);
    format.run().await?;
    disks.push((7, system));
    Ok(disks)
}

/// Boots all nodes at once; returns how long each took.
async fn boot_all(nodes: &[Node]) -> Result<Vec<Duration>, LabError> {
    let mut boots = JoinSet::new();
    for (at, node) in nodes.iter().cloned().enumerate() {
        boots.spawn(async move { (at, node.boot().await) });
    }
    let mut took = vec![Duration::ZERO; nodes.len()];
    while let Some(booted) = boots.join_next().await {
        let (at, booted) = booted.map_err(|error| LabError::Io {
            doing: "boot the nodes".to_owned(),
            source: std::io::Error::other(error),
        })?;
        took[at] = booted?;
    }
    Ok(took)
}
