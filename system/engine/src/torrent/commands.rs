//! What a person asks of a torrent that runs.
//!
//! Invariant: of priorities, the last word holds, and it holds once storage knows of it: no block is asked for that it has no file for.

use super::{ToTorrent, TorrentTask};
use crate::command::{Command, CommandError, Reply};
use crate::lines::{self, FileLine, PieceLine};
use crate::priorities::FilePriority;
use crate::start;
use shoal_storage::StorageError;
use shoal_swarm::torrent::{Input, Origin};
use shoal_swarm::{CloseReason, PeerKey};
use url::Url;

/// Priorities on their way to storage, and those that follow them.
#[derive(Debug, Default)]
pub(super) struct Selecting {
    under_way: Option<Wanted>,
    next: Option<Wanted>,
}

impl Selecting {
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_none()
    }
}

#[derive(Debug)]
struct Wanted {
    files: Vec<FilePriority>,
    reply: Reply<()>,
}

impl TorrentTask {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Files(reply) => return drop(reply.send(Ok(self.file_lines()))),
            Command::Pieces(reply) => return drop(reply.send(Ok(self.piece_lines()))),
            Command::Open(file, range, reply) => return drop(reply.send(self.open(file, range))),
            Command::Need(need) => return self.on_need(need),
            Command::Priorities(files, reply) => self.prioritise(Wanted { files, reply }),
            Command::Sequential(sequential) => {
                self.parts.wishes.sequential = sequential;
                self.handle(Input::Sequential(sequential));
            }
            Command::FirstLast(first_last) => {
                self.parts.wishes.first_last = first_last;
                self.apply_wishes();
            }
            Command::SuperSeed(super_seed) => {
                self.parts.wishes.super_seed = super_seed;
                self.handle(Input::SuperSeed(super_seed));
            }
            // What no torrent describes has no peers.
            Command::Peers(_) if self.parts.metainfo.is_plain() => {}
            Command::Peers(addresses) => {
                self.parts.wishes.add_peers(&addresses);
                self.parts.names_peers = true;
                let origin = Origin::User;
                self.handle(Input::Candidates { origin, addresses });
            }
            Command::MaxConnections(most) => {
                self.parts.wishes.max_connections = most;
                self.limit_connections();
            }
            Command::MaxUploads(most) => {
                self.parts.wishes.max_uploads = most;
                self.limit_uploads();
            }
            Command::Trackers(_) if self.parts.metainfo.is_plain() => {}
            Command::Trackers(tiers) => self.replace_trackers(tiers),
            Command::Reannounce(tracker) => {
                if let (Some(dht), None) = (&self.parts.dht, &tracker) {
                    dht.want_peers();
                }
                self.parts.trackers.reannounce(tracker);
            }
            Command::AddWebSeed(url, reply) => {
                let outcome = self.web_seeds.add(url);
                self.start_web_seeds();
                drop(reply.send(outcome));
            }
            Command::RemoveWebSeed(url) => self.remove_web_seed(&url),
            Command::Verify(reply) => {
                let outcome = self.verify_all();
                // Whoever looks when the answer is there sees that it is so.
                self.show();
                drop(reply.send(outcome));
            }
        }
        self.report_early = true;
    }

    fn file_lines(&self) -> Vec<FileLine> {
        let piece = |piece| self.torrent.piece(piece);
        lines::files(&self.parts.metainfo, &self.parts.wishes.files, piece)
    }

    fn piece_lines(&self) -> Vec<PieceLine> {
        let pieces = self.torrent.layout().pieces();
        pieces
            .map(|piece| self.torrent.piece(piece).into())
            .collect()
    }

    /// Storage first: it moves what it has of a file that becomes wanted.
    fn prioritise(&mut self, wanted: Wanted) {
        let selection = match start::selection(&self.parts.metainfo, &wanted.files) {
            Ok(selection) => selection,
            Err(error) => return drop(wanted.reply.send(Err(error))),
        };
        if self.selecting.under_way.is_some() {
            if let Some(before) = self.selecting.next.replace(wanted) {
                drop(before.reply.send(Err(CommandError::Overtaken)));
            }
            return;
        }
        self.selecting.under_way = Some(wanted);
        let (content, sender) = (
            self.parts.on_disk.content.clone(),
            self.parts.inbox.sender(),
        );
        let selecting = tokio::task::spawn_blocking(move || content.select(&selection));
        tokio::spawn(async move {
            if let Ok(outcome) = selecting.await {
                drop(sender.send(ToTorrent::Selected(outcome)).await);
            }
        });
    }

    pub(super) fn on_selected(&mut self, outcome: Result<(), StorageError>) {
        let Some(Wanted { files, reply }) = self.selecting.under_way.take() else {
            return;
        };
        if outcome.is_ok() {
            self.parts.wishes.files = files;
            self.apply_wishes();
            self.report_early = true;
            self.show();
        }
        drop(reply.send(outcome.map_err(CommandError::from)));
        if let Some(next) = self.selecting.next.take()
            && !self.stopping
        {
            self.prioritise(next);
        }
    }

    fn apply_wishes(&mut self) {
        let priorities = self.parts.wishes.of_pieces(&self.parts.metainfo);
        self.handle(Input::Priorities(priorities));
    }

    /// Trackers in place of all.
    fn replace_trackers(&mut self, tiers: Vec<Vec<Url>>) {
        let parts = &mut self.parts;
        let (us, sender) = (parts.introduction, parts.inbox.sender());
        let (trackers, environment) = (&mut parts.trackers, &parts.environment);
        start::replace_trackers(trackers, environment, us, tiers, &self.torrent, sender);
    }

    /// The most that a person and the session allow.
    pub(super) fn limit_connections(&mut self) {
        let own = self.parts.wishes.max_connections.unwrap_or(u32::MAX);
        let most = own.min(self.kept.session_max_connections);
        self.handle(Input::MaxConnections(most));
    }

    pub(super) fn limit_uploads(&mut self) {
        let (torrent, most) = (self.parts.id, self.parts.wishes.max_uploads);
        self.up
            .push(shoal_session::Input::SlotsOf { torrent, most });
    }

    /// Ends connections with those whose address is forbidden by now.
    pub(super) fn send_forbidden_away(&mut self) {
        let admission = self.parts.environment.admission.clone();
        let forbidden = self.torrent.peers();
        let forbidden = forbidden.filter(|peer| !admission.allows(peer.address.ip()));
        let forbidden: Vec<PeerKey> = forbidden.map(|peer| peer.key).collect();
        for peer in forbidden {
            let reason = CloseReason::Forbidden;
            self.handle(Input::Disconnect { peer, reason });
        }
    }
}
