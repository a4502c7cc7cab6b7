//! The files by which Docker finds a plugin.
//!
//! A plugin called `N` is found by its socket `/run/docker/plugins/N.sock`, else by `N.spec` (one
//! address) or `N.json` in `/etc/docker/plugins` and `/usr/lib/docker/plugins`. The files' names
//! are the names users write after `-d` (source: moby `pkg/plugins/discovery.go`).

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The folder of plugins' sockets. Docker probes every socket in it, so nothing else belongs there.
pub const SOCKETS: &str = "/run/docker/plugins";

/// The content of a `.spec` file.
pub fn spec(socket: &Path) -> String {
    format!("unix://{}\n", socket.display())
}

/// A `.json` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Manifest {
    /// The plugin's name.
    pub name: String,
    /// Its address, such as `unix:///run/docker/plugins/dockline-net.sock`.
    pub addr: String,
}

impl Manifest {
    /// The manifest of a plugin on this socket.
    pub fn new(name: &str, socket: &Path) -> Self {
        Self { name: name.to_owned(), addr: format!("unix://{}", socket.display()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files in `discovery/` are what this module would write.
    #[test]
    fn the_shipped_files_are_true() {
        for name in ["dockline-net", "dockline-ipam", "dockline-vol"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("discovery");
            let socket = Path::new(SOCKETS).join(format!("{name}.sock"));
            let shipped = |ending: &str| {
                std::fs::read_to_string(folder.join(format!("{name}.{ending}"))).unwrap()
            };
            assert_eq!(shipped("spec"), spec(&socket));
            let manifest: Manifest = serde_json::from_str(&shipped("json")).unwrap();
            assert_eq!(manifest, Manifest::new(name, &socket));
        }
    }
}
