//! Trackers of torrents, on the command line.

use clap::{Args, Subcommand};
use shoal_node::message::TrackerRequest;

use super::super::StateArgs;

/// Announce torrents of the running node to their trackers
#[derive(Debug, Args)]
pub(crate) struct AnnounceArgs {
    /// Torrents, as for `shoal list`
    #[arg(value_name = "TORRENT", required = true)]
    pub(crate) torrents: Vec<String>,
    /// To this one alone
    #[arg(long, value_name = "URL")]
    pub(crate) tracker: Option<String>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Show and change the trackers of torrents of the running node
///
/// Their URLs are shown in full: those of private trackers are secrets.
#[derive(Debug, Args)]
pub(crate) struct TrackerArgs {
    #[command(subcommand)]
    does: TrackerDo,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with trackers.
#[derive(Debug, Subcommand)]
enum TrackerDo {
    /// Show them, and how things stand with each
    List {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
    },
    /// Add some
    Add {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The trackers
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
        /// The tier that they are in, from 1 [default: each in one of its own behind the others]
        #[arg(long, value_name = "N")]
        tier: Option<usize>,
    },
    /// Give one another URL or tier
    Set {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The tracker
        #[arg(value_name = "URL")]
        tracker: String,
        /// The URL that it gets
        #[arg(long = "url", value_name = "NEW", required_unless_present = "tier")]
        to: Option<String>,
        /// The tier that it gets, from 1
        #[arg(long, value_name = "N")]
        tier: Option<usize>,
    },
    /// Remove some
    Rm {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The trackers
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
    },
}

impl TrackerArgs {
    /// What is asked for.
    pub(crate) fn request(&self) -> TrackerRequest {
        let named = |torrents: &String| vec![torrents.clone()];
        match &self.does {
            TrackerDo::List { torrents } => TrackerRequest::List {
                torrents: named(torrents),
            },
            TrackerDo::Add {
                torrents,
                urls,
                tier,
            } => TrackerRequest::Add {
                torrents: named(torrents),
                urls: urls.clone(),
                tier: *tier,
            },
            TrackerDo::Set {
                torrents,
                tracker,
                to,
                tier,
            } => TrackerRequest::Set {
                torrents: named(torrents),
                url: tracker.clone(),
                to: to.clone(),
                tier: *tier,
            },
            TrackerDo::Rm { torrents, urls } => TrackerRequest::Remove {
                torrents: named(torrents),
                urls: urls.clone(),
            },
        }
    }
}
