//! Where the files of a torrent are: removing them.

use crate::engine::{AddTorrent, EngineError, EngineHandle, wanted_files};
use crate::start;
use shoal_storage::{Fate, Removed};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Tells whoever removes files that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl EngineHandle {
    /// Removes what `torrent` has on the disk: its own files and nothing else, see [`shoal_storage::Storage::remove`]. It does not run,
    /// and is not added meanwhile. Returns `within` the time whatever the disk does; what is left then goes with a second call.
    ///
    /// # Errors
    /// Where the torrent runs, the selection does not fit, the directory is missing, or the disk took too long.
    pub async fn remove_content(
        &self,
        torrent: &AddTorrent,
        fate: Fate,
        within: Duration,
    ) -> Result<Removed, EngineError> {
        let wanted = wanted_files(torrent)?;
        let spec = start::content_spec(torrent, &wanted);
        let place = self.reserve(torrent.metainfo.info_hashes())?;
        let storage = self.environment.storage.clone();
        let cancelled = Arc::new(AtomicBool::new(false));
        let waiting = Waiting(Arc::clone(&cancelled));
        let removing = tokio::task::spawn_blocking(move || {
            let removed = storage.remove(&spec, &fate, &cancelled);
            // Nobody adds it before the last of its files was touched.
            drop(place);
            removed
        });
        let removed = tokio::time::timeout(within, removing).await;
        drop(waiting);
        let removed = removed.map_err(|_| EngineError::SlowDisk)?;
        Ok(removed.map_err(|_| EngineError::Stopped)??)
    }
}
