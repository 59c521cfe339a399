//! `shoal hook`: programs that run when something happens to a torrent.
//!
//! Invariant: nothing of an argument is read here.

use shoal_node::message::{HookRequest, Request};

use super::ask;
use crate::args::{HookArgs, HookDo};
use crate::commands::Done;
use crate::output::Output;

/// Hooks.
pub(in crate::commands) fn hook(args: HookArgs, output: &mut Output) -> Done {
    let request = match args.does.unwrap_or(HookDo::List) {
        HookDo::List => HookRequest::List {},
        HookDo::Set { on, program } => HookRequest::Set {
            on: on.into(),
            program,
        },
        HookDo::Rm { on } => HookRequest::Remove {
            on: on.into_iter().map(Into::into).collect(),
        },
    };
    ask(&args.state, &Request::Hook(request), &[], output)
}
