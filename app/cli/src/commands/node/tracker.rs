//! `shoal tracker` and `shoal announce`.

use shoal_node::message::{Request, TrackerRequest};

use super::{Done, ask};
use crate::args::{AnnounceArgs, TrackerArgs};
use crate::output::Output;

/// Shows and changes trackers.
pub(crate) fn run(args: &TrackerArgs, output: &mut Output) -> Done {
    let request = Request::Tracker(args.request());
    ask(&args.state, &request, &[], output)
}

/// Has torrents announced.
pub(crate) fn announce(args: AnnounceArgs, output: &mut Output) -> Done {
    let torrents = args.torrents;
    let request = match args.tracker {
        Some(url) => Request::Tracker(TrackerRequest::Announce { torrents, url }),
        None => Request::Announce { torrents },
    };
    ask(&args.state, &request, &[], output)
}
