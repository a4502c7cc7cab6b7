//! A volume as tags of its logical volume: everything about it that LVM does not know, so that the
//! volumes can be told from LVM alone.
//!
//! One fact a tag, `dockline.KEY=VALUE`, so that one change is one `--deltag`/`--addtag` pair in
//! one commit of LVM's metadata. Only characters that LVM allows in tags come up (`A-Za-z0-9`,
//! `_+.-/=!:#&`), and no tag begins with a dash or is longer than 220 bytes.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use dockline_types::ByteSize;

use crate::{Limits, RootOwner, Timestamp, VolumeName, VolumeRecord};

/// What every tag of ours begins with.
const PREFIX: &str = "dockline.";

/// The version of the form that is written.
const VERSION: u64 = 1;

/// Where a volume is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its file system is being made; it is no volume yet.
    Creating,
    /// It is a volume.
    Ready,
    /// It was removed, and still has its room.
    Trash,
}

impl Stage {
    const ALL: [Self; 3] = [Self::Creating, Self::Ready, Self::Trash];

    const fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Ready => "ready",
            Self::Trash => "trash",
        }
    }

    /// The tag that says so.
    pub fn tag(self) -> String {
        format!("{PREFIX}stage={}", self.name())
    }
}

impl Limits {
    /// The tag that says so, of limits that are not none.
    pub fn tag(&self) -> String {
        format!("{PREFIX}limits={self}")
    }
}

/// What the tags of a logical volume say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tagged {
    /// Nothing: it is not ours.
    Foreign,
    /// A volume, or what was to become or has been one.
    Ours(Stage, Box<VolumeRecord>),
    /// It bears our mark, and cannot be understood.
    Unclear {
        /// The volume's name, if that much is clear.
        name: Option<VolumeName>,
        /// What is wrong.
        reason: String,
    },
}

impl VolumeRecord {
    /// The tags that say all of this, without the size, which LVM knows.
    pub fn to_tags(&self, stage: Stage) -> Vec<String> {
        let RootOwner { uid, gid, mode } = self.owner;
        let tag = |key: &str, value: &dyn Display| format!("{PREFIX}{key}={value}");
        let mut tags = vec![
            tag("v", &VERSION),
            stage.tag(),
            tag("name", &self.name),
            tag("id", &self.id),
            tag("fs", &self.fs),
            tag("owner", &format_args!("{uid}:{gid}:{mode}")),
            tag("made", &self.created_at),
        ];
        tags.extend(self.layout.map(|layout| tag("layout", &layout)));
        tags.extend(self.class.as_ref().map(|class| tag("class", class)));
        if !self.limits.is_none() {
            tags.push(self.limits.tag());
        }
        tags
    }

    /// Reads tags; `size` is the logical volume's.
    pub fn from_tags(tags: &[String], size: ByteSize) -> Tagged {
        let ours = tags.iter().filter_map(|tag| tag.strip_prefix(PREFIX)?.split_once('='));
        let mut facts = BTreeMap::new();
        let mut twice = None;
        for (key, value) in ours {
            if facts.insert(key, value).is_some() {
                twice = Some(key);
            }
        }
        let Some(version) = facts.get("v") else { return Tagged::Foreign };
        let read = match version.parse::<u64>() {
            Ok(VERSION) if twice.is_none() => read(&facts, size),
            Ok(found) if found > VERSION => Err(format!(
                "its tags have version {found}, and this release knows version {VERSION}: upgrade \
                 dockline-vol"
            )),
            _ => Err(format!("tag {PREFIX}{} is there twice or wrong", twice.unwrap_or("v"))),
        };
        read.unwrap_or_else(|reason| {
            let name = facts.get("name").and_then(|name| name.parse().ok());
            Tagged::Unclear { name, reason }
        })
    }
}

fn read(facts: &BTreeMap<&str, &str>, size: ByteSize) -> Result<Tagged, String> {
    fn fact<T: FromStr>(facts: &BTreeMap<&str, &str>, key: &str) -> Result<T, String> {
        optional(facts, key)?.ok_or_else(|| format!("it has no tag {PREFIX}{key}"))
    }
    fn optional<T: FromStr>(facts: &BTreeMap<&str, &str>, key: &str) -> Result<Option<T>, String> {
        let Some(value) = facts.get(key) else { return Ok(None) };
        let read = value.parse().map(Some);
        read.map_err(|_| format!("its tag {PREFIX}{key}={value} is not understood"))
    }
    let stage: String = fact(facts, "stage")?;
    let known = Stage::ALL.into_iter().find(|known| known.name() == stage);
    let stage = known.ok_or_else(|| format!("its tag {PREFIX}stage={stage} is not understood"))?;
    let owner: String = fact(facts, "owner")?;
    let made: String = fact(facts, "made")?;
    let wrong = |key: &str| format!("its tag {PREFIX}{key} is not understood");
    let record = VolumeRecord {
        name: fact(facts, "name")?,
        id: fact(facts, "id")?,
        size,
        fs: fact(facts, "fs")?,
        owner: read_owner(&owner).ok_or_else(|| wrong("owner"))?,
        created_at: Timestamp::try_from(made).map_err(|_| wrong("made"))?,
        layout: optional(facts, "layout")?,
        class: optional(facts, "class")?,
        limits: optional(facts, "limits")?.unwrap_or_default(),
    };
    Ok(Tagged::Ours(stage, Box::new(record)))
}

