//! What came of a run.
//!
//! Invariant: an outcome is taken from what nodes verified, sent and received, not from what they say of themselves.

use crate::setup::{Behaviour, NodeId, Setup};
use core::fmt;
use shoal_machine::Moment;
use shoal_metainfo::PieceIndex;
use std::collections::BTreeMap;

/// What came of one node.
#[derive(Clone, Debug, Default)]
pub struct NodeOutcome {
    /// When all it wanted was verified; `None` where it never was, or was from the start.
    pub completed: Option<Moment>,
    /// When each piece was verified, in that order.
    pub verified: Vec<(PieceIndex, Moment)>,
    /// Payload bytes that left it.
    pub sent_bytes: u64,
    /// `sent_bytes` and `received_bytes` as of each [`Outcome::SAMPLE`].
    pub samples: Vec<(u64, u64)>,
    /// Payload bytes that reached it.
    pub received_bytes: u64,
    /// Blocks that came although they were there.
    pub duplicate_blocks: u64,
    /// Blocks that came although they were not wanted any more.
    pub discarded_blocks: u64,
    /// It became a super-seed when it had given enough.
    pub super_seeded: bool,
    /// Whom it banned.
    pub banned: Vec<NodeId>,
    /// How often its disk stopped taking more.
    pub suspensions: u32,
    /// Requests that it could not serve because its volume was gone.
    pub unreadable: u32,
    /// Connections that ended.
    pub lost_connections: u32,
    /// Dials that it began while it had no interface.
    pub dials_adrift: u32,
    /// Disk operations.
    pub disk_operations: u64,
}

/// What came of a swarm.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By node.
    pub nodes: Vec<NodeOutcome>,
    /// When the last of those who were to finish did.
    pub last_completion: Moment,
    /// A number that stands for everything that happened.
    pub trace: u64,
    /// How many things happened.
    pub events: u64,
    /// How many messages were read from connections.
    pub messages: u64,
}

impl NodeOutcome {
    /// When it was done, in seconds; infinite where it was not.
    #[must_use]
    pub fn done_s(&self) -> f64 {
        self.completed.map_or(f64::INFINITY, Moment::as_secs_f64)
    }
}

impl Outcome {
    /// How often [`NodeOutcome::samples`] were taken, from the beginning of time on.
    pub const SAMPLE: core::time::Duration = crate::world::WATCH;

    /// The outcomes of the honest nodes of `setup`.
    pub fn honest<'a>(&'a self, setup: &'a Setup) -> impl Iterator<Item = &'a NodeOutcome> {
        let both = setup.nodes.iter().zip(&self.nodes);
        both.filter(|(node, _)| node.behaviour == Behaviour::Honest)
            .map(|(_, outcome)| outcome)
    }

    /// When the last piece was verified by the first of those who had to fetch it: from then on the seeds are not needed.
    #[must_use]
    pub fn last_first_copy(&self) -> Moment {
        let mut first: BTreeMap<PieceIndex, Moment> = BTreeMap::new();
        for &(piece, at) in self.nodes.iter().flat_map(|node| &node.verified) {
            let earliest = first.entry(piece).or_insert(at);
            *earliest = at.min(*earliest);
        }
        first.into_values().max().unwrap_or_default()
    }

    /// Payload bytes received by honest nodes that fetched all of the content, over those that they needed.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn overhead(&self, setup: &Setup) -> f64 {
        let (mut received, mut needed) = (0u64, 0u64);
        for node in self.honest(setup).filter(|node| node.completed.is_some()) {
            received += node.received_bytes;
            needed += setup.total_bytes;
        }
        received as f64 / needed.max(1) as f64
    }
}

/// Why a run is not as it should be.
#[derive(Clone)]
pub struct Failure {
    /// What is wrong.
    pub reasons: Vec<String>,
    /// The state of those who did not finish.
    pub state: String,
    /// The seed, to see it again.
    pub seed: u64,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}:", self.seed)?;
        for reason in &self.reasons {
            writeln!(f, "  {reason}")?;
        }
        f.write_str(&self.state)
    }
}
