//! What a torrent says of itself: to the session, to its trackers, and to whoever looks.

use super::{Counts, TorrentTask};
use crate::snapshot::{PeerLine, Phase, Snapshot};
use shoal_session::{Candidate, PeerId};
use shoal_swarm::torrent::{PeerSummary, Progress};
use std::time::{Duration, Instant};

/// How often peers are reported to the session and the snapshot is renewed, at most.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that are wanted, and those of them that are missing. Whoever only seeds has told the machine that nothing is wanted.
pub(crate) const fn wanted(progress: &Progress, seed_only: bool) -> (u64, u64) {
    match seed_only {
        true => (
            progress.total_bytes,
            progress.total_bytes - progress.have_bytes,
        ),
        false => (progress.wanted_bytes, progress.missing_bytes),
    }
}

impl TorrentTask {
    /// Once a second while there are peers or news, and when something happened that should be known at once. Without peers and news
    /// there is nothing to be woken for.
    pub(super) fn report(&mut self) {
        let now = self.parts.environment.clock.now();
        let is_due = self.next_report.is_some_and(|at| at <= now);
        if !is_due && !self.report_early {
            return;
        }
        self.report_early = false;
        self.last_report = now;
        self.next_report = (!self.peers.is_empty()).then(|| now + REPORT_INTERVAL);
        self.report_peers();
        self.update_trackers();
        self.show();
    }

    /// The peers to the session, which decides who is choked.
    fn report_peers(&mut self) {
        let any = self.torrent.peer_count() > 0;
        if !std::mem::replace(&mut self.reported_peers, any) && !any {
            return;
        }
        let (torrent, seeding) = (self.parts.id, self.torrent.is_complete());
        let pieces = u64::from(self.parts.layout.piece_count().max(1));
        let peers = self
            .torrent
            .choke_candidates()
            .map(|peer| Candidate {
                id: PeerId {
                    torrent,
                    peer: peer.key,
                },
                interested: peer.interested,
                seeding,
                snubbed: peer.report.snubbed,
                download_rate: peer.report.download_rate,
                upload_rate: peer.report.upload_rate,
                uploaded_bytes: peer.report.uploaded_bytes,
                downloaded_bytes: peer.report.downloaded_bytes,
                has_permille: u16::try_from(u64::from(peer.has_pieces) * 1000 / pieces)
                    .unwrap_or(1000),
                joined: peer.since,
            })
            .collect();
        self.up.push(shoal_session::Input::Peers { torrent, peers });
    }

    /// What the next announces are to say.
    pub(super) fn update_trackers(&mut self) {
        // What is not read again yet is not lost.
        if self.verifying.is_some() {
            return;
        }
        let Counts {
            uploaded_bytes: uploaded,
            downloaded_bytes: downloaded,
            ..
        } = self.kept.counts;
        self.parts
            .trackers
            .update(uploaded, downloaded, &self.torrent);
        if let Some(dht) = &mut self.parts.dht {
            dht.update(self.torrent.have().is_full());
        }
    }

    fn peer_line(&self, peer: &PeerSummary, pieces: u32) -> PeerLine {
        let known = self.peers.get(&peer.key);
        let clock = self.parts.environment.clock;
        PeerLine {
            address: peer.address,
            client: known.and_then(|known| known.client.clone()),
            origin: peer.origin,
            over_utp: peer.over_utp,
            encrypted: known.is_some_and(|known| known.encrypted),
            since: clock.instant(peer.since).unwrap_or_else(Instant::now),
            seed: peer.has_pieces == pieces,
            pieces: peer.has_pieces,
            we_are_interested: peer.we_are_interested,
            chokes_us: peer.chokes_us,
            interested: peer.interested,
            choked: !peer.unchoked,
            snubs_us: peer.report.snubbed,
            downloaded_bytes: peer.report.downloaded_bytes,
            uploaded_bytes: peer.report.uploaded_bytes,
            download_rate: peer.report.download_rate,
            upload_rate: peer.report.upload_rate,
        }
    }

    fn phase(&self) -> Phase {
        if let Some(reason) = &self.failed {
            return Phase::Failed(reason.clone());
        }
        if let Some(verifying) = &self.verifying {
            let (checked, total) = verifying.progress();
            return Phase::Checking { checked, total };
        }
        if let Some(moving) = self.moving.phase() {
            return moving;
        }
        let running = if self.torrent.is_complete() && !self.unchecked {
            Phase::Seeding
        } else {
            Phase::Downloading
        };
        self.suspended.clone().unwrap_or(running)
    }

    /// Renews the snapshot.
    pub(super) fn show(&mut self) {
        let progress = self.torrent.progress();
        let (wanted_bytes, missing_bytes) = wanted(&progress, self.parts.seed_only);
        let pieces = self.parts.layout.piece_count();
        let peers: Vec<PeerLine> = self
            .torrent
            .peers()
            .map(|peer| self.peer_line(&peer, pieces))
            .collect();
        let web_seeds = self.web_seed_lines();
        let from_web: u64 = web_seeds.iter().map(|seed| seed.download_rate).sum();
        let trackers = self.parts.trackers.lines();
        self.parts.shown.replace(Snapshot {
            phase: self.phase(),
            no_route: self.parts.environment.no_route(),
            location: Some(self.parts.on_disk.content.location()),
            complete: missing_bytes == 0
                && !self.unchecked
                && self.failed.is_none()
                && self.verifying.is_none(),
            wanted_bytes,
            wanted_verified_bytes: wanted_bytes - missing_bytes,
            verified_bytes: progress.have_bytes,
            verified_pieces: progress.have_pieces,
            resumed_pieces: self.kept.counts.resumed_pieces,
            downloaded_bytes: self.kept.counts.downloaded_bytes,
            uploaded_bytes: self.kept.counts.uploaded_bytes,
            wasted_bytes: self.kept.counts.wasted_with(&progress),
            failed_pieces: self.kept.counts.failed_pieces,
            lost_pieces: self.kept.counts.lost_pieces,
            rechecking_pieces: self.rechecks.under_way(),
            download_rate: from_web + peers.iter().map(|peer| peer.download_rate).sum::<u64>(),
            upload_rate: peers.iter().map(|peer| peer.upload_rate).sum(),
            peers,
            web_seeds,
            trackers,
        });
    }
}
