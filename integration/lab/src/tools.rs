//! What the lab needs of the machine, looked for before anything is built.

use std::path::{Path, PathBuf};

use crate::boot_config::MODULES;
use crate::error::LabError;
use crate::uml;

/// The lab's own program, which nodes run as their agent and labs as their reaper.
///
/// It is the running program itself, or lies where cargo puts it beside the running test.
pub fn lab_program() -> Result<PathBuf, LabError> {
    const NAME: &str = "dockline-lab";
    let missing = || LabError::Missing {
        what: format!("its own program `{NAME}` beside the running one"),
        remedy: format!("build it with `cargo build -p {NAME}`"),
    };
    if let Some(told) = std::env::var_os("DOCKLINE_LAB_PROGRAM") {
        return Ok(PathBuf::from(told));
    }
    let me = std::env::current_exe().map_err(crate::error::io("find the running program"))?;
    if me.file_name().is_some_and(|name| name == NAME) {
        return Ok(me);
    }
    // A test lies in target/debug/deps, a program in target/debug.
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(NAME))
        .find(|program| program.is_file())
        .ok_or_else(missing)
}

/// Fails with what to install if the machine cannot run a node.
pub(crate) fn check() -> Result<(), LabError> {
    const NEEDED: [(&str, &str); 4] = [
        (uml::PROGRAM, "user-mode-linux"),
        (MODULES, "user-mode-linux"),
        ("/lib/systemd/systemd-udevd", "udev"),
        ("/dev/net/tun", "a kernel with TUN and root's rights"),
    ];
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError::Missing {
            what: "root's rights".to_owned(),
            remedy: "run it as root: it makes a network namespace and taps".to_owned(),
        });
    }
    for (path, package) in NEEDED {
        if !Path::new(path).exists() {
            return Err(LabError::Missing {
                what: path.to_owned(),
                remedy: format!("install {package}"),
            });
        }
    }
    Ok(())
}
