//! `shoal down`: the end of the node.
//!
//! Invariant: whoever comes back from it with success finds no node any more.

use std::time::Duration;

use shoal_node::Client;
use shoal_node::message::Request;
use tokio::time::timeout;

use super::{runtime, socket};
use crate::args::DownArgs;
use crate::commands::Done;
use crate::exit::{Exit, Failure};

/// Longer than a node takes that is told by a signal.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends the running node.
pub(in crate::commands) fn down(args: &DownArgs) -> Done {
    let path = socket(&args.state)?;
    runtime()?.block_on(async {
        let mut client = Client::connect(&path).await?;
        client.ask(&Request::Down {}, &[]).await?;
        let ended = timeout(PATIENCE, client.closed()).await;
        ended.map_err(|_| {
            let message = "the node was told to end and still runs; see what its log says";
            Failure::new(Exit::Failure, message)
        })?;
        Ok(Exit::Ok)
    })
}
