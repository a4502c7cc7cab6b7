//! The configuration file: one TOML file for the whole suite.
//!
//! Every key has a default that suits a single host, so that no file is needed. An unknown key or a
//! wrong value is an error that names the line: a typing error must not become a default.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use dockline_types::{ByteSize, IfName, PoolCidr};
use serde::Deserialize;

/// Where the file is looked for unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/dockline/dockline.toml";

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is wrong; the message shows the line.
    #[error("the configuration {path} is wrong")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This host's name towards the other hosts; its host name unless told otherwise. It must be
    /// unique, and stay the same.
    pub host: String,
    /// The folder of the sockets that Docker calls.
    pub plugins_dir: PathBuf,
    /// The folder of the operators' sockets and of the lock files; emptied by a reboot.
    pub run_dir: PathBuf,
    /// The folder of what must survive a reboot.
    pub state_dir: PathBuf,
    /// What is logged and how.
    pub log: Log,
    /// Where addresses are kept.
    pub store: Store,
    /// `dockline-ipam`.
    pub ipam: Ipam,
    /// `dockline-net`.
    pub net: Net,
    /// `dockline-vol`.
    pub vol: Vol,
}

/// What is logged and how.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// What is logged: a level, or a filter such as `info,dockline_ovsdb=debug`.
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

/// How lines of the log are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where addresses are kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// In a file of this host, or in etcd.
    pub kind: StoreKind,
    /// etcd: the members' client URLs.
    pub endpoints: Vec<String>,
    /// etcd: what all keys begin with; the same on all hosts of a suite.
    pub namespace: String,
    /// etcd: the certificate of the authority that signed the members', for `https`.
    pub ca: Option<PathBuf>,
    /// etcd: this host's certificate, and its key.
    pub certificate: Option<PathBuf>,
    /// See [`Self::certificate`].
    pub key: Option<PathBuf>,
    /// etcd: the user, and the file with the password.
    pub user: Option<String>,
    /// See [`Self::user`].
    pub password_file: Option<PathBuf>,
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A file in the state folder: for one host.
    Embedded,
    /// A cluster of etcd: for many hosts.
    Etcd,
}

/// `dockline-ipam`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ipam {
    /// Where a network without `--subnet` gets its pool from: each range is cut into pools.
    pub default_pools: Vec<DefaultPools>,
    /// How long an address that was released rests before another container gets it, unless no
    /// other is free; in seconds.
    pub rest_s: u64,
}

/// A range that is cut into default pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultPools {
    /// The range.
    pub base: PoolCidr,
    /// The prefix length of each pool.
    pub size: u8,
}

/// `dockline-net`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Net {
    /// The switch that containers' ports are on; made if it is missing.
    pub bridge: IfName,
    /// The socket of `ovsdb-server`.
    pub ovsdb: PathBuf,
    /// The MTU of containers' interfaces where the network does not say, in bytes.
    pub mtu: u32,
    /// How packets are switched.
    pub datapath: DatapathChoice,
    /// How often what a crash left behind is looked for, in seconds. It is removed when it is
    /// found for the second time.
    pub look_every_s: NonZeroU32,
}

/// How packets are to be switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatapathChoice {
    /// In the kernel where its module is there, else in user space.
    Auto,
    /// In the kernel.
    Kernel,
    /// In user space (`netdev`): slower, and needs no module.
    Userspace,
}

/// `dockline-vol`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vol {
    /// The folder of the volumes' images and mounts; `volumes` in the state folder unless told
    /// otherwise.
    pub root: Option<PathBuf>,
    /// The size of a volume made without `-o size=`.
    pub default_size: ByteSize,
    /// The file system of a volume made without `-o fs=`.
    pub default_fs: String,
    /// The LVM volume groups that volumes are made in; in files if there are none.
    pub groups: Vec<VolumeGroup>,
    /// How LVM is run.
    pub lvm: LvmWay,
    /// What becomes of a removed thick volume's content.
    pub wipe: WipeWay,
}

/// A volume group that volumes are made in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// What `-o class=` chooses it by.
    pub class: Option<String>,
    /// Its thin pool; the only one that it has unless told.
    pub pool: Option<String>,
}

