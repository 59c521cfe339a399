//! What is asked of a node about lists of addresses.
//!
//! Invariant: what a list has in it is decided by the node alone.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::args::StateArgs;

/// Keep the running node from peers at the addresses of lists
///
/// A list is a file in the form of P2P, DAT or CIDR, or in the binary one of PeerGuardian. It is read where it lies, at each start of the
/// node and when it has changed. Peers are neither called nor let in, and those that are connected are sent away.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    #[command(subcommand)]
    pub(crate) does: Option<FilterDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with lists of addresses.
#[derive(Debug, Subcommand)]
pub(crate) enum FilterDo {
    /// Show them, with what was read of each
    List,
    /// Heed one more
    Add {
        /// The list
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Heed some no more
    Rm {
        /// The lists
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
    /// Read all of them again at once
    Reload,
    /// Say whether peers may have an address, and which line of which list forbids it
    Test {
        /// The address
        #[arg(value_name = "ADDR")]
        address: IpAddr,
    },
}
