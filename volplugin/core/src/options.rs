//! `docker volume create -o …`: from text to settings.
//!
//! One table names every option with how it is read, so the list of what is allowed in an error
//! cannot miss one.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use dockline_types::ByteSize;

use crate::{
    Class, DirMode, FsKind, Layout, Limits, RootOwner, bytes_per_second, operations_per_second,
};

/// Sizes are rounded up to this, so that every file system's blocks and every backend's extents
/// fit.
const STEP: u64 = 1 << 20;

/// The largest size in bytes: what a file's length can be.
const LARGEST: u64 = i64::MAX as u64 / STEP * STEP;

/// Why a volume cannot be made with these options.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    /// There is no such option.
    #[error("unknown volume option {option:?} (={value:?}): allowed are {allowed}")]
    Unknown {
        /// What stands before the `=`.
        option: String,
        /// What stands behind it.
        value: String,
        /// All options there are.
        allowed: String,
    },
    /// The option exists; the value means nothing.
    #[error("volume option {option}={value:?}: {allowed} is expected")]
    Malformed {
        /// The option.
        option: &'static str,
        /// What stands behind the `=`.
        value: String,
        /// What may stand there.
        allowed: String,
        /// What is wrong with it.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The file system does not fit.
    #[error("a volume of {size} is too small for {fs}: at least {smallest} are needed", smallest = fs.smallest())]
    TooSmall {
        /// The size that was asked for.
        size: ByteSize,
        /// The file system that was asked for.
        fs: FsKind,
    },
    /// No file can be that long.
    #[error("a volume of {0} is larger than any file can be")]
    TooLarge(ByteSize),
}

/// What a volume is like when its creator does not say; from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// The size.
    pub size: ByteSize,
    /// The file system.
    pub fs: FsKind,
}

/// What the creator of a volume said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeOptions {
    size: Option<ByteSize>,
    fs: Option<FsKind>,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<DirMode>,
    layout: Option<Layout>,
    class: Option<Class>,
    limits: Limits,
}

/// What a volume is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSettings {
    /// How large its disk is; a whole number of MiB.
    pub size: ByteSize,
    /// Its file system.
    pub fs: FsKind,
    /// Whose the folder is that containers get.
    pub owner: RootOwner,
    /// How it gets its room, if its creator said so.
    pub layout: Option<Layout>,
    /// The class of the group it is in, if its creator said so.
    pub class: Option<Class>,
    /// How fast each container may read and write it, as it was made; that changes later.
    pub limits: Limits,
}

/// An option that says something else than what a volume is like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has {option}={has}, and {option}={asked} is asked for")]
pub struct Difference {
    /// The option.
    pub option: &'static str,
    /// What the volume has.
    pub has: String,
    /// What is asked for.
    pub asked: String,
}

type Reason = Option<Box<dyn Error + Send + Sync>>;

/// One option: its name, what may stand behind its `=`, and how that is read.
struct Known {
    option: &'static str,
    allowed: fn() -> String,
    read: fn(&mut VolumeOptions, &str) -> Result<(), Reason>,
}

const KNOWN: [Known; 11] = [
    Known {
        option: "size",
        allowed: || "a size as in 512MiB or 10GiB".to_owned(),
        read: |options, value| {
            options.size = Some(value.parse().map_err(because)?);
            Ok(())
        },
    },
    Known {
        option: "fs",
        allowed: || FsKind::ALL.map(FsKind::name).join(" or "),
        read: |options, value| {
            options.fs = Some(value.parse().map_err(|()| None)?);
            Ok(())
        },
    },
    Known {
        option: "uid",
        allowed: || "a number of a user on the host".to_owned(),
        read: |options, value| {
            options.uid = Some(id(value)?);
            Ok(())
        },
    },
    Known {
        option: "gid",
        allowed: || "a number of a group on the host".to_owned(),
        read: |options, value| {
            options.gid = Some(id(value)?);
            Ok(())
        },
    },
    Known {
        option: "mode",
        allowed: || "three octal digits as in 0755".to_owned(),
        read: |options, value| {
            options.mode = Some(value.parse().map_err(because)?);
            Ok(())
        },
    },
    Known {
        option: "layout",
        allowed: || Layout::ALL.map(Layout::name).join(" or "),
        read: |options, value| {
            options.layout = Some(value.parse().map_err(|()| None)?);
            Ok(())
        },
    },
    Known {
        option: "class",
        allowed: || "a class of volume groups from the configuration".to_owned(),
        read: |options, value| {
            options.class = Some(value.parse().map_err(because)?);
            Ok(())
        },
    },
    Known {
        option: "read-bps",
        allowed: || "bytes a second as in 10MiB".to_owned(),
        read: |options, value| {
            options.limits.read_bps = bytes_per_second(value).map_err(|text| Some(text.into()))?;
            Ok(())
        },
    },
    Known {
        option: "write-bps",
        allowed: || "bytes a second as in 10MiB".to_owned(),
        read: |options, value| {
            options.limits.write_bps = bytes_per_second(value).map_err(|text| Some(text.into()))?;
            Ok(())
        },
    },
    Known {
        option: "read-iops",
        allowed: || "operations a second as in 200".to_owned(),
        read: |options, value| {
            options.limits.read_iops =
                operations_per_second(value).map_err(|text| Some(text.into()))?;
            Ok(())
        },
    },
    Known {
        option: "write-iops",
        allowed: || "operations a second as in 200".to_owned(),
        read: |options, value| {
            options.limits.write_iops =
                operations_per_second(value).map_err(|text| Some(text.into()))?;
            Ok(())
        },
    },
];

