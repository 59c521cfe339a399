//! What is asked of a node about its routes.

use std::collections::BTreeMap;

use shoal_node::message::{Request, RouteRequest};

use super::{Done, ask, tell_rules};
use crate::args::{RouteArgs, RouteDo};
use crate::output::Output;

/// Routes.
pub(in crate::commands) fn route(args: RouteArgs, output: &mut Output) -> Done {
    let request = match args.does.unwrap_or(RouteDo::List) {
        RouteDo::List => RouteRequest::List {},
        RouteDo::Set(set) => RouteRequest::Set(set.said()),
        RouteDo::Rm { name } => RouteRequest::Remove { name },
        RouteDo::Interfaces => RouteRequest::Interfaces {},
        RouteDo::Use { torrents, name } => {
            let rules = BTreeMap::from([("route".to_owned(), name)]);
            return tell_rules(&args.state, torrents, rules, output);
        }
    };
    ask(&args.state, &Request::Route(request), &[], output)
}
