//! Limits on what a container's control group reads from and writes to a device.
//!
//! The kernel keeps limits for a pair of control group and device, so they are set for each
//! container that has the volume, and set again whenever they are not there. On cgroup v1
//! (`blkio.throttle.*`) limits hold for one group without those below it, so these get them too;
//! and what the kernel writes back later, for a program that did not wait for it, is not counted.
//! On v2 (`io.max`) both are. Source: Documentation/admin-guide/cgroup-v1/blkio-controller.rst and
//! cgroup-v2.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dockline_mounts::DeviceNumber;
use dockline_vol_core::Limits;

/// Where control groups are: with v2 alone, or each controller of v1 in a folder.
const ROOT: &str = "/sys/fs/cgroup";

/// How deep groups below a container's are looked for.
const DEEPEST: usize = 8;

/// The files of v1, in the order of [`Limits::numbers`].
const V1: [&str; 4] = ["read_bps", "write_bps", "read_iops", "write_iops"];

/// The keys of v2, in the same order.
const V2: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

/// A container's control group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Of cgroup v1's `blkio` controller.
    V1(PathBuf),
    /// Of cgroup v2.
    V2(PathBuf),
}

/// The control group that a process's container is; nothing for a process in no group of its own.
pub fn group_of(pid: u32) -> io::Result<Option<Group>> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Option<Group> {
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let path = container(path.trim_start_matches('/'));
        if controllers.split(',').any(|controller| controller == "blkio") {
            return (!path.is_empty()).then(|| Group::V1(Path::new(ROOT).join("blkio").join(path)));
        }
        if controllers.is_empty() && !path.is_empty() {
            unified = Some(Group::V2(Path::new(ROOT).join(path)));
        }
    }
    unified
}

/// Cuts a group's path at the component that names a container: its first process may have gone on
/// to a group of its own below.
fn container(path: &str) -> &str {
    let is_id = |part: &str| {
        part.split(['-', '.', '_'])
            .any(|word| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        if is_id(part) {
            return &path[..end];
        }
        end += 1;
    }
    path
}

impl Group {
    /// Sets the limits on a device unless they are set; those that are not given are lifted.
    ///
    /// Setting them again would begin a new slice of time for what waits already: done often
    /// enough, that never goes on (`tg_conf_updated` in the kernel's block/blk-throttle.c).
    pub fn limit(&self, device: DeviceNumber, limits: &Limits) -> io::Result<()> {
        match self {
            Self::V2(group) => {
                let file = group.join("io.max");
                if unified(&fs::read_to_string(&file)?, device) == limits.numbers() {
                    return Ok(());
                }
                let values = V2.iter().zip(limits.numbers()).map(|(key, limit)| match limit {
                    Some(limit) => format!("{key}={limit}"),
                    None => format!("{key}=max"),
                });
                let line = format!("{device} {}", values.collect::<Vec<_>>().join(" "));
                fs::write(file, line)
            }
            Self::V1(group) => limit_below(group, device, limits, DEEPEST),
        }
    }
}

fn limit_below(
    group: &Path,
    device: DeviceNumber,
    limits: &Limits,
    deepest: usize,
) -> io::Result<()> {
    for (file, limit) in V1.iter().zip(limits.numbers()) {
        let file = group.join(format!("blkio.throttle.{file}_device"));
        if rule(&fs::read_to_string(&file)?, device).and_then(|rule| rule.parse().ok()) != limit {
            fs::write(file, format!("{device} {}", limit.unwrap_or_default()))?;
        }
    }
    for entry in fs::read_dir(group)?.flatten() {
        if deepest > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // One that is gone by now needs none.
            let _ = limit_below(&entry.path(), device, limits, deepest - 1);
        }
    }
    Ok(())
}

/// What a file of rules has for a device.
fn rule(rules: &str, device: DeviceNumber) -> Option<&str> {
    rules.lines().find_map(|line| line.strip_prefix(&format!("{device} ")))
}

/// What `io.max` has for a device.
fn unified(rules: &str, device: DeviceNumber) -> [Option<u64>; 4] {
    let rule = rule(rules, device).unwrap_or_default();
    let words = || rule.split_whitespace().filter_map(|word| word.split_once('='));
    V2.map(|key| words().find(|(is, _)| *is == key)?.1.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_the_containers_and_never_the_hosts() {
        let id = "0123456789abcdef".repeat(4);
        let v1 = format!("3:cpuset:/x\n7:cpu,blkio:/docker/{id}\n0::/\n");
        let expected = Path::new(ROOT).join(format!("blkio/docker/{id}"));
        assert_eq!(parse(&v1), Some(Group::V1(expected)));
        let v2 = format!("0::/system.slice/docker-{id}.scope/init.scope\n");
        let expected = Path::new(ROOT).join(format!("system.slice/docker-{id}.scope"));
        assert_eq!(parse(&v2), Some(Group::V2(expected)));
        assert_eq!(
            parse("0::/user.slice/x\n"),
            Some(Group::V2(Path::new(ROOT).join("user.slice/x")))
        );
        for none in ["0::/\n", "7:blkio:/\n0::/x\n", "", "nonsense"] {
            assert_eq!(parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_set_is_read_as_the_kernel_shows_it() {
        let device = DeviceNumber { major: 252, minor: 3 };
        let rules = "252:30 rbps=1 wbps=1 riops=1 wiops=1\n\
            252:3 rbps=max wbps=1048576 riops=max wiops=200\n";
        assert_eq!(unified(rules, device), [None, Some(1_048_576), None, Some(200)]);
        assert_eq!(unified("", device), [None; 4]);
        assert_eq!(rule("7:0 5\n252:3 1048576\n", device), Some("1048576"));
    }
}
