//! Keeping what a failed test leaves behind: every node's console and chosen logs, in a folder
//! whose name is printed.

use std::path::PathBuf;
use std::time::Duration;

use crate::command::Cmd;
use crate::error::{LabError, io};
use crate::mark::LabId;
use crate::node::Node;
use crate::tools;

/// What is asked of every node that still answers: the file's name and a command whose output it is.
const ALWAYS: [(&str, &str); 4] = [
    ("dmesg", "dmesg"),
    ("processes", "busybox ps"),
    ("mounts", "cat /proc/mounts"),
    ("links", "ip -details address"),
];

/// How long one log of one node may take: the node may be the thing that failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Collects into a folder beside the lab's program and returns it.
pub(crate) async fn logs(title: &str, id: LabId, nodes: &[Node]) -> Result<PathBuf, LabError> {
    let program = tools::lab_program()?;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let title: String = title.chars().map(plain).collect();
    let folder = program.with_file_name("lab-logs").join(format!("{title}-{id}"));
    for node in nodes {
        let folder = folder.join(node.name());
        std::fs::create_dir_all(&folder).map_err(io("make a folder for the logs"))?;
        // A node that never had power has no console.
        if node.console().exists() {
            std::fs::copy(node.console(), folder.join("console.log"))
                .map_err(io("keep a node's console"))?;
        }
        for (name, command) in ALWAYS {
            keep(node, &folder.join(name), command.into()).await;
        }
        let paths = ["/var/log/lab"].into_iter().chain(node.0.logs.iter().map(String::as_str));
        let tar = Cmd::new("tar").args(["-c", "--ignore-failed-read"]).args(paths);
        keep(node, &folder.join("logs.tar"), tar).await;
    }
    Ok(folder)
}

/// Keeps a command's output; a node that cannot give it leaves a file that says so.
async fn keep(node: &Node, path: &std::path::Path, cmd: Cmd) {
    let text = match node.output(cmd.deadline(PATIENCE)).await {
        Ok(output) => output.stdout,
        Err(error) => error.to_string().into_bytes(),
    };
    if let Err(error) = std::fs::write(path, text) {
        eprintln!("lab: could not keep {}: {error}", path.display());
    }
}

/// The same from a destructor, which cannot wait: in a thread with a runtime of its own.
pub(crate) fn logs_on_failure(title: &str, id: LabId, nodes: &[Node]) {
    let collect = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(io("start a runtime"))?.block_on(logs(title, id, nodes))
    };
    let collected = std::thread::scope(|scope| scope.spawn(collect).join());
    match collected {
        Ok(Ok(folder)) => eprintln!("lab {id} failed: its logs are in {}", folder.display()),
        Ok(Err(error)) => eprintln!("lab {id} failed, and its logs could not be kept: {error}"),
        Err(_) => eprintln!("lab {id} failed, and collecting its logs panicked"),
    }
}
