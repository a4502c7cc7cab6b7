//! The faults a test can make: power, links, processes, full disks.
//!
//! Faults of a disk that are made by device-mapper are in [`crate::disk`].

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::command::Cmd;
use crate::error::LabError;
use crate::node::Node;
use crate::trunk::Way;

/// What the trunk does to what a node sends, made by netem on the node's own card: the machine's
/// kernel need not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Impairment {
    /// How long every frame is held back.
    pub delay: Duration,
    /// How many of a hundred frames are lost; at most 100.
    pub loss_percent: u8,
}

impl Node {
    /// Cuts the power: everything on the node ends this instant, and its disks keep what it had
    /// written through. Cutting a node that is off does nothing.
    pub async fn power_off(&self) -> Result<(), LabError> {
        let mut power = self.0.power.lock().await;
        power.since = None;
        match power.running.take() {
            Some(running) => running.cut().await,
            None => Ok(()),
        }
    }

    /// Cuts the power and boots the node again on its disks; returns how long the boot took.
    pub async fn power_cycle(&self) -> Result<Duration, LabError> {
        self.power_off().await?;
        self.boot().await
    }

    /// Stops the whole node in its tracks, as a hypervisor that pauses a guest. Its clock goes on.
    pub async fn pause(&self) -> Result<(), LabError> {
        self.signal(Signal::SIGSTOP).await
    }

    /// Lets a paused node go on.
    pub async fn resume(&self) -> Result<(), LabError> {
        self.signal(Signal::SIGCONT).await
    }

    async fn signal(&self, signal: Signal) -> Result<(), LabError> {
        match &self.running().await?.running {
            Some(running) => running.signal(signal),
            None => Ok(()),
        }
    }

    fn tap(&self, card: usize) -> Result<&str, LabError> {
        let tap = self.0.taps.cards.get(card).map(String::as_str);
        tap.ok_or_else(|| self.no_such(format!("card vec{card}")))
    }

    pub(crate) fn no_such(&self, what: String) -> LabError {
        LabError::NoSuchPart { node: self.name().to_owned(), what }
    }

    /// Cuts the link of a card on the trunk, both ways or one way. The card does not notice: its
    /// carrier stays, as behind a switch that has lost its uplink.
    pub async fn cut_link(&self, card: usize, way: Way) -> Result<(), LabError> {
        self.0.trunk.cut(self.tap(card)?, way).await
    }

    /// Heals the link of a card, whether it was cut or not.
    pub async fn heal_link(&self, card: usize) -> Result<(), LabError> {
        self.0.trunk.heal(self.tap(card)?).await
    }

    /// Delays or loses what the node sends on a card from now until its next boot; the default
    /// impairment is none. It replaces the card's root queueing discipline.
    pub async fn impair(&self, card: usize, by: Impairment) -> Result<(), LabError> {
        self.tap(card)?;
        let device = format!("vec{card}");
        let queue = Cmd::new("tc").args(["qdisc"]);
        if by == Impairment::default() {
            // There is nothing to delete on a card that was not impaired.
            return self.output(queue.args(["del", "dev", &device, "root"])).await.map(drop);
        }
        let delay = format!("{}us", by.delay.as_micros());
        let loss = format!("{}%", by.loss_percent);
        let netem = ["replace", "dev", &device, "root", "netem"];
        let netem = queue.args(netem).args(["delay", &delay, "loss", &loss, "limit", "100000"]);
        self.run("modprobe sch_netem").await?;
        self.run(netem).await.map(drop)
    }

    /// Sends a signal (`KILL`, `STOP`, `CONT`, `TERM`…) to every process of this exact name; fails
    /// if there is none.
    pub async fn signal_program(&self, name: &str, signal: &str) -> Result<(), LabError> {
        self.run(["pkill", "--exact", "--signal", signal, "--", name]).await.map(drop)
    }

    /// Kills every process of this exact name as a crash would, and waits until they are gone.
    pub async fn kill_program(&self, name: &str) -> Result<(), LabError> {
        self.signal_program(name, "KILL").await?;
        self.wait_for_end(name).await
    }

    /// Asks every process of this exact name to end, and waits until they are gone.
    pub async fn stop_program(&self, name: &str) -> Result<(), LabError> {
        self.signal_program(name, "TERM").await?;
        self.wait_for_end(name).await
    }

    async fn wait_for_end(&self, name: &str) -> Result<(), LabError> {
        let gone = Cmd::sh("! pgrep --exact -- \"$1\"").args(["sh", name]);
        self.wait_for(&format!("the end of {name}"), Duration::from_secs(30), gone).await.map(drop)
    }

    /// Freezes every process of this exact name, as one that hangs.
    pub async fn freeze_program(&self, name: &str) -> Result<(), LabError> {
        self.signal_program(name, "STOP").await
    }

    /// Lets frozen processes go on.
    pub async fn thaw_program(&self, name: &str) -> Result<(), LabError> {
        self.signal_program(name, "CONT").await
    }

    /// Fills the file system of this folder to the last block, with a file that the returned path
    /// names; removing it ends the fault.
    pub async fn fill(&self, folder: &str) -> Result<String, LabError> {
        let file = format!("{folder}/lab-filler");
        // fallocate is quick and takes most; dd takes the rest, down to the last block.
        let script = "free=$(df --output=avail -B1 \"$1\" | tail -n1); \
            fallocate -l $((free / 100 * 98)) \"$2\"; \
            for size in 65536 4096; do \
              dd if=/dev/zero of=\"$2\" bs=$size oflag=append conv=notrunc 2>/dev/null || :; \
            done; sync \"$2\"; \
            [ \"$(df --output=avail -B1 \"$1\" | tail -n1)\" -lt 65536 ]";
        let fill = Cmd::sh(script).args(["sh", folder, &file]).deadline(Duration::from_secs(120));
        self.run(fill).await?;
        Ok(file)
    }
}
