//! `shoal watch`: folders whose torrents are added by themselves.
//!
//! Invariant: the node gets paths from the root, as it has a current folder of its own.

use std::path::Path;

use shoal_node::message::{Request, Watch, WatchRequest};

use super::filter::from_root;
use super::{ask, folder, told};
use crate::args::{WatchArgs, WatchDo};
use crate::commands::Done;
use crate::output::Output;

/// Watched folders.
pub(in crate::commands) fn watch(args: WatchArgs, output: &mut Output) -> Done {
    let request = match args.does.unwrap_or(WatchDo::List) {
        WatchDo::List => WatchRequest::List {},
        WatchDo::Add(args) => WatchRequest::Add {
            path: folder(&args.folder)?,
            watch: Box::new(Watch {
                recursive: args.recursive,
                then: args.then.into(),
                add: told(&args.add)?,
            }),
        },
        WatchDo::Rm { folders } => {
            // One that is gone is still watched, by the name that it had.
            let path = |path: &Path| folder(path).or_else(|_| from_root(path));
            let paths = folders.iter().map(|at| path(at));
            WatchRequest::Remove {
                paths: paths.collect::<Result<_, _>>()?,
            }
        }
    };
    ask(&args.state, &Request::Watch(request), &[], output)
}
