//! The networks that this machine is part of.

use crate::binding::Binding;
use crate::ip_net::IpNet;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

/// The networks of the interfaces that `binding` lets us use, none if the system does not tell: then private addresses
/// are refused.
pub(crate) fn shared_networks(binding: &Binding) -> Vec<IpNet> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "cannot list network interfaces: private addresses are refused");
            return Vec::new();
        }
    };
    interfaces
        .iter()
        .filter(|interface| !interface.is_loopback())
        .filter(|interface| match binding {
            Binding::Any => true,
            Binding::Address(address) => interface.ip() == *address,
            Binding::Interface(name) => interface.name == *name,
        })
        .map(|interface| {
            let prefix_bits = match &interface.addr {
                if_addrs::IfAddr::V4(v4) => v4.prefixlen,
                if_addrs::IfAddr::V6(v6) => v6.prefixlen,
            };
            IpNet::containing(interface.ip(), prefix_bits)
        })
        .collect()
}

/// All interfaces by name, with their addresses.
///
/// # Errors
/// Where the system does not tell.
pub fn interfaces() -> io::Result<BTreeMap<String, Vec<IpAddr>>> {
    let mut interfaces: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for interface in if_addrs::get_if_addrs()? {
        let ip = interface.ip();
        interfaces.entry(interface.name).or_default().push(ip);
    }
    Ok(interfaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_not_shared_with_anybody() {
        for binding in [
            Binding::Any,
            Binding::Interface("lo".into()),
            Binding::Address("127.0.0.1".parse().unwrap()),
        ] {
            for net in shared_networks(&binding) {
                assert!(!net.contains("127.0.0.1".parse().unwrap()), "{net}");
                assert!(!net.contains("::1".parse().unwrap()), "{net}");
            }
        }
    }
}
