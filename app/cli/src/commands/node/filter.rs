//! `shoal filter`: lists of addresses that peers must not have.
//!
//! Invariant: the node gets paths from the root, as it has a current folder of its own.

use std::path::{Path, absolute};

use shoal_node::message::{FilterRequest, Request};

use super::ask;
use crate::args::{FilterArgs, FilterDo};
use crate::commands::Done;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Lists of addresses.
pub(in crate::commands) fn filter(args: FilterArgs, output: &mut Output) -> Done {
    let request = match args.does.unwrap_or(FilterDo::List) {
        FilterDo::List => FilterRequest::List {},
        FilterDo::Add { file } => FilterRequest::Add {
            path: from_root(&file)?,
        },
        FilterDo::Rm { files } => {
            let paths = files.iter().map(|file| from_root(file));
            FilterRequest::Remove {
                paths: paths.collect::<Result<_, _>>()?,
            }
        }
        FilterDo::Reload => FilterRequest::Reload {},
        FilterDo::Test { address } => FilterRequest::Test { address },
    };
    ask(&args.state, &Request::Filter(request), &[], output)
}

/// A path as requests have it, whether or not there is something.
pub(super) fn from_root(path: &Path) -> Result<String, Failure> {
    let cannot = |then: String| Failure::at(Exit::Usage, "cannot use the path", path, then);
    let whole = absolute(path).map_err(|error| cannot(error.to_string()))?;
    let text = whole.to_str().map(str::to_owned);
    text.ok_or_else(|| cannot("it is no UTF-8, which requests are made of; rename it".to_owned()))
}
