//! The dials that a torrent has begun, or the search for one.
//!
//! Invariant: whatever comes of a dial is told to whoever began it, unless the dials were stopped before; none begins uncounted, and none goes
//! to an address that peers may not have.

use crate::connect::{self, Dial, Introduction};
use crate::engine::Environment;
use crate::inbox::Sender;
use crate::torrent::ToTorrent;
use tokio_util::sync::CancellationToken;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    under_way: CancellationToken,
    begun: u64,
}

impl Dials {
    /// Opens a connection, on one of the event loops.
    pub(crate) fn begin(
        &mut self,
        environment: &Environment,
        us: Introduction,
        whom: Dial,
        beginner: Sender<ToTorrent>,
    ) {
        self.begun += 1;
        let (dialer, under_way) = (environment.dialer.clone(), self.under_way.clone());
        let allowed = environment.admission.allows(whom.address.ip());
        environment.pool.next().spawn(async move {
            let Dial { key, address, .. } = whom;
            if !allowed {
                drop(beginner.send(ToTorrent::DialFailed(key)).await);
                return;
            }
            let dialling = connect::dial(&dialer, us, whom);
            let outcome = match under_way.run_until_cancelled(dialling).await {
                None => return,
                Some(Ok(ready)) => ToTorrent::Dialled(Box::new(ready)),
                Some(Err(error)) => {
                    // The words of an error may name the address.
                    tracing::debug!(peer = key.0, kind = %error.kind(), "a dial came to nothing");
                    tracing::trace!(peer = key.0, %address, %error);
                    ToTorrent::DialFailed(key)
                }
            };
            drop(beginner.send(outcome).await);
        });
    }

    /// How many were begun so far.
    pub(crate) const fn begun(&self) -> u64 {
        self.begun
    }

    /// Ends those under way.
    pub(crate) fn stop(&self) {
        self.under_way.cancel();
    }
}