fn because(error: impl Error + Send + Sync + 'static) -> Reason {
    Some(Box::new(error))
}

/// Reads the number of a user or group. The largest means "nobody in particular" to the kernel.
fn id(value: &str) -> Result<u32, Reason> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { value.parse().ok() } else { None };
    number.filter(|&number: &u32| number != u32::MAX).ok_or(None)
}

/// All options with what may stand behind their `=`, for messages and the manual.
pub fn option_help() -> String {
    let help = KNOWN.iter().map(|known| format!("{} ({})", known.option, (known.allowed)()));
    help.collect::<Vec<_>>().join(", ")
}

impl VolumeOptions {
    /// Reads what stands behind the `-o` of `docker volume create`.
    pub fn parse(options: &BTreeMap<String, String>) -> Result<Self, OptionError> {
        let mut read = Self::default();
        for (option, value) in options {
            let shown = |text: &str| text.chars().take(64).collect::<String>();
            let known = KNOWN.iter().find(|known| known.option == option).ok_or_else(|| {
                let (option, value) = (shown(option), shown(value));
                OptionError::Unknown { option, value, allowed: option_help() }
            })?;
            (known.read)(&mut read, value).map_err(|source| OptionError::Malformed {
                option: known.option,
                value: shown(value),
                allowed: (known.allowed)(),
                source,
            })?;
        }
        Ok(read)
    }

    /// The settings of a new volume. The size is rounded up to a whole number of MiB.
    pub fn settle(&self, defaults: &Defaults) -> Result<VolumeSettings, OptionError> {
        let fs = self.fs.unwrap_or(defaults.fs);
        let size = self.size.unwrap_or(defaults.size);
        if size < fs.smallest() {
            return Err(OptionError::TooSmall { size, fs });
        }
        let size = round_up(size).ok_or(OptionError::TooLarge(size))?;
        let owner = RootOwner {
            uid: self.uid.unwrap_or_default(),
            gid: self.gid.unwrap_or_default(),
            mode: self.mode.unwrap_or_default(),
        };
        let (layout, class, limits) = (self.layout, self.class.clone(), self.limits);
        Ok(VolumeSettings { size, fs, owner, layout, class, limits })
    }

    /// Where these options differ from what a volume is like, whose size is a multiple of `step`.
    /// What they do not mention may be anything: a repeated request also succeeds after the
    /// defaults changed.
    pub fn difference(&self, has: &VolumeSettings, step: ByteSize) -> Option<Difference> {
        let stepped = |size: ByteSize| size.bytes().checked_next_multiple_of(step.bytes().max(1));
        let size = self.size.map(|size| round_up(size).unwrap_or(size));
        let size = size.map(|size| stepped(size).map_or(size, ByteSize::from_bytes));
        differ("size", size, has.size)
            .or_else(|| differ("fs", self.fs, has.fs))
            .or_else(|| differ("uid", self.uid, has.owner.uid))
            .or_else(|| differ("gid", self.gid, has.owner.gid))
            .or_else(|| differ("mode", self.mode, has.owner.mode))
            .or_else(|| differ("layout", self.layout.map(Said::some), Said(has.layout)))
            .or_else(|| {
                let has = Said(has.class.clone());
                differ("class", self.class.clone().map(Said::some), has)
            })
    }
}

/// The next whole number of MiB, unless no file can be that long.
pub(crate) fn round_up(size: ByteSize) -> Option<ByteSize> {
    let rounded = size.bytes().checked_next_multiple_of(STEP)?;
    (rounded <= LARGEST).then(|| ByteSize::from_bytes(rounded))
}

fn differ<T: PartialEq + ToString>(
    option: &'static str,
    asked: Option<T>,
    has: T,
) -> Option<Difference> {
    let asked = asked.filter(|asked| *asked != has)?;
    Some(Difference { option, has: has.to_string(), asked: asked.to_string() })
}

/// What a volume may have none of.
#[derive(PartialEq)]
struct Said<T>(Option<T>);

