//! `shoal priority`.

use shoal_node::message::Request;

use super::{Done, ask};
use crate::args::PriorityArgs;
use crate::output::Output;

/// Says how much files are wanted.
pub(crate) fn run(args: &PriorityArgs, output: &mut Output) -> Done {
    let request = Request::Prioritize(Box::new(args.told()));
    ask(&args.state, &request, &[], output)
}
