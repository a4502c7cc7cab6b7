//! A private etcd cluster: real members on loopback, with their data in a folder of the test's own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use dockline_exec::Program;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::wait::eventually;

/// How long a cluster may take to elect a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often another set of ports is tried, should somebody else take one meanwhile.
const TRIES: usize = 4;

/// Ports that the kernel does not give to outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

#[derive(Debug)]
struct Member {
    client: u16,
    peer: u16,
    daemon: Option<Daemon>,
}

/// The private cluster.
#[derive(Debug)]
pub struct Etcd {
    // The members must be gone before their folder.
    members: Vec<Member>,
    tls: bool,
    folder: TempDir,
}

impl Etcd {
    /// Starts so many members and waits until all are well.
    pub async fn start(members: usize) -> anyhow::Result<Self> {
        Self::start_in(members, false).await
    }

    /// Starts one member that talks only over TLS, and only to those who have a certificate of its
    /// authority. See [`Self::file`] for `ca.pem`, `client.pem` and `client.key`.
    pub async fn start_with_tls() -> anyhow::Result<Self> {
        Self::start_in(1, true).await
    }

    async fn start_in(members: usize, tls: bool) -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..TRIES {
            match Self::try_start(members, tls).await {
                Ok(etcd) => return Ok(etcd),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt was made")?)
    }

    async fn try_start(members: usize, tls: bool) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("etcd")?;
        let mut ports = free_ports(members * 2)?.into_iter();
        let mut member = || {
            let (client, peer) = (ports.next(), ports.next());
            let (client, peer) = (client.unwrap_or_default(), peer.unwrap_or_default());
            Member { client, peer, daemon: None }
        };
        let members = (0..members).map(|_| member()).collect();
        let mut etcd = Self { members, tls, folder };
        if tls {
            certificates(etcd.folder.path()).await?;
        }
        for member in 0..etcd.members.len() {
            etcd.run(member).await?;
        }
        etcd.wait_until_well().await?;
        Ok(etcd)
    }

