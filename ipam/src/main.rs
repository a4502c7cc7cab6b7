//! `dockline-ipam`: the IPAM plugin, from `main` to serving.

use std::process::ExitCode;

fn main() -> ExitCode {
    dockline_ipam::run()
}
