//! Routes: what torrents' bytes may leave by.
//!
//! Invariant: a password is in none of this, only the file that it is in.

use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// What a person asks of routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum RouteRequest {
    /// All that there are.
    List {},
    /// One is made, or something else is said of it. It is answered when nothing leaves any more by what it was before.
    Set(SetRoute),
    /// One is to be no more. The torrents on it send nothing until they have another one.
    Remove {
        /// Its name.
        name: String,
    },
    /// What a route can be bound to.
    Interfaces {},
}

/// What is said of a route. What nothing was ever said of is as the node was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetRoute {
    /// Its name: letters, digits, `.`, `_` and `-`; `default` is that of all torrents of which nothing is said.
    pub name: String,
    /// The URL of the proxy that everything goes through, with a name where it wants one, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// The file, from the root, with the password for that name, or `none`. With another proxy, it is said anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<String>,
    /// The address or interface that everything leaves by, or `any`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<String>,
    /// The name servers, in place of the system's, each an address with or without a port; none of them is the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Vec<String>>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Whether anything can leave by it.
    pub state: RouteState,
    /// Why not, where it cannot.
    pub message: Option<String>,
    /// The proxy that everything goes through, without the name that it is told.
    pub proxy: Option<String>,
    /// The file with the password for that name.
    pub password_file: Option<String>,
    /// The address or interface that everything leaves by; absent is any.
    pub bind: Option<String>,
    /// The name servers; none is the system's, or the proxy's where there is one.
    pub dns: Vec<SocketAddr>,
    /// Where peers may connect.
    pub listening: Vec<SocketAddr>,
    /// How many torrents are to take it.
    pub torrents: usize,
}

/// How things stand with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// It can be taken.
    Open,
    /// It is being opened, changed or removed.
    Changing,
    /// It cannot be taken, which is over by itself when the reason is.
    Shut,
}

impl RouteState {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RouteState::Open => "open",
            RouteState::Changing => "changing",
            RouteState::Shut => "shut",
        }
    }
}

/// What a route can be bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What it is called on a network.
    pub addresses: Vec<IpAddr>,
}
