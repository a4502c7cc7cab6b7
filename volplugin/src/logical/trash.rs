//! Taking away what is no volume any more, or never became one.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use dockline_daemon::config::WipeWay;
use dockline_lvm::Command;
use dockline_mounts::{BlockDevice, Wipe};
use dockline_vol_core::{Layout, Stage, Tagged, VolumeRecord};
use nix::errno::Errno;

use super::{LogicalDisks, PATIENCE, Place, device, ours};
use crate::backend::BackendError;
use crate::blocking;

/// What becomes of a removed thick volume's content. A thin one's blocks go back to the pool, which
/// gives them out as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WipeChoice(Option<Wipe>);

impl From<WipeWay> for WipeChoice {
    fn from(way: WipeWay) -> Self {
        Self(match way {
            WipeWay::Discard => Some(Wipe::Discard),
            WipeWay::Zero => Some(Wipe::Zero),
            WipeWay::None => None,
        })
    }
}

impl LogicalDisks {
    /// Looks for what is to go, and takes it away: trash, what was never finished, and what its
    /// creator was told had failed. Goes on past what fails, and then says so.
    pub(super) async fn sweep(&self) -> Result<(), BackendError> {
        let _one = self.0.sweeping.lock().await;
        let picture = self.look(PATIENCE).await?;
        let mut result = Ok(());
        let mut seen = BTreeSet::new();
        for (place, tagged) in ours(&picture) {
            let Tagged::Ours(stage, record) = tagged else { continue };
            seen.insert(record.id.clone());
            if self.is_to_go(stage, &record) {
                let gone = self.take_away(&place, &record).await;
                tracing::info!(at = place.path(), volume = %record.name, ok = gone.is_ok(), "freed");
                result = result.and(gone);
            }
        }
        // One that is not there has gone, or waits behind a command that hangs: the next look that
        // shows it is after that.
        self.known().abandoned.retain(|id| seen.contains(id));
        if result.is_ok() { self.look(PATIENCE).await.map(drop) } else { result }
    }

    fn is_to_go(&self, stage: Stage, record: &VolumeRecord) -> bool {
        let known = self.known();
        let is_volume = known.places.contains_key(&record.id);
        let abandoned = known.abandoned.contains(&record.id);
        match stage {
            Stage::Creating => !known.making.contains(&record.id),
            Stage::Ready => abandoned,
            // A removal whose outcome is not known yet: asked for again, it succeeds.
            Stage::Trash => !is_volume,
        }
    }

    async fn take_away(&self, place: &Place, record: &VolumeRecord) -> Result<(), BackendError> {
        if let (Some(how), Some(Layout::Thick)) = (self.0.wipe.0, record.layout) {
            self.wipe(place, how).await?;
        }
        self.run(Command::new("lvremove").arg("-y").arg(place.path())).await
    }

    async fn wipe(&self, place: &Place, how: Wipe) -> Result<(), BackendError> {
        self.run(Command::new("lvchange").args(["-ay", "-K"]).arg(place.path())).await?;
        let path = device::node(&place.group, &place.name);
        let wiped = blocking({
            let path = path.clone();
            // Claimed, so that it is nobody's while it is wiped.
            move || BlockDevice::claim(&path)?.wipe(how)
        });
        wiped.await.or_else(|error| match (error.kind(), error.raw_os_error()) {
            (ErrorKind::NotFound, _) => Ok(()),
            (_, Some(code)) if code == Errno::ENXIO as i32 => Ok(()),
            _ => Err(BackendError::storage("wipe", &path)(error)),
        })
    }
}
