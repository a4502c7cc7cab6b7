//! Which group and pool a new volume goes to.

use std::fmt;

use dockline_daemon::config::VolumeGroup;
use dockline_lvm::{Command, Group, Logical, Picture};
use dockline_types::ByteSize;
use dockline_vol_core::{Class, ClassError, Layout, Stage, VolumeRecord};

use crate::backend::{BackendError, Capacity};

/// The groups of the configuration.
#[derive(Debug, Clone)]
pub struct Groups(Vec<Configured>);

#[derive(Debug, Clone)]
struct Configured {
    name: String,
    class: Option<Class>,
    pool: Option<String>,
}

/// Where a new volume goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupChoice {
    /// The group.
    pub name: String,
    /// How the volume gets its room.
    pub layout: Layout,
    /// The pool, if it is thin.
    pub pool: Option<String>,
}

impl Groups {
    /// Reads the configuration.
    pub fn new(configured: &[VolumeGroup]) -> Result<Self, ClassError> {
        let one = |group: &VolumeGroup| {
            let class = group.class.as_ref().map(|class| class.parse()).transpose()?;
            Ok(Configured { name: group.name.clone(), class, pool: group.pool.clone() })
        };
        configured.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|group| group.name.clone()).collect()
    }

    /// Whether any group is there.
    pub(super) fn check(&self, picture: &Picture) -> Result<(), BackendError> {
        if self.present(picture).next().is_some() { Ok(()) } else { Err(self.none(None)) }
    }

    fn none(&self, class: Option<&Class>) -> BackendError {
        BackendError::NoGroup { class: class.cloned(), configured: self.to_string() }
    }

    /// The groups that are there and can be used.
    fn present<'a>(
        &'a self,
        picture: &'a Picture,
    ) -> impl Iterator<Item = (&'a Configured, &'a Group)> {
        let group = |configured: &'a Configured| {
            let group = picture.groups.get(&configured.name)?;
            (!group.exported).then_some((configured, group))
        };
        self.0.iter().filter_map(group)
    }

    /// Chooses for a new volume: of the groups of its class, the one with the most room.
    pub(super) fn choose(
        &self,
        record: &VolumeRecord,
        picture: &Picture,
    ) -> Result<GroupChoice, BackendError> {
        let of_class = self
            .present(picture)
            .filter(|(configured, _)| record.class.is_none() || configured.class == record.class);
        let mut without_pool = None;
        let choices = of_class.filter_map(|(configured, group)| {
            let pool = pool_of(configured, picture);
            let layout = match (record.layout, pool) {
                (Some(Layout::Thick), _) | (None, None) => Layout::Thick,
                (Some(Layout::Thin), None) => {
                    without_pool = Some(group.name.clone());
                    return None;
                }
                (_, Some(_)) => Layout::Thin,
            };
            let pool = pool.filter(|_| layout == Layout::Thin);
            let room = pool.map_or(group.free.bytes(), free_in_pool);
            let (name, pool) = (group.name.clone(), pool.map(|pool| pool.name.clone()));
            Some((room, GroupChoice { name, layout, pool }))
        });
        let choices: Vec<_> = choices.collect();
        let best = choices.into_iter().max_by_key(|(room, _)| *room);
        match (best, without_pool) {
            (Some((_, choice)), _) => Ok(choice),
            (None, Some(group)) => Err(BackendError::NoPool { group }),
            (None, None) => Err(self.none(record.class.as_ref())),
        }
    }

    /// The room of all groups: of their pools if they have any, and else of themselves.
    pub(super) fn capacity(&self, picture: &Picture) -> Capacity {
        let (mut total, mut free) = (0, 0);
        for (configured, group) in self.present(picture) {
            let pool = pool_of(configured, picture);
            total += pool.map_or(group.size, |pool| pool.size).bytes();
            free += pool.map_or(group.free.bytes(), free_in_pool);
        }
        Capacity { total: ByteSize::from_bytes(total), free: ByteSize::from_bytes(free) }
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = |group: &Configured| match &group.class {
            Some(class) => format!("group {} (class {class})", group.name),
            None => format!("group {}", group.name),
        };
        f.write_str(&self.0.iter().map(group).collect::<Vec<_>>().join(", "))
    }
}

/// A group's pool: the one of the configuration, or else the only one there is.
fn pool_of<'a>(configured: &Configured, picture: &'a Picture) -> Option<&'a Logical> {
    let mut pools = picture.logicals.iter().filter(|logical| {
        let named = configured.pool.as_ref().is_none_or(|pool| *pool == logical.name);
        logical.group == configured.name && logical.is_thin_pool() && named
    });
    pools.next().filter(|_| pools.next().is_none())
}

fn free_in_pool(pool: &Logical) -> u64 {
    let full = pool.data_percent.unwrap_or(0.0).clamp(0.0, 100.0);
    // In hundredths of a percent, as LVM tells it.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10000")]
    let hundredths = (full * 100.0) as u64;
    pool.size.bytes() / 10_000 * (10_000 - hundredths)
}

/// The command that makes a volume's logical volume.
pub(super) fn create(record: &VolumeRecord, group: &GroupChoice, name: &str) -> Command {
    let size = format!("{}b", record.size.bytes());
    let command = Command::new("lvcreate").args(["-y", "-n", name]);
    let command = match &group.pool {
        Some(pool) => {
            command.args(["-V", &size, "--thinpool", pool.as_str(), "-Wn"]).arg(&group.name)
        }
        // What would be taken for a file system is wiped; the rest of the blocks keeps what it had.
        None => command.args(["-L", &size, "-Wy", "-Zy"]).arg(&group.name),
    };
    let tags = record.to_tags(Stage::Creating);
    command.args(tags.into_iter().flat_map(|tag| ["--addtag".to_owned(), tag]))
}
