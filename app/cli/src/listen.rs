//! Starts an engine where the person wants to be reached.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use shoal_engine::{
    DhtConfig, Engine, EngineConfig, EngineError, PeerTransports, PortMapping, RouteConfig,
};
use shoal_node::Network;
use shoal_transport::{TransportConfig, TransportError};

use crate::args::{NetworkArgs, StateArgs};
use crate::exit::{Exit, Failure};
use crate::journal_path;

/// The ports that BitTorrent clients have always used (BEP 3), which routers are set up for.
const USUAL_PORTS: RangeInclusive<u16> = 6881..=6889;

/// Starts an engine that listens where `network` says, or on the first usual port that is free, or on any.
///
/// # Errors
/// As [`Engine::start`], and where the state folder cannot be used.
pub(crate) async fn start(network: &NetworkArgs, state: &StateArgs) -> Result<Engine, Failure> {
    let (dht, proxy) = (dht(network, state)?, network.proxy()?);
    let config = |listen| {
        let mut config = config(network, listen, dht.clone());
        config.transport.proxy.clone_from(&proxy);
        config
    };
    if !network.listen.is_empty() {
        return Ok(Engine::start(config(network.listen.clone())).await?);
    }
    for port in USUAL_PORTS {
        match Engine::start(config(everywhere(port))).await {
            Err(EngineError::Transport(TransportError::Listen { source, .. }))
                if source.kind() == io::ErrorKind::AddrInUse => {}
            done => return Ok(done?),
        }
    }
    Ok(Engine::start(config(everywhere(0))).await?)
}

/// An engine that opens nothing and sends nothing, until it has a route.
///
/// # Errors
/// As [`Engine::start`].
pub(crate) async fn closed(network: &NetworkArgs) -> Result<Engine, Failure> {
    let usual = config(network, Vec::new(), None);
    Ok(Engine::start(EngineConfig {
        transport: TransportConfig {
            isolated: true,
            limits: network.limits(),
            ..TransportConfig::default()
        },
        port_mapping: PortMapping::Never,
        peers_over: PeerTransports::Tcp,
        ..usual
    })
    .await?)
}

/// How a node makes its routes, in all that is not said of one.
///
/// # Errors
/// Where the state folder or the proxy's password cannot be read.
pub(crate) fn network(network: &NetworkArgs, state: &StateArgs) -> Result<Network, Failure> {
    let config = config(network, network.listen.clone(), dht(network, state)?);
    let named = network.listen.first().map(SocketAddr::port);
    let ports = match named {
        Some(port) => vec![port, 0],
        None => USUAL_PORTS.chain([0]).collect(),
    };
    let transport = TransportConfig {
        proxy: network.proxy()?,
        ..config.transport
    };
    Ok(Network {
        route: RouteConfig {
            transport,
            peers_over: config.peers_over,
            port_mapping: config.port_mapping,
            dht: config.dht,
        },
        ports,
    })
}

/// How to take part in the DHT, whose contacts are remembered in `dht/contacts` of the state folder.
fn dht(network: &NetworkArgs, state: &StateArgs) -> Result<Option<DhtConfig>, Failure> {
    let Some(routers) = network.dht_routers() else {
        if network.names_dht_routers() {
            let message = "nobody whom --dht-router names may be asked: with --isolated or a loopback address \
                 in --listen, name addresses that --allow-net covers";
            return Err(Failure::new(Exit::Usage, message));
        }
        return Ok(None);
    };
    let folder = journal_path::state_folder("dht", state.state_dir.as_deref())?;
    Ok(Some(DhtConfig {
        routers,
        saved: Some(folder.join("contacts")),
        ..DhtConfig::default()
    }))
}

fn everywhere(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    ]
}

fn config(network: &NetworkArgs, listen: Vec<SocketAddr>, dht: Option<DhtConfig>) -> EngineConfig {
    EngineConfig {
        transport: TransportConfig {
            listen,
            binding: network.binding(),
            name_servers: network.name_servers.clone(),
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
        dht,
        session: network.session(),
        encryption: network.encryption,
        peers_over: network.transport,
        ..EngineConfig::default()
    }
}
