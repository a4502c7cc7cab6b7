//! The `dockline-lab` command: a ready node for people, and the lab's own helpers.

fn main() -> std::process::ExitCode {
    dockline_lab::cli::main()
}
