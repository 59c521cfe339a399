//! `shoal schedule`: what holds at which hours.
//!
//! Invariant: nothing is decided here.

use shoal_node::message::{Request, ScheduleRequest};

use super::ask;
use crate::args::{ScheduleArgs, ScheduleDo};
use crate::commands::Done;
use crate::output::Output;

/// The hours of the week.
pub(in crate::commands) fn schedule(args: ScheduleArgs, output: &mut Output) -> Done {
    let request = match args.does.unwrap_or(ScheduleDo::List) {
        ScheduleDo::List => ScheduleRequest::List {},
        ScheduleDo::Add(span) => ScheduleRequest::Add { span: span.span() },
        ScheduleDo::Rm { spans } => ScheduleRequest::Remove { spans },
        ScheduleDo::Now { now } => ScheduleRequest::Now { now: now.into() },
    };
    ask(&args.state, &Request::Schedule(request), &[], output)
}
