//! What is asked of a node that is to end.
//!
//! Invariant: nothing but where the node is.

use clap::Args;

use crate::args::StateArgs;

/// End the running node
///
/// As Ctrl-C and SIGTERM do: it takes leave of trackers and peers and writes down what is verified, within two seconds. The command ends
/// when the node has.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) state: StateArgs,
}
