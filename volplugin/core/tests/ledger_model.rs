//! The ledger against a model of the world: dockerd, its containers, and what each of them knows.
//!
//! The model sends the plugin exactly the calls that dockerd would send, and knows what is true.
//! It shares no code with the ledger.

use std::collections::BTreeSet;

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
    /// `docker cp` begins, on a running or a stopped container.
    CopyBegins(usize),
    /// The earliest `docker cp` on the container ends.
    CopyEnds(usize),
    /// dockerd is killed and started again; with live-restore its containers run on.
    DockerdDies { live_restore: bool },
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
    prop_oneof![
        6 => container.clone().prop_map(Event::Start),
        4 => container.clone().prop_map(Event::Stop),
        3 => container.clone().prop_map(Event::CopyBegins),
        3 => container.clone().prop_map(Event::CopyEnds),
        1 => any::<bool>().prop_map(|live_restore| Event::DockerdDies { live_restore }),
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
    copies: u32,
}

#[derive(Debug)]
struct World {
    containers: [Container; CONTAINERS],
    ledger: Ledger,
    boots: u32,
    /// Uses that a live container of the same volume may have kept although their own container
    /// died: the ledger cannot tell, and a later generation clears them.
    unsure: BTreeSet<usize>,
}

fn volume_of(container: usize) -> VolumeName {
    format!("v{}", container % VOLUMES).parse().expect("a name")
}

fn id_of(container: usize) -> MountId {
    format!("id{container}").parse().expect("an id")
}

fn boot(number: u32) -> BootId {
    BootId(format!("boot {number}"))
}

impl World {
    fn new() -> Self {
        let containers = [Container::default(); CONTAINERS];
        Self { containers, ledger: Ledger::new(boot(0)), boots: 0, unsure: BTreeSet::new() }
    }

    /// Whether a container runs on the volume, which is what a look at all mount namespaces finds.
    fn alive(&self, volume: &VolumeName) -> bool {
        (0..CONTAINERS).any(|c| self.containers[c].running && volume_of(c) == *volume)
    }

    fn mount(&mut self, container: usize) {
        let volume = volume_of(container);
        let alive = self.alive(&volume);
        let own = self.containers[container].running;
        let mut asked = false;
        let seen = || {
            asked = true;
            alive
        };
        self.ledger.mount(&volume, &id_of(container), seen).expect("few uses");
        if asked && alive && !own {
            self.unsure.insert(container);
        }
    }

    /// Ends one use, and looks that nothing is left of it if it was the container's last.
    fn unmount(&mut self, container: usize) {
        let (volume, id) = (volume_of(container), id_of(container));
        self.ledger.unmount(&volume, &id);
        let Container { running, copies } = self.containers[container];
        if !running && copies == 0 && !self.unsure.contains(&container) {
            assert_eq!(self.ledger.clone().unmount(&volume, &id), Unmounted::Unknown);
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Start(c) if !self.containers[c].running => {
                self.mount(c);
                self.containers[c].running = true;
            }
            Event::Stop(c) if self.containers[c].running => {
                self.containers[c].running = false;
                self.unmount(c);
            }
            Event::CopyBegins(c) => {
                self.mount(c);
                self.containers[c].copies += 1;
            }
            Event::CopyEnds(c) if self.containers[c].copies > 0 => {
                self.containers[c].copies -= 1;
                self.unmount(c);
            }
            Event::DockerdDies { live_restore } => {
                for container in &mut self.containers {
                    container.copies = 0;
                    container.running &= live_restore;
                }
                self.unsure.clear();
                self.ledger.new_generation();
            }
            Event::PluginRestarts => self.restart(),
            Event::Reconcile => self.reconcile(),
            Event::StrayUnmount(c) => {
                let stray = self.ledger.unmount(&volume_of(c), &"stray".parse().expect("an id"));
                assert_eq!(stray, Unmounted::Unknown);
            }
            Event::Reboot => {
                self.containers = [Container::default(); CONTAINERS];
                self.unsure.clear();
                self.boots += 1;
                self.restart();
            }
            Event::Start(_) | Event::Stop(_) | Event::CopyEnds(_) => {}
        }
    }

    fn restart(&mut self) {
        let kept = self.ledger.to_json().expect("JSON");
        self.ledger = Ledger::from_json(kept.as_bytes(), boot(self.boots)).expect("a ledger");
    }

    fn reconcile(&mut self) {
        for volume in self.ledger.stale() {
            if !self.alive(&volume) {
                self.ledger.forget_stale(&volume);
            }
        }
    }

    /// What must be true after every event.
    fn check(&self) {
        for (c, container) in self.containers.iter().enumerate() {
            if container.running || container.copies > 0 {
                let uses = self.ledger.uses(&volume_of(c));
                assert!(uses > 0, "container {c} uses a volume that the ledger calls unused");
            }
        }
    }

    /// Ends everything that goes on, as dockerd would, and looks what is left.
    fn check_the_end(mut self) {
        for c in 0..CONTAINERS {
            while self.containers[c].copies > 0 {
                self.apply(Event::CopyEnds(c));
            }
            self.apply(Event::Stop(c));
        }
        self.reconcile();
        let left: Vec<_> = self.ledger.volumes().cloned().collect();
        let unsure: Vec<_> = self.unsure.iter().map(|&c| volume_of(c)).collect();
        assert!(left.iter().all(|volume| unsure.contains(volume)), "left over: {left:?}");
        self.apply(Event::DockerdDies { live_restore: false });
        self.reconcile();
        assert_eq!(self.ledger.volumes().count(), 0, "left after the next dockerd");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

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