    /// The members' client URLs.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| self.url(member.client)).collect()
    }

    /// A file in the cluster's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self, port: u16) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// Starts a member that does not run, with the data it has.
    pub async fn run(&mut self, member: usize) -> anyhow::Result<()> {
        let (pid_file, log) =
            (self.file(&format!("{member}.pid")), self.file(&format!("{member}.log")));
        let cluster = self.members.iter().enumerate();
        let cluster: Vec<_> =
            cluster.map(|(at, member)| format!("m{at}=http://127.0.0.1:{}", member.peer)).collect();
        let Member { client, peer, .. } = self.members[member];
        let (client, peer) = (self.url(client), format!("http://127.0.0.1:{peer}"));
        let mut arguments = vec![
            format!("--name=m{member}"),
            format!("--data-dir={}", self.file(&format!("{member}.data")).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", cluster.join(",")),
            "--initial-cluster-state=new".to_owned(),
            "--logger=zap".to_owned(),
            format!("--log-outputs={}", log.display()),
        ];
        if self.tls {
            arguments.push("--client-cert-auth".to_owned());
            for (option, file) in [
                ("cert-file", "server.pem"),
                ("key-file", "server.key"),
                ("trusted-ca-file", "ca.pem"),
            ] {
                arguments.push(format!("--{option}={}", self.file(file).display()));
            }
        }
        // etcd writes no file with its process id; this writes its own and then becomes etcd.
        let shape = |starter: Program| {
            starter
                .args(["--start", "--quiet", "--make-pidfile", "--pidfile"])
                .arg(&pid_file)
                .args(["--startas", "/usr/bin/etcd", "--"])
                .args(arguments)
        };
        anyhow::ensure!(
            Path::new("/usr/bin/etcd").exists(),
            "/usr/bin/etcd is missing: `apt-get install etcd-server`"
        );
        let daemon = Daemon::start("start-stop-daemon", &pid_file, shape).await;
        self.members[member].daemon =
            Some(daemon.with_context(|| format!("etcd: see {}", log.display()))?);
        Ok(())
    }

    /// Waits until every member that runs has a leader.
    pub async fn wait_until_well(&self) -> anyhow::Result<()> {
        let running = self.members.iter().filter(|member| member.daemon.is_some());
        let endpoints: Vec<_> = running.map(|member| self.url(member.client)).collect();
        let health = self.ctl_of(&endpoints).args(["endpoint", "health"]);
        eventually("etcd to be well", PATIENCE, async || health.clone().run().await.ok()).await?;
        Ok(())
    }

    /// The member that leads.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        eventually("etcd to have a leader", PATIENCE, async || {
            for (at, member) in self.members.iter().enumerate() {
                let running = member.daemon.is_some();
                let status = self.ctl_of(&[self.url(member.client)]);
                let status = status.args(["endpoint", "status"]).deadline(Duration::from_secs(3));
                // Comma-separated: endpoint, id, version, size, whether it leads.
                if running
                    && let Ok(status) = status.run().await
                    && status.text().split(", ").nth(4) == Some("true")
                {
                    return Some(at);
                }
            }
            None
        })
        .await
    }

    /// Ends a member and waits until it is gone.
    pub async fn end(&mut self, member: usize, signal: Signal) -> anyhow::Result<()> {
        let daemon = self.members[member].daemon.take();
        daemon.context("it does not run")?.end(signal).await
    }

    /// Stops a member in its tracks (SIGSTOP) until [`Self::resume`].
    pub fn pause(&self, member: usize) -> anyhow::Result<()> {
        self.daemon(member)?.signal(Signal::SIGSTOP)
    }

    /// Lets a stopped member go on.
    pub fn resume(&self, member: usize) -> anyhow::Result<()> {
        self.daemon(member)?.signal(Signal::SIGCONT)
    }

    fn daemon(&self, member: usize) -> anyhow::Result<&Daemon> {
        self.members[member].daemon.as_ref().context("it does not run")
    }

    /// `etcdctl` on all members.
    pub fn ctl(&self) -> Program {
        self.ctl_of(&self.endpoints())
    }

    fn ctl_of(&self, endpoints: &[String]) -> Program {
        let ctl = Program::new("etcdctl").env("ETCDCTL_API", "3");
        let ctl = ctl.arg(format!("--endpoints={}", endpoints.join(",")));
        if !self.tls {
            return ctl;
        }
        [("cacert", "ca.pem"), ("cert", "client.pem"), ("key", "client.key")]
            .into_iter()
            .fold(ctl, |ctl, (option, file)| {
                ctl.arg(format!("--{option}={}", self.file(file).display()))
            })
    }
}

/// So many ports of loopback on which nobody listens.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let mut held = Vec::new();
    let span = u32::from(PORTS.end - PORTS.start);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    // Processes that look at the same time begin at different places.
    let start = std::process::id().wrapping_mul(37).wrapping_add(now.subsec_micros());
    for step in 0..span {
        if held.len() == count {
            break;
        }
        let offset = u16::try_from(start.wrapping_add(step) % span)?;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, PORTS.start + offset)) {
            held.push(listener);
        }
    }
    anyhow::ensure!(held.len() == count, "no ports are free on loopback");
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// An authority, and certificates of it for the server and for a client.
async fn certificates(folder: &Path) -> anyhow::Result<()> {
    let openssl = || Program::new("openssl").folder(folder);
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    openssl()
        .args(["req", "-x509", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"])
        .args(key)
        .run()
        .await
        .context("openssl is needed: `apt-get install openssl`")?;
    for (name, more) in
        [("server", "subjectAltName=IP:127.0.0.1"), ("client", "extendedKeyUsage=clientAuth")]
    {
        let (key_file, request) = (format!("{name}.key"), format!("{name}.csr"));
        openssl()
            .args(["req", "-subj", &format!("/CN={name}"), "-keyout", &key_file, "-out", &request])
            .args(&key[..5])
            .run()
            .await?;
        std::fs::write(folder.join("extensions"), more)?;
        openssl()
            .args(["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"])
            .args(["-days", "2", "-extfile", "extensions", "-in", &request, "-out"])
            .arg(format!("{name}.pem"))
            .run()
            .await?;
    }
    Ok(())
}
