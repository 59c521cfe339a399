//! Peers, on the command line.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, Subcommand};
use shoal_node::message::PeerRequest;

use super::super::{StateArgs, parse_peer};

/// Show and name peers of torrents of the running node, and ban addresses
#[derive(Debug, Args)]
pub(crate) struct PeerArgs {
    #[command(subcommand)]
    does: PeerDo,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with peers.
#[derive(Debug, Subcommand)]
enum PeerDo {
    /// Show those that are connected
    List {
        /// Torrents, as for `shoal list`
        #[arg(
            value_name = "TORRENT",
            required_unless_present = "banned",
            conflicts_with = "banned"
        )]
        torrents: Option<String>,
        /// The addresses that are banned instead
        #[arg(long)]
        banned: bool,
    },
    /// Name some to connect to; they are kept in mind as long as the node runs
    Add {
        /// Torrents, as for `shoal list`
        #[arg(value_name = "TORRENT")]
        torrents: String,
        /// The peers
        #[arg(value_name = "ADDR:PORT", required = true, value_parser = parse_peer)]
        peers: Vec<SocketAddr>,
    },
    /// Speak to nobody at these addresses any more, whatever torrent it is of
    Ban {
        /// The addresses, without ports
        #[arg(value_name = "ADDR", required = true)]
        addresses: Vec<IpAddr>,
    },
    /// Speak to these addresses again
    Unban {
        /// The addresses, without ports
        #[arg(value_name = "ADDR", required = true)]
        addresses: Vec<IpAddr>,
    },
}

impl PeerArgs {
    /// What is asked for.
    pub(crate) fn request(&self) -> PeerRequest {
        match &self.does {
            PeerDo::List { torrents, .. } => match torrents {
                Some(torrents) => PeerRequest::List {
                    torrents: vec![torrents.clone()],
                },
                None => PeerRequest::Banned {},
            },
            PeerDo::Add { torrents, peers } => PeerRequest::Add {
                torrents: vec![torrents.clone()],
                peers: peers.clone(),
            },
            PeerDo::Ban { addresses } => PeerRequest::Ban {
                addresses: addresses.clone(),
            },
            PeerDo::Unban { addresses } => PeerRequest::Unban {
                addresses: addresses.clone(),
            },
        }
    }
}
