//! Web seeds of torrents, on the command line.

use clap::{Args, Subcommand};
use shoal_node::message::WebSeedRequest;

use super::super::StateArgs;

/// Show and change the web seeds of torrents of the running node
#[derive(Debug, Args)]
pub(crate) struct WebSeedArgs {
    #[command(subcommand)]
    does: WebSeedDo,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with web seeds.
#[derive(Debug, Subcommand)]
enum WebSeedDo {
    /// Show them
    List {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
    },
    /// Add some: HTTP servers that have the same files
    Add {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The web seeds
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
    },
    /// Put another one in the place of one
    Set {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The web seed
        #[arg(value_name = "URL")]
        web_seed: String,
        /// The one in its place
        #[arg(long = "url", value_name = "NEW")]
        to: String,
    },
    /// Remove some
    Rm {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The web seeds
        #[arg(value_name = "URL", required = true)]
        urls: Vec<String>,
    },
}

impl WebSeedArgs {
    /// What is asked for.
    pub(crate) fn request(&self) -> WebSeedRequest {
        let named = |torrents: &String| vec![torrents.clone()];
        match &self.does {
            WebSeedDo::List { torrents } => WebSeedRequest::List {
                torrents: named(torrents),
            },
            WebSeedDo::Add { torrents, urls } => WebSeedRequest::Add {
                torrents: named(torrents),
                urls: urls.clone(),
            },
            WebSeedDo::Set {
                torrents,
                web_seed,
                to,
            } => WebSeedRequest::Set {
                torrents: named(torrents),
                url: web_seed.clone(),
                to: to.clone(),
            },
            WebSeedDo::Rm { torrents, urls } => WebSeedRequest::Remove {
                torrents: named(torrents),
                urls: urls.clone(),
            },
        }
    }
}