fn read_owner(text: &str) -> Option<RootOwner> {
    let mut parts = text.split(':');
    let owner = RootOwner {
        uid: parts.next()?.parse().ok()?,
        gid: parts.next()?.parse().ok()?,
        mode: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FsKind, Layout};
    use proptest::prelude::*;

    fn record() -> VolumeRecord {
        VolumeRecord {
            name: "proj_data.1-a".parse().unwrap(),
            id: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
            size: ByteSize::from_mib(1024),
            fs: FsKind::Xfs,
            owner: RootOwner { uid: 999, gid: 998, mode: "0700".parse().unwrap() },
            created_at: Timestamp::try_from("2026-11-22T01:50:26Z".to_owned()).unwrap(),
            layout: Some(Layout::Thin),
            class: Some("ssd".parse().unwrap()),
            limits: "1048576:0:0:200".parse().unwrap(),
        }
    }

    /// The form of version 1 is for ever: if this fails, a new version is due.
    #[test]
    fn version_1_reads_and_writes_as_it_always_did() {
        let tags = [
            "dockline.v=1",
            "dockline.stage=ready",
            "dockline.name=proj_data.1-a",
            "dockline.id=11111111-2222-3333-4444-555555555555",
            "dockline.fs=xfs",
            "dockline.owner=999:998:0700",
            "dockline.made=2026-11-22T01:50:26Z",
            "dockline.layout=thin",
            "dockline.class=ssd",
            "dockline.limits=1048576:0:0:200",
        ];
        assert_eq!(record().to_tags(Stage::Ready), tags);
        let mut shuffled = tags.map(str::to_owned).to_vec();
        shuffled.reverse();
        shuffled.push("somebody-elses".to_owned());
        let read = VolumeRecord::from_tags(&shuffled, ByteSize::from_mib(1024));
        assert_eq!(read, Tagged::Ours(Stage::Ready, Box::new(record())));
    }

    #[test]
    fn what_looks_like_ours_and_is_not_is_not_guessed_at() {
        let size = ByteSize::from_mib(1);
        let foreign = ["dockline", "docklinev=1", "dockline.name=x"].map(str::to_owned);
        assert_eq!(VolumeRecord::from_tags(&foreign, size), Tagged::Foreign);
        let tags = record().to_tags(Stage::Ready);
        for (at, wrong) in [
            (0, "dockline.v=2"),
            (0, "dockline.v=x"),
            (1, "dockline.stage=lost"),
            (1, "dockline.stage=ready\u{0}"),
            (3, "dockline.id=../../etc"),
            (4, "dockline.fs=zfs"),
            (5, "dockline.owner=0:0"),
            (6, "dockline.made=yesterday"),
            (7, "dockline.fs=ext4"),
        ] {
            let mut tags = tags.clone();
            wrong.clone_into(&mut tags[at]);
            let Tagged::Unclear { name, .. } = VolumeRecord::from_tags(&tags, size) else {
                panic!("{wrong} was taken")
            };
            assert_eq!(name, Some(record().name), "{wrong}");
        }
        for missing in 1..7 {
            let mut tags = tags.clone();
            tags.remove(missing);
            let read = VolumeRecord::from_tags(&tags, size);
            assert!(matches!(read, Tagged::Unclear { .. }), "{missing}");
        }
    }

    proptest! {
        #[test]
        fn every_volume_survives_its_tags(
            name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}", uid: u32, gid: u32, mode in "[0-7]{3}",
        ) {
            let owner = RootOwner { uid, gid, mode: mode.parse().unwrap() };
            let record = VolumeRecord { name: name.parse().unwrap(), owner, ..record() };
            for stage in Stage::ALL {
                let tags = record.to_tags(stage);
                let allowed = |c: char| c.is_ascii_alphanumeric() || "_+.-/=!:#&".contains(c);
                prop_assert!(tags.iter().all(|tag| tag.len() <= 220 && tag.chars().all(allowed)));
                let read = VolumeRecord::from_tags(&tags, record.size);
                prop_assert_eq!(read, Tagged::Ours(stage, Box::new(record.clone())));
            }
        }

        #[test]
        fn no_tags_panic(tags in prop::collection::vec("dockline\\.[a-z]{1,5}=\\PC{0,8}", 0..5)) {
            let mut tags = tags;
            tags.push("dockline.v=1".to_owned());
            let _ = VolumeRecord::from_tags(&tags, ByteSize::from_mib(1));
        }
    }
}