/// How LVM is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LvmWay {
    /// By `dockline-lvm`, a process that has liblvm2cmd.
    Library,
    /// By the program `lvm`, a process for each command.
    Program,
}

/// What becomes of a removed thick volume's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WipeWay {
    /// The disk is told that it is not needed.
    Discard,
    /// It is overwritten with zeros.
    Zero,
    /// It is left there.
    None,
}

impl Default for Config {
    fn default() -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self {
            host: host.to_string_lossy().into_owned(),
            plugins_dir: dockline_plugin_specs::discovery::SOCKETS.into(),
            run_dir: "/run/dockline".into(),
            state_dir: "/var/lib/dockline".into(),
            log: Log::default(),
            store: Store::default(),
            ipam: Ipam::default(),
            net: Net::default(),
            vol: Vol::default(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// The constants below are parsed at start, which the tests do too.
#[expect(clippy::expect_used, reason = "constants of this file, parsed by its tests")]
fn constant<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a valid constant")
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Embedded,
            endpoints: Vec::new(),
            namespace: "dockline".to_owned(),
            ca: None,
            certificate: None,
            key: None,
            user: None,
            password_file: None,
        }
    }
}

impl Default for Ipam {
    /// Ranges that neither Docker's own default pools (172.17.0.0/16 to 172.31.0.0/16 and
    /// 192.168.0.0/16) nor most data centres use; for IPv6 a unique local prefix.
    fn default() -> Self {
        let pools = |base, size| DefaultPools { base: constant(base), size };
        Self {
            default_pools: vec![pools("10.209.0.0/16", 24), pools("fd64:6f63:6b6c::/48", 64)],
            rest_s: 60,
        }
    }
}

impl Default for Net {
    fn default() -> Self {
        Self {
            bridge: constant("dockline0"),
            ovsdb: "/run/openvswitch/db.sock".into(),
            mtu: 1500,
            datapath: DatapathChoice::Auto,
            look_every_s: constant("30"),
        }
    }
}

impl Default for Vol {
    fn default() -> Self {
        Self {
            root: None,
            default_size: ByteSize::from_mib(10 << 10),
            default_fs: "xfs".into(),
            groups: Vec::new(),
            lvm: LvmWay::Library,
            wipe: WipeWay::Discard,
        }
    }
}

impl Config {
    /// Reads the file at `path`; without one, the file at [`DEFAULT_PATH`] if it is there.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, needed) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|source| ConfigError::Malformed {
                path: path.to_owned(),
                source: Box::new(source),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// The operators' socket of the daemon with this short name (`net`, `ipam`, `vol`).
    pub fn admin_socket(&self, daemon: &str) -> PathBuf {
        self.run_dir.join(format!("{daemon}.sock"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Some(file.path()))
    }

    fn complaint(text: &str) -> String {
        dockline_plugin_specs::route::chain(&load(text).unwrap_err())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(load("").unwrap(), Config::default());
    }

    #[test]
    fn sections_set_what_they_name_and_nothing_else() {
        let config = load("[net]\nmtu = 9000\n[vol]\ndefault_size = \"1GiB\"").unwrap();
        assert_eq!(config.net, Net { mtu: 9000, ..Net::default() });
        assert_eq!(config.vol.default_size, ByteSize::from_mib(1024));
        assert_eq!(config.ipam, Ipam::default());
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_its_line() {
        for (text, words) in [
            ("[net]\nmtuu = 9000", ["line 2", "mtuu"]),
            ("[nett]\nmtu = 9000", ["line 1", "nett"]),
            ("[net]\nbridge = \"far-too-long-a-name\"", ["line 2", "not an interface name"]),
            ("[vol]\ndefault_size = \"10,5G\"", ["line 2", "not a size"]),
            (
                "\n[ipam]\ndefault_pools = [{base = \"10.0.0.1/8\", size = 24}]",
                ["line 3", "host bits"],
            ),
            ("[net\n", ["line 1", "net"]),
        ] {
            let complaint = complaint(text);
            assert!(words.iter().all(|word| complaint.contains(word)), "{text:?}: {complaint}");
        }
    }

    #[test]
    fn a_named_file_must_be_there() {
        let missing = Path::new("/nonexistent/dockline.toml");
        assert!(matches!(Config::load(Some(missing)), Err(ConfigError::Unreadable { .. })));
    }
}
