//! Where the data of torrents lies.
//!
//! Invariant: one thing is said at a time.

use std::path::PathBuf;

use clap::Args;

use super::super::StateArgs;

/// Move the data of torrents of the running node, also while they run
///
/// It goes to the folder, which is the torrent's own from then on, whatever its category says. All torrents are looked at before one is
/// moved, and one that cannot be moved stays where it is. The move goes on in the node; `shoal list` shows how far it is.
#[derive(Debug, Args)]
#[group(id = "where", required = true, multiple = false, args = ["directory", "incomplete", "inherit", "stay"])]
pub(crate) struct MoveArgs {
    /// Torrents, as for `shoal list`
    #[arg(value_name = "TORRENT")]
    pub(crate) torrents: String,
    /// The folder that their own files or folders come to be in
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Another folder until everything wanted is there: DIR, `none`, or `inherit` for what the category, tags or settings say
    #[arg(long, value_name = "DIR")]
    pub(crate) incomplete: Option<PathBuf>,
    /// To where the category, a tag or the settings say, also later
    #[arg(long)]
    pub(crate) inherit: bool,
    /// Stay where they are, whatever others say
    #[arg(long)]
    pub(crate) stay: bool,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}
