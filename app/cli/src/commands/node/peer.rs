//! `shoal peer`.

use shoal_node::message::Request;

use super::{Done, ask};
use crate::args::PeerArgs;
use crate::output::Output;

/// Shows, names and bans peers.
pub(crate) fn run(args: &PeerArgs, output: &mut Output) -> Done {
    ask(&args.state, &Request::Peer(args.request()), &[], output)
}
