//! Taking over what another client had: its word for which pieces are right, in place of a check.
//!
//! Invariant: nobody runs a torrent while its content is being taken over.

use crate::engine::{AddTorrent, EngineError, EngineHandle, wanted_files};
use crate::start;
use shoal_storage::{Adopted, Claims, ContentSpec, Storage, StorageError};

/// How it is done.
type Adopt = fn(&Storage, &ContentSpec, &Claims) -> Result<Option<Adopted>, StorageError>;

impl EngineHandle {
    /// Has the content of `torrent`, which does not run and has a journal, taken over from another client, see
    /// [`shoal_storage::Storage::adopt`]: its next run begins with what is taken for right, and verifies what is suspect. `None` where its
    /// journal is there already, which then holds. It is not added meanwhile. Whoever calls says how many disks may be busy with it.
    ///
    /// # Errors
    /// Where the torrent runs, the priorities do not fit, or the disk refuses; nothing is taken over then.
    pub async fn adopt_content(
        &self,
        torrent: &AddTorrent,
        claims: Claims,
    ) -> Result<Option<Adopted>, EngineError> {
        self.adopting(torrent, claims, Storage::adopt).await
    }

    /// What would come of [`Self::adopt_content`]. Nothing on the disk changes.
    ///
    /// # Errors
    /// The same.
    pub async fn survey_content(
        &self,
        torrent: &AddTorrent,
        claims: Claims,
    ) -> Result<Option<Adopted>, EngineError> {
        self.adopting(torrent, claims, Storage::survey).await
    }

    async fn adopting(
        &self,
        torrent: &AddTorrent,
        claims: Claims,
        adopt: Adopt,
    ) -> Result<Option<Adopted>, EngineError> {
        let wanted = wanted_files(torrent)?;
        let spec = start::content_spec(torrent, &wanted);
        let place = self.reserve(torrent.metainfo.info_hashes())?;
        let storage = self.environment.storage.clone();
        let adopting = tokio::task::spawn_blocking(move || {
            let adopted = adopt(&storage, &spec, &claims);
            drop(place);
            adopted
        });
        Ok(adopting.await.map_err(|_| EngineError::Stopped)??)
    }
}
