//! Addresses with which a node has nothing to do, as a filter made of lists says.
//!
//! Invariant: the filter is asked where the engine asks it: before a dial, before a connection is let in, and once more when its handshake
//! is there; and connections that there are end when it becomes another.

use super::World;
use crate::node::address_of;
use crate::setup::NodeId;
use core::fmt::Write;
use shoal_session::filter::IpFilterBuilder;
use shoal_swarm::torrent::Input;
use shoal_swarm::{CloseReason, PeerKey};

/// The others as people list them: in each of the three ways in turn.
fn list_of(others: &[NodeId]) -> String {
    let mut list = String::from("# whom we do not want\n");
    for (other, way) in others.iter().zip((0..3).cycle()) {
        let ip = address_of(*other).ip();
        let _infallible = match way {
            0 => writeln!(list, "{ip}/32"),
            1 => writeln!(list, "Some company: a branch:{ip}-{ip}"),
            _ => writeln!(list, "{ip} - {ip} , 000 , Some company"),
        };
    }
    list
}

impl World {
    pub(super) fn shun(&mut self, node: NodeId, others: &[NodeId]) {
        let mut filter = IpFilterBuilder::new();
        if let Ok(mut list) = filter.list() {
            list.feed(list_of(others).as_bytes());
            let report = list.finish();
            let read = u64::try_from(others.len()).unwrap_or(u64::MAX);
            if report.ranges != read {
                self.checks
                    .violate(&format!("{read} are listed: {report:?}"));
            }
        }
        let after = self.when_heard();
        self.checks.forbid(node, others, after);
        let state = &mut self.nodes[node.get()];
        state.filter = filter.build();
        let listed = state.torrent.peers();
        let listed = listed.filter(|peer| !state.filter.allows(peer.address.ip()));
        let listed: Vec<PeerKey> = listed.map(|peer| peer.key).collect();
        for peer in listed {
            let reason = CloseReason::Forbidden;
            self.torrent_input(node, Input::Disconnect { peer, reason });
        }
    }

    /// Whether a node has anything to do with another.
    pub(super) fn deals_with(&self, node: NodeId, other: NodeId) -> bool {
        let filter = &self.nodes[node.get()].filter;
        filter.allows(address_of(other).ip())
    }
}
