//! The way that everything of a transport takes.
//!
//! Invariant: it does not change while the transport lives; where it cannot be taken, nothing goes another way.

use std::net::IpAddr;

use crate::binding::Binding;
use crate::proxy::Proxy;

/// What sockets are bound to, and the proxy that they speak to instead of anybody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) binding: Binding,
    pub(crate) proxy: Option<Proxy>,
}

impl Route {
    /// Whether the family of `target` can be reached at all. What is behind a proxy is its affair.
    pub(crate) fn reaches(&self, target: IpAddr) -> bool {
        self.proxy.is_some() || self.binding.reaches(target)
    }
}
