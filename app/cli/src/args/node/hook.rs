//! What is asked of a node about programs that it runs.
//!
//! Invariant: a program and its arguments stay the words that they are.

use clap::{Args, Subcommand, ValueEnum};
use shoal_node::message::Occasion;

use crate::args::StateArgs;

/// Have the running node run a program when something happens to a torrent
///
/// No shell reads its arguments, in which these stand for what the torrent says, whatever that is: {name}, {category}, {tags},
/// {content} (its file or folder), {root} (its folder, where it has one), {folder} (that this is in), {files} (how many), {size} (in
/// bytes), {tracker}, {comment}, {info_hash_v1}, {info_hash_v2} and {id}. It is ended after an hour, and when the node ends.
#[derive(Debug, Args)]
pub(crate) struct HookArgs {
    #[command(subcommand)]
    pub(crate) does: Option<HookDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with hooks.
#[derive(Debug, Subcommand)]
pub(crate) enum HookDo {
    /// Show them
    List,
    /// Set one, in place of another one
    Set {
        /// When it runs
        #[arg(value_name = "WHEN", value_enum)]
        on: When,
        /// The program, from the root or as PATH finds it, and its arguments
        #[arg(value_name = "PROGRAM ARG", last = true, required = true)]
        program: Vec<String>,
    },
    /// Run nothing any more
    Rm {
        /// When
        #[arg(value_name = "WHEN", value_enum, required = true)]
        on: Vec<When>,
    },
}

/// What happens to a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// It was added
    Added,
    /// Everything wanted of it is there, for the first time
    Complete,
}

impl From<When> for Occasion {
    fn from(when: When) -> Occasion {
        match when {
            When::Added => Occasion::Added,
            When::Complete => Occasion::Complete,
        }
    }
}
