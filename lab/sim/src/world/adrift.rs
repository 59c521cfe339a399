//! Interfaces that go and come back.
//!
//! Whose interface is gone learns it at once, as every connection that was made on it ends, and every dial fails (`shoal_transport`, which
//! is tested for that with packets). The others learn nothing: what they send is answered by nobody, until the interface is back and the
//! first packet that is sent again is refused.
//!
//! Invariant: who is adrift says nothing, and hears nothing.

use super::connect::DIAL_TIMEOUT;
use super::{Event, World};
use crate::node::{EndId, Stage};
use crate::setup::NodeId;
use core::time::Duration;
use shoal_swarm::torrent::Input;

/// TCP has sent again by then what was answered by nobody: after two seconds or so, as it has waited longer each time.
const SENT_AGAIN_WITHIN: Duration = Duration::from_secs(3);

impl World {
    fn ends_of(&mut self, which: impl Fn(&crate::node::End) -> bool) -> Vec<EndId> {
        let ends = (0..).map(EndId).take(self.ends.len());
        let is_one = |id: &EndId| self.ends[id.get()].as_deref().is_some_and(&which);
        ends.filter(is_one).collect()
    }

    pub(super) fn interface_goes(&mut self, node: NodeId) {
        let after = self.when_heard();
        self.checks.silent(node, Some(after));
        let state = &mut self.nodes[node.get()];
        state.adrift = true;
        state.round.clear();
        state.leaving.clear();
        for end in self.ends_of(|end| end.node == node) {
            for side in [end, end.other()] {
                if let Some(state) = self.end(side) {
                    state.stalled = true;
                }
            }
            self.queue.push(self.now, Event::Breaks(end));
        }
        // Those that dialled it wait for an answer that does not come.
        for end in self.ends_of(|end| end.remote == node && end.stage == Stage::Opening) {
            let given_up = self.now + DIAL_TIMEOUT;
            self.queue.push(given_up, Event::DialFails(end));
        }
    }

    pub(super) fn interface_returns(&mut self, node: NodeId) {
        self.checks.silent(node, None);
        self.nodes[node.get()].adrift = false;
        for end in self.ends_of(|end| end.remote == node && end.stage == Stage::Open) {
            let longest = u64::try_from(SENT_AGAIN_WITHIN.as_millis()).unwrap_or(u64::MAX);
            let refused = self.now + Duration::from_millis(self.network.u64(..longest));
            self.queue.push(refused, Event::Breaks(end));
        }
        self.torrent_input(node, Input::NetworkChanged);
        self.announce_soon(node);
    }
}
