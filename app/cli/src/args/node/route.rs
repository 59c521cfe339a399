//! Routes of a node.
//!
//! Invariant: what a route may be is decided by the node alone.

use std::path::{Path, absolute};

use clap::{Args, Subcommand};
use shoal_node::message::SetRoute;

use super::StateArgs;

/// Show, make and change what torrents of the running node leave by, and say which they take
///
/// A route holds for everything that a torrent does: peers, trackers, web seeds, DHT, names, the local network and the router. Where it
/// cannot be kept, nothing is sent. Torrents of which nothing is said take the one called default.
#[derive(Debug, Args)]
pub(crate) struct RouteArgs {
    #[command(subcommand)]
    pub(crate) does: Option<RouteDo>,
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// What to do with routes.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteDo {
    /// Show them
    List,
    /// Make one, or change what it is; what is not said stays, and what was never said is as the node was started
    ///
    /// Everything that goes by it ends before anything goes by what it becomes; its torrents go on by themselves.
    Set(RouteSetArgs),
    /// Forget one; torrents that take it send nothing until they have another one
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Let torrents take one
    Use {
        /// Torrents, as for `shoal list`, or `session`
        #[arg(value_name = "TORRENT|session")]
        torrents: String,
        /// The route; `none` for the default one, or `inherit` for that of their category, their tags or the session
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show what a route can be bound to
    Interfaces,
}

/// What is said of a route.
#[derive(Debug, Args)]
pub(crate) struct RouteSetArgs {
    /// Its name; `default` is that of torrents of which nothing is said
    #[arg(value_name = "NAME")]
    name: String,
    /// The proxy that everything goes through: socks4://, socks4a://, socks5:// or http://, a name where it wants one, its address and
    /// port; or `none`
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// A file with the password for the name in the URL of --proxy, which is read whenever the route is opened; or `none`
    #[arg(long, value_name = "FILE")]
    password_file: Option<String>,
    /// The address or interface that everything leaves by, which is waited for where it is not there; or `any`
    #[arg(long, value_name = "ADDR|IFACE", required_unless_present_any = ["proxy", "password_file", "dns"])]
    bind: Option<String>,
    /// A name server to ask, by this route, instead of the system's; or `none`
    #[arg(long, value_name = "ADDR[:PORT]")]
    dns: Vec<String>,
}

impl RouteSetArgs {
    /// What the node is told.
    pub(crate) fn said(self) -> SetRoute {
        let from_the_root = |path: String| match absolute(Path::new(&path)) {
            Ok(whole) if path != "none" => whole.to_string_lossy().into_owned(),
            _ => path,
        };
        let none = self.dns.iter().any(|server| server == "none");
        let dns = Some(self.dns).filter(|dns| !dns.is_empty());
        SetRoute {
            name: self.name,
            proxy: self.proxy,
            password_file: self.password_file.map(from_the_root),
            bind: self.bind,
            dns: if none { Some(Vec::new()) } else { dns },
        }
    }
}
