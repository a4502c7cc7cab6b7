//! `/proc/…/mountinfo`: what is mounted where.
//!
//! The form is of proc_pid_mountinfo(5): ten or more fields with a variable part that ends at a
//! lone dash; space, tab, newline, backslash and hash are written as a backslash and three octal
//! digits.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::DeviceNumber;

/// The mount table of the calling thread's namespace. Not `self`: a thread can have another
/// namespace than its process.
const OWN: &str = "/proc/thread-self/mountinfo";

/// Why the mount table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// `/proc` is not there or refuses.
    #[error("cannot read the mount table {path}: is /proc mounted?")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A line is not of the known form.
    #[error("the mount table has a line that is not understood: {0:?}")]
    Malformed(String),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The number of the mount, unique in the namespace while it lasts.
    pub id: u64,
    /// The device whose file system it is. For btrfs it is a number that no block device has: go
    /// by `source`.
    pub device: DeviceNumber,
    /// Which folder of the file system is mounted; `/` for all of it.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Whether this mount refuses writing.
    pub read_only: bool,
    /// The type of the file system.
    pub fs_type: OsString,
    /// What was given as its device.
    pub source: OsString,
}

/// Reads a mount table.
pub fn parse(text: &[u8]) -> Result<Vec<Mount>, TableError> {
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            parse_line(line)
                .ok_or_else(|| TableError::Malformed(String::from_utf8_lossy(line).into_owned()))
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let _parent = number(fields.next()?)?;
    let device = device(fields.next()?)?;
    let root = unescape(fields.next()?)?.into();
    let mount_point = unescape(fields.next()?)?.into();
    let read_only = fields.next()?.split(|&byte| byte == b',').any(|option| option == b"ro");
    fields.find(|field| *field == b"-")?;
    let fs_type = unescape(fields.next()?)?;
    let source = unescape(fields.next()?)?;
    Some(Mount { id, device, root, mount_point, read_only, fs_type, source })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<DeviceNumber> {
    let colon = field.iter().position(|&byte| byte == b':')?;
    Some(DeviceNumber { major: number(&field[..colon])?, minor: number(&field[colon + 1..])? })
}

/// Undoes `\040` and its like.
fn unescape(field: &[u8]) -> Option<OsString> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\' {
            let (octal, after) = after.split_at_checked(3)?;
            plain.push(u8::from_str_radix(std::str::from_utf8(octal).ok()?, 8).ok()?);
            rest = after;
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    Some(OsString::from_vec(plain))
}

/// The mounts of the calling thread's namespace, each after the one it covers.
pub fn table() -> Result<Vec<Mount>, TableError> {
    parse(
        &std::fs::read(OWN)
            .map_err(|source| TableError::Unreadable { path: OWN.into(), source })?,
    )
}

/// The mount that is seen at a folder, if the folder is where something is mounted. The path is
/// absolute and without symbolic links.
pub fn mounted_at(mount_point: &Path) -> Result<Option<Mount>, TableError> {
    let last = table()?.into_iter().rfind(|mount| mount.mount_point == mount_point);
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REAL: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
36 27 254:0 /var/lib /mnt/with\\040space ro,nosuid shared:1 master:2 - ext4 /dev/vda rw,errors=continue
104 36 7:300 / /mnt/a\\134b rw,nodev - xfs /dev/loop300 rw,attr2
";

    #[test]
    fn a_real_table_is_read() {
        let mounts = parse(REAL.as_bytes()).unwrap();
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].mount_point, Path::new("/proc"));
        let second = &mounts[1];
        assert_eq!(second.mount_point, Path::new("/mnt/with space"));
        assert_eq!((second.root.as_path(), second.read_only), (Path::new("/var/lib"), true));
        assert_eq!((second.fs_type.as_os_str(), second.id), ("ext4".as_ref(), 36));
        assert_eq!(mounts[2].mount_point, Path::new("/mnt/a\\b"));
        assert_eq!(mounts[2].device.to_string(), "7:300");
        assert!(!mounts[2].read_only);
    }

    #[test]
    fn what_is_torn_is_an_error_and_not_a_missing_mount() {
        for cut in ["22 27", "22 27 0:21 / /proc rw,relatime", "22 27 0 / /proc rw - proc proc rw"]
        {
            assert!(matches!(parse(cut.as_bytes()), Err(TableError::Malformed(_))), "{cut}");
        }
    }

    #[test]
    fn the_own_table_has_a_root() {
        assert!(table().unwrap().iter().any(|mount| mount.mount_point == Path::new("/")));
        assert_eq!(mounted_at(Path::new("/proc")).unwrap().unwrap().fs_type, "proc");
        assert_eq!(mounted_at(Path::new("/proc/self")).unwrap(), None);
    }

    /// As the kernel writes a path (`mangle_path` with its set of characters).
    fn escape(path: &[u8]) -> Vec<u8> {
        let escaped = path.iter().flat_map(|&byte| {
            if b" \t\n\\#".contains(&byte) {
                format!("\\{byte:03o}").into_bytes()
            } else {
                vec![byte]
            }
        });
        escaped.collect()
    }

    proptest! {
        #[test]
        fn any_path_is_read_back(path in prop::collection::vec(1u8.., 1..40)) {
            let mut line = b"1 2 7:0 / ".to_vec();
            line.extend(escape(&path));
            line.extend(b" rw - xfs /dev/loop0 rw\n");
            let mounts = parse(&line).unwrap();
            prop_assert_eq!(&mounts[0].mount_point, &PathBuf::from(OsString::from_vec(path)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes);
        }
    }
}
