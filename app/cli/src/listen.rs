//! Starts an engine where the person wants to be reached.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use shoal_engine::{Engine, EngineConfig, EngineError, PortMapping};
use shoal_transport::{TransportConfig, TransportError};

use crate::args::NetworkArgs;

/// The ports that BitTorrent clients have always used (BEP 3), which routers are set up for.
const USUAL_PORTS: RangeInclusive<u16> = 6881..=6889;

/// Starts an engine that listens where `network` says, or on the first usual port that is free, or on any.
///
/// # Errors
/// As [`Engine::start`].
pub(crate) async fn start(network: &NetworkArgs) -> Result<Engine, EngineError> {
    if !network.listen.is_empty() {
        return Engine::start(config(network, network.listen.clone())).await;
    }
    for port in USUAL_PORTS {
        match Engine::start(config(network, everywhere(port))).await {
            Err(EngineError::Transport(TransportError::Listen { source, .. }))
                if source.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    Engine::start(config(network, everywhere(0))).await
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ]
}

fn config(network: &NetworkArgs, listen: Vec<SocketAddr>) -> EngineConfig {
    EngineConfig {
        transport: TransportConfig {
            listen,
            binding: network.binding(),
            allow_net: network.allow_net.clone(),
            isolated: network.is_isolated(),
            limits: network.limits(),
            ..TransportConfig::default()
        },
        port_mapping: if network.no_port_mapping {
            PortMapping::Never
        } else {
            PortMapping::Asked
        },
        session: network.session(),
        encryption: network.encryption,
        peers_over: network.transport,
        ..EngineConfig::default()
    }
}
