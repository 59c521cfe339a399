//! Starts an engine where the person wants to be reached.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use shoal_engine::{
    DhtConfig, DhtRouter, Engine, EngineConfig, EngineError, PeerTransports, PortMapping,
    RouteConfig, SessionSettings,
};
use shoal_node::{ListenPort, Network, NetworkSettings};
use shoal_transport::{OriginClass, TransportConfig, TransportError};

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
    start_with(network, state, &NetworkSettings::default()).await
}

/// As [`start`], and where `network` says nothing, as is `set`.
///
/// # Errors
/// The same.
pub(crate) async fn start_with(
    network: &NetworkArgs,
    state: &StateArgs,
    set: &NetworkSettings,
) -> Result<Engine, Failure> {
    let (dht, proxy) = (dht(network, state, set)?, network.proxy()?);
    let config = |listen| {
        let mut config = config(network, set, listen, dht.clone());
        config.transport.proxy.clone_from(&proxy);
        config
    };
    if !network.listen.is_empty() {
        return Ok(Engine::start(config(network.listen.clone())).await?);
    }
    match set.port {
        ListenPort::This(port) => return Ok(Engine::start(config(everywhere(port))).await?),
        ListenPort::Any => return Ok(Engine::start(config(everywhere(0))).await?),
        ListenPort::Usual => {}
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
pub(crate) async fn closed(
    network: &NetworkArgs,
    set: &NetworkSettings,
) -> Result<Engine, Failure> {
    let usual = config(network, set, Vec::new(), None);
    Ok(Engine::start(EngineConfig {
        transport: TransportConfig {
            isolated: true,
            limits: network.limits(),
            departure: set.departure.clone(),
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
pub(crate) fn network(
    network: &NetworkArgs,
    state: &StateArgs,
    set: &NetworkSettings,
) -> Result<Network, Failure> {
    let dht = dht(network, state, set)?;
    let config = config(network, set, network.listen.clone(), dht);
    let named = network.listen.first().map(SocketAddr::port);
    let ports = match (named, set.port) {
        (Some(port), _) | (None, ListenPort::This(port)) => vec![port, 0],
        (None, ListenPort::Any) => vec![0],
        (None, ListenPort::Usual) => USUAL_PORTS.chain([0]).collect(),
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
fn dht(
    network: &NetworkArgs,
    state: &StateArgs,
    set: &NetworkSettings,
) -> Result<Option<DhtConfig>, Failure> {
    let Some(routers) = network.dht_routers() else {
        if network.names_dht_routers() {
            let message = "nobody whom --dht-router names may be asked: with --isolated or a loopback address \
                 in --listen, name addresses that --allow-net covers";
            return Err(Failure::new(Exit::Usage, message));
        }
        return Ok(None);
    };
    let is_named = network.names_dht_routers();
    if !set.dht && !is_named {
        return Ok(None);
    }
    let routers = match is_named || set.dht_routers.is_empty() {
        true => routers,
        false => {
            let origin = OriginClass::User;
            let set = set.dht_routers.iter().cloned();
            set.map(|contact| DhtRouter { contact, origin }).collect()
        }
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

fn config(
    network: &NetworkArgs,
    set: &NetworkSettings,
    listen: Vec<SocketAddr>,
    dht: Option<DhtConfig>,
) -> EngineConfig {
    EngineConfig {
        transport: TransportConfig {
            listen,
            binding: network.binding(),
            name_servers: network.name_servers.clone(),
            allow_net: network.allow_net.clone(),
            isolated: network.is_isolated(),
            limits: network.limits(),
            departure: set.departure.clone(),
            ..TransportConfig::default()
        },
        port_mapping: if network.no_port_mapping || !set.port_mapping {
            PortMapping::Never
        } else {
            PortMapping::Asked
        },
        dht,
        session: SessionSettings {
            max_half_open: set.dials,
            ..network.session()
        },
        peer_rules: set.peer_rules,
        announces: set.announces,
        encryption: network.encryption.unwrap_or(set.encryption),
        peers_over: network.transport.unwrap_or(set.transports),
        anonymous: set.anonymous,
        sources: set.sources,
        storage: set.disk.config(),
        ..EngineConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, parse};
    use shoal_engine::{AnnounceRules, EncryptionPolicy, PeerRules, PeerSources, PeerTransports};
    use shoal_node::DiskSettings;
    use shoal_transport::Departure;
    use std::ffi::OsString;

    fn read(options: &str) -> (NetworkArgs, StateArgs) {
        let line = format!("shoal get x {options}");
        let line = parse(line.split_whitespace().map(OsString::from));
        match line.unwrap().command {
            Command::Get(args) => (args.network, args.state),
            other => panic!("{other:?}"),
        }
    }

    fn set() -> NetworkSettings {
        NetworkSettings {
            dht: false,
            port_mapping: false,
            anonymous: true,
            encryption: EncryptionPolicy::Forced,
            sources: PeerSources {
                exchange: false,
                local: false,
            },
            transports: PeerTransports::Tcp,
            departure: Departure {
                from_ports: Some(50_000..=50_100),
                dscp: 8,
            },
            peer_rules: PeerRules {
                one_per_address: true,
                system_ports: false,
                dials_when_complete: false,
            },
            dials: 7,
            announces: AnnounceRules {
                all_trackers: true,
                all_tiers: false,
                address: Some([192, 0, 2, 1].into()),
                port: Some(51_413),
            },
            disk: DiskSettings {
                cache_bytes: 64 << 20,
                open_files: 512,
                threads: 3,
            },
            ..NetworkSettings::default()
        }
    }

    #[test]
    fn what_a_command_says_comes_before_what_is_set() {
        let config = |options: &str, set: &NetworkSettings| {
            let config = config(&read(options).0, set, everywhere(0), None);
            (config.encryption, config.peers_over, config.port_mapping)
        };
        let (forced, enabled) = (EncryptionPolicy::Forced, EncryptionPolicy::Enabled);
        let (both, tcp) = (PeerTransports::Both, PeerTransports::Tcp);
        let (asked, never) = (PortMapping::Asked, PortMapping::Never);
        let own = "--encryption enabled --transport both";
        assert_eq!(config("", &set()), (forced, tcp, never));
        assert_eq!(config(own, &set()), (enabled, both, never));
        let none = NetworkSettings::default();
        assert_eq!(config("", &none), (enabled, both, asked));
        assert_eq!(config("--no-port-mapping", &none), (enabled, both, never));
        let sources =
            |set: &NetworkSettings| super::config(&read("").0, set, everywhere(0), None).sources;
        assert_eq!(sources(&set()), set().sources);
        assert_eq!(sources(&none), PeerSources::default());
        let anonymous =
            |set: &NetworkSettings| super::config(&read("").0, set, everywhere(0), None).anonymous;
        assert!(anonymous(&set()) && !anonymous(&none));
        let begun = |set: &NetworkSettings| super::config(&read("").0, set, everywhere(0), None);
        assert_eq!(begun(&set()).transport.departure, set().departure);
        assert_eq!(begun(&set()).peer_rules, set().peer_rules);
        assert_eq!(begun(&set()).announces, set().announces);
        assert_eq!(begun(&set()).session.max_half_open, 7);
        let storage = begun(&set()).storage;
        assert_eq!(
            (storage.cache_bytes, storage.max_open_files, storage.threads),
            (64 << 20, 512, 3)
        );
    }

    #[test]
    fn the_dht_is_asked_as_is_set_unless_a_command_names_somebody() {
        let folder = tempfile::tempdir().unwrap();
        let routers = |options: &str, set: &NetworkSettings| {
            let options = format!("{options} --state-dir {}", folder.path().display());
            let (network, state) = read(&options);
            let dht = dht(&network, &state, set).unwrap()?;
            let routers = dht.routers.into_iter();
            Some(
                routers
                    .map(|router| router.contact.to_string())
                    .collect::<Vec<_>>(),
            )
        };
        let own = "--dht-router dht.example:7";
        assert_eq!(routers("", &set()), None);
        assert_eq!(routers(own, &set()), Some(vec!["dht.example:7".to_owned()]));
        let named = NetworkSettings {
            dht_routers: vec![shoal_metainfo::metainfo::Contact::parse("set.example:8").unwrap()],
            ..NetworkSettings::default()
        };
        assert_eq!(routers("", &named), Some(vec!["set.example:8".to_owned()]));
        assert_eq!(routers(own, &named), Some(vec!["dht.example:7".to_owned()]));
        assert_eq!(routers("--no-dht", &named), None);
        assert_eq!(routers("--isolated", &named), None);
    }
}