impl<T> Said<T> {
    fn some(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T: fmt::Display> fmt::Display for Said<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULTS: Defaults = Defaults { size: ByteSize::from_mib(1024), fs: FsKind::Xfs };

    fn parse(options: &[(&str, &str)]) -> Result<VolumeOptions, OptionError> {
        let owned = options.iter().map(|(o, v)| ((*o).to_owned(), (*v).to_owned()));
        VolumeOptions::parse(&owned.collect())
    }

    fn settle(options: &[(&str, &str)]) -> Result<VolumeSettings, OptionError> {
        parse(options)?.settle(&DEFAULTS)
    }

    #[test]
    fn nothing_said_means_the_defaults() {
        let settings = settle(&[]).unwrap();
        assert_eq!((settings.size, settings.fs), (DEFAULTS.size, DEFAULTS.fs));
        assert_eq!(settings.owner.mode.to_string(), "0755");
        assert_eq!((settings.owner.uid, settings.owner.gid), (0, 0));
    }

    #[test]
    fn everything_said_is_taken() {
        let said =
            [("size", "2G"), ("fs", "ext4"), ("uid", "999"), ("gid", "998"), ("mode", "700")];
        let settings = settle(&said).unwrap();
        assert_eq!((settings.size.bytes(), settings.fs), (2 << 30, FsKind::Ext4));
        let RootOwner { uid, gid, mode } = settings.owner;
        assert_eq!((uid, gid, mode.bits()), (999, 998, 0o700));
    }

    #[test]
    fn an_unknown_option_is_named_with_all_that_are_known() {
        let text = parse(&[("sise", "1G")]).unwrap_err().to_string();
        assert!(text.starts_with("unknown volume option \"sise\" (=\"1G\"): allowed are size ("));
        for known in KNOWN {
            assert!(text.contains(&format!("{} (", known.option)), "{} in {text}", known.option);
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_what_is_expected() {
        let text = parse(&[("fs", "zfs")]).unwrap_err().to_string();
        assert_eq!(text, "volume option fs=\"zfs\": xfs or ext4 or btrfs is expected");
        for bad in
            [("size", ""), ("size", "-1G"), ("uid", "root"), ("gid", "4294967295"), ("mode", "9")]
        {
            assert!(matches!(parse(&[bad]), Err(OptionError::Malformed { .. })), "{bad:?}");
        }
    }

    #[test]
    fn what_no_file_system_fits_in_is_refused() {
        for (size, fs) in [("0", "xfs"), ("299MiB", "xfs"), ("0", "ext4"), ("7.9MiB", "ext4")] {
            let refused = settle(&[("size", size), ("fs", fs)]);
            assert!(matches!(refused, Err(OptionError::TooSmall { .. })), "{size} {fs}");
        }
        let text = settle(&[("size", "0")]).unwrap_err().to_string();
        assert_eq!(text, "a volume of 0B is too small for xfs: at least 300MiB are needed");
        for large in ["8E", "15.9E", "18446744073709551615"] {
            let refused = settle(&[("size", large)]);
            assert!(matches!(refused, Err(OptionError::TooLarge(_))), "{large}");
        }
    }

    #[test]
    fn the_same_again_is_no_difference_and_another_is_named() {
        let has = settle(&[("size", "1.5GB"), ("uid", "7")]).unwrap();
        for same in [&[][..], &[("size", "1536M")], &[("uid", "7"), ("fs", "xfs")]] {
            assert_eq!(
                parse(same).unwrap().difference(&has, ByteSize::from_mib(1)),
                None,
                "{same:?}"
            );
        }
        let other =
            parse(&[("size", "2G")]).unwrap().difference(&has, ByteSize::from_mib(1)).unwrap();
        assert_eq!(other.to_string(), "it has size=1536MiB, and size=2GiB is asked for");
        for other in [("fs", "ext4"), ("uid", "8"), ("gid", "1"), ("mode", "700")] {
            let option =
                parse(&[other]).unwrap().difference(&has, ByteSize::from_mib(1)).unwrap().option;
            assert_eq!(option, other.0);
        }
        let extents = parse(&[("size", "1533M")]).unwrap();
        assert_eq!(extents.difference(&has, ByteSize::from_mib(4)), None, "rounded as LVM does");
        let class = parse(&[("class", "ssd")]).unwrap();
        let class = class.difference(&has, ByteSize::from_mib(1)).unwrap();
        assert_eq!(class.to_string(), "it has class=none, and class=ssd is asked for");
    }

    proptest! {
        #[test]
        fn settings_never_differ_from_the_options_they_come_from(
            bytes in 0u64.., uid: u32, mode in 0u32..0o1000,
        ) {
            let said = BTreeMap::from([
                ("size".to_owned(), bytes.to_string()),
                ("uid".to_owned(), uid.to_string()),
                ("mode".to_owned(), format!("{mode:03o}")),
            ]);
            if let Ok(options) = VolumeOptions::parse(&said)
                && let Ok(settings) = options.settle(&DEFAULTS)
            {
                prop_assert_eq!(options.difference(&settings, ByteSize::from_mib(1)), None);
                prop_assert!(settings.size.bytes() >= bytes);
                prop_assert_eq!(settings.size.bytes() % STEP, 0);
            }
        }

        #[test]
        fn no_options_panic(option in "[a-z]{0,5}|size|fs|uid|gid|mode|layout|class", value in "\\PC{0,12}") {
            let _ = VolumeOptions::parse(&BTreeMap::from([(option, value)]));
        }
    }
}
