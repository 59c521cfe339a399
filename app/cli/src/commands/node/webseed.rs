//! `shoal webseed`.

use shoal_node::message::Request;

use super::{Done, ask};
use crate::args::WebSeedArgs;
use crate::output::Output;

/// Shows and changes web seeds.
pub(crate) fn run(args: &WebSeedArgs, output: &mut Output) -> Done {
    ask(&args.state, &Request::WebSeed(args.request()), &[], output)
}
