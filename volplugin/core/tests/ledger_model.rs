//! The ledger against a model of the world: dockerd, its containers, and what each of them knows.
//!
//! The model sends the plugin exactly the calls that dockerd would send, and knows what is true.
//! It shares no code with the ledger. Source: moby `volume/mounts/mounts.go` (`Setup`, `Cleanup`):
//! a mount point has an id, kept on the disk, and a count of its mounts, kept in memory; the id is
//! made when there is none, and forgotten when the count comes down to zero.

use dockline_vol_core::{BootId, Ledger, MountId, Unmounted, VolumeName};
use proptest::prelude::*;

const CONTAINERS: usize = 4;
const VOLUMES: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// `docker start`.
    Start(usize),
    /// `docker stop`, or the container ends by itself.
    Stop(usize),
    /// `docker cp` begins, on a running or a stopped container. It holds the container's lock, so
    /// there is one at a time.
    CopyBegins(usize),
    /// It ends.
    CopyEnds(usize),
    /// dockerd is killed and started again; with live-restore its containers run on, and dockerds
    /// since 25 (`counts`) know then that they are mounted.
    DockerdDies { live_restore: bool, counts: bool },
    /// The plugin is killed and started again.
    PluginRestarts,
    /// The plugin looks which volumes of an earlier dockerd are mounted in containers.
    Reconcile,
    /// An unmount for a use that never began.
    StrayUnmount(usize),
    /// The host reboots.
    Reboot,
}

fn event() -> impl Strategy<Value = Event> {
    let container = 0..CONTAINERS;
    let dies = any::<(bool, bool)>();
    prop_oneof![
        6 => container.clone().prop_map(Event::Start),
        4 => container.clone().prop_map(Event::Stop),
        3 => container.clone().prop_map(Event::CopyBegins),
        3 => container.clone().prop_map(Event::CopyEnds),
        2 => dies.prop_map(|(live_restore, counts)| Event::DockerdDies { live_restore, counts }),
        1 => Just(Event::PluginRestarts),
        1 => Just(Event::Reconcile),
        1 => container.prop_map(Event::StrayUnmount),
        1 => Just(Event::Reboot),
    ]
}

/// What dockerd and the kernel know of one container.
#[derive(Debug, Clone, Copy, Default)]
struct Container {
    running: bool,
    copying: bool,
    /// It has ended, and dockerd has not yet cleaned up after it: a copy holds the container's lock.
    ended: bool,
    /// dockerd's id for its mount.
    id: Option<u32>,
    /// dockerd's count of its mounts.
    active: u32,
}

impl Container {
    fn is_idle(&self) -> bool {
        !self.running && !self.copying
    }
}

#[derive(Debug)]
struct World {
    containers: [Container; CONTAINERS],
    ledger: Ledger,
    boots: u32,
    ids: u32,
}

fn volume_of(container: usize) -> VolumeName {
    format!("v{}", container % VOLUMES).parse().expect("a name")
}

fn id_of(number: u32) -> MountId {
    format!("id{number}").parse().expect("an id")
}

fn boot(number: u32) -> BootId {
    BootId(format!("boot {number}"))
}

impl World {
    fn new() -> Self {
        let containers = [Container::default(); CONTAINERS];
        Self { containers, ledger: Ledger::new(boot(0)), boots: 0, ids: 0 }
    }

    /// Whether a container runs on the volume, which is what a look at all mount namespaces finds.
    fn alive(&self, volume: &VolumeName) -> bool {
        (0..CONTAINERS).any(|c| self.containers[c].running && volume_of(c) == *volume)
    }

    fn mount(&mut self, c: usize) {
        let id = self.containers[c].id.unwrap_or(self.ids);
        self.ids += 1;
        self.ledger.mount(&volume_of(c), &id_of(id)).expect("few uses");
        self.containers[c].id = Some(id);
        self.containers[c].active += 1;
    }

    fn unmount(&mut self, c: usize) {
        let container = &mut self.containers[c];
        if container.active == 0 {
            return; // "attempt to decrement a zero mount count": dockerd says nothing to us.
        }
        container.active -= 1;
        let (id, running) = (container.id.expect("it was mounted"), container.running);
        if container.active == 0 {
            container.id = None;
        }
        let volume = volume_of(c);
        match self.ledger.unmount(&volume, &id_of(id)) {
            Unmounted::Unknown => assert!(!running, "a use that goes on was forgotten"),
            Unmounted::InUseByEarlier => self.look(&volume),
            Unmounted::InUse | Unmounted::Last => {}
        }
    }

    /// dockerd's part after a container's end; it waits for the container's lock.
    fn clean_up(&mut self, c: usize) {
        let container = &mut self.containers[c];
        if container.ended && !container.copying {
            container.ended = false;
            self.unmount(c);
        }
    }

    /// What the plugin does when an earlier dockerd's uses may have ended.
    fn look(&mut self, volume: &VolumeName) {
        if !self.alive(volume) {
            self.ledger.forget_earlier(volume);
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Start(c) if self.containers[c].is_idle() => {
                self.mount(c);
                self.containers[c].running = true;
            }
            Event::Stop(c) if self.containers[c].running => {
                self.containers[c].running = false;
                self.containers[c].ended = true;
                self.clean_up(c);
            }
            Event::CopyBegins(c) if !self.containers[c].copying => {
                self.mount(c);
                self.containers[c].copying = true;
            }
            Event::CopyEnds(c) if self.containers[c].copying => {
                self.containers[c].copying = false;
                self.unmount(c);
                self.clean_up(c);
            }
            Event::DockerdDies { live_restore, counts } => {
                for container in &mut self.containers {
                    container.copying = false;
                    container.ended = false;
                    container.running &= live_restore;
                    let known = container.running && container.id.is_some();
                    container.active = u32::from(known && counts);
                }
                self.ledger.new_dockerd();
            }
            Event::PluginRestarts => self.restart(),
            Event::Reconcile => self.reconcile(),
            Event::StrayUnmount(c) => {
                let stray = self.ledger.unmount(&volume_of(c), &"stray".parse().expect("an id"));
                assert_eq!(stray, Unmounted::Unknown);
            }
            Event::Reboot => {
                for container in &mut self.containers {
                    *container = Container { id: container.id, ..Container::default() };
                }
                self.boots += 1;
                self.restart();
            }
            Event::Start(_) | Event::Stop(_) | Event::CopyBegins(_) | Event::CopyEnds(_) => {}
        }
    }

    fn restart(&mut self) {
        let kept = self.ledger.to_json().expect("JSON");
        self.ledger = Ledger::from_json(kept.as_bytes(), boot(self.boots)).expect("a ledger");
    }

    fn reconcile(&mut self) {
        for volume in self.ledger.earlier() {
            self.look(&volume);
        }
    }

    /// What must be true after every event.
    fn check(&self) {
        for (c, container) in self.containers.iter().enumerate() {
            if container.running || container.copying {
                let uses = self.ledger.uses(&volume_of(c));
                assert!(uses > 0, "container {c} uses a volume that the ledger calls unused");
            }
        }
    }

    /// Ends everything that goes on, as dockerd would, and looks what is left.
    fn check_the_end(mut self) {
        for c in 0..CONTAINERS {
            self.apply(Event::CopyEnds(c));
            self.apply(Event::Stop(c));
        }
        self.reconcile();
        assert_eq!(self.ledger.volumes().count(), 0, "left over: {:?}", self.ledger);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_volume_in_use_is_never_called_unused_and_one_out_of_use_always_is(
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
            world.check();
        }
        world.check_the_end();
    }
}
