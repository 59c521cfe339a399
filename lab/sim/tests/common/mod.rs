//! What the scenarios of several files share.
#![allow(dead_code)]

use shoal_sim::{Behaviour, NodeOutcome, Outcome, Setup, World};

/// Runs a swarm in which everything is to go well.
pub fn run(setup: Setup) -> Outcome {
    match World::new(setup).run() {
        Ok(outcome) => outcome,
        Err(failure) => panic!("{failure:?}"),
    }
}

/// Payload bytes that reached honest nodes, over those that they needed.
pub fn overhead(setup: &Setup, outcome: &Outcome) -> f64 {
    let honest = honest(setup, outcome);
    let (mut received, mut needed) = (0u64, 0u64);
    for node in honest.filter(|node| node.completed.is_some()) {
        received += node.received_bytes;
        needed += setup.total_bytes;
    }
    received as f64 / needed as f64
}

/// The outcomes of the honest nodes.
pub fn honest<'a>(setup: &'a Setup, outcome: &'a Outcome) -> impl Iterator<Item = &'a NodeOutcome> {
    let both = setup.nodes.iter().zip(&outcome.nodes);
    both.filter(|(node, _)| node.behaviour == Behaviour::Honest)
        .map(|(_, outcome)| outcome)
}

/// When a node was done, in seconds.
pub fn done_s(node: &NodeOutcome) -> f64 {
    node.completed
        .expect("the node was done before the run ended")
        .as_secs_f64()
}
