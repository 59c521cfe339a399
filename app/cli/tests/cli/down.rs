//! The end of a node by a command.

use crate::node::{ask, up};
use crate::support::World;

#[test]
fn a_node_that_is_told_to_end_has_when_the_command_returns() {
    let world = World::new();
    let node = up(&world, "state", &[]);
    ask(&world, "state", &["down"]).expect(0);
    let gone = ask(&world, "state", &["down"]).expect(1);
    let message = gone.event("error")["message"].to_string();
    assert!(message.contains("shoal up"), "{message}");
    // The next one has the socket and the database at once.
    let next = up(&world, "state", &[]);
    node.end().expect(0);
    ask(&world, "state", &["down", "now"]).expect(2);
    ask(&world, "state", &["down"]).expect(0);
    next.end().expect(0);
}
