//! What a person says of a route: how it is read, kept in the database, and made into one of the engine.
//!
//! Invariant: a password is in its file and in the proxy that is opened, and in nothing that is stored, shown or logged.

use crate::message::SetRoute;
use crate::values;
use serde::{Deserialize, Serialize};
use shoal_engine::{DhtConfig, EngineError, EngineHandle, RouteConfig};
use shoal_transport::{Binding, ParseProxyError, Proxy, TransportConfig, TransportError};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// There is none of it.
const NONE: &str = "none";

/// As long as a person would write it.
const MAX_NAME_BYTES: usize = 64;

/// More than any path.
const MAX_PATH_BYTES: usize = 4096;

/// Nobody asks more.
const MAX_NAME_SERVERS: usize = 8;

/// More than any password that a proxy could be told, with its line's end.
const MAX_PASSWORD_FILE_BYTES: u64 = 1024;

/// How the routes of a node are made, in all that nothing is said of.
#[derive(Clone, Default)]
pub struct Network {
    /// As the node was started.
    pub route: RouteConfig,
    /// The ports at which a route that is made listens, the first that is free. Where there is none, any.
    pub ports: Vec<u16>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

/// Why a proxy is not told its password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the proxy's password from {0}: {1}")]
    File(String, #[source] io::Error),
    /// The proxy takes no such password.
    #[error("{0}: {1}")]
    Refused(String, #[source] ParseProxyError),
}

/// The proxy, told the password that this file has: all of it but the end of its line.
///
/// # Errors
/// The file cannot be read, or the proxy's protocol knows no such password.
pub fn told_password(proxy: Proxy, path: &Path) -> Result<Proxy, PasswordError> {
    let shown = path.display().to_string();
    let text = password(path).map_err(|error| PasswordError::File(shown.clone(), error))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    let told = proxy.with_password(password);
    told.map_err(|error| PasswordError::Refused(shown, error))
}

fn password(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    file.take(MAX_PASSWORD_FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// What was said of a route, as a person writes it. What is absent is as the node was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Spec {
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Vec<String>>,
}

/// A name that a route can have.
pub(crate) fn checked_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_name = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.chars().all(fits);
    match name {
        "none" | "inherit" => Err(format!("a route cannot be called {name}")),
        _ if !is_name => Err(format!(
            "{name:?} is no name of a route: write letters, digits, dots and dashes, {MAX_NAME_BYTES} of them at the most"
        )),
        _ => Ok(()),
    }
}

impl Spec {
    /// Changes it by all of what is said, or not at all.
    pub(crate) fn tell(&mut self, said: &SetRoute, network: &Network) -> Result<(), String> {
        let mut told = self.clone();
        if let Some(text) = &said.proxy {
            let proxy = read_proxy(text)?;
            // The password of one proxy is no other one's business.
            if told.proxy.as_ref() != Some(text) {
                told.password_file = None;
            }
            // Who is asked for names is the proxy.
            if proxy.is_some() && said.dns.is_none() {
                told.dns = None;
            }
            told.proxy = Some(text.clone());
        }
        if let Some(path) = &said.password_file {
            let is_path = Path::new(path).is_absolute() && path.len() <= MAX_PATH_BYTES;
            told.password_file = match path.as_str() {
                NONE => None,
                _ if is_path => Some(path.clone()),
                _ => return Err(format!("write the password's file {path:?} from the root")),
            };
        }
        if let Some(text) = &said.bind {
            values::parse_binding(text)?;
            told.bind = Some(text.clone());
        }
        if let Some(servers) = &said.dns {
            if servers.len() > MAX_NAME_SERVERS {
                return Err(format!("{MAX_NAME_SERVERS} name servers are the most"));
            }
            for server in servers {
                values::parse_name_server(server)?;
            }
            told.dns = Some(servers.clone());
        }
        let transport = told.transport(network)?;
        let has_proxy = transport.proxy.is_some();
        if has_proxy && told.dns.as_ref().is_some_and(|dns| !dns.is_empty()) {
            let what = "names are looked up by the proxy: leave the name servers out";
            return Err(what.to_owned());
        }
        if !has_proxy && told.password_file.is_some() {
            return Err("a password is for a proxy, and there is none: name one".to_owned());
        }
        *self = told;
        Ok(())
    }

    /// Without the password.
    pub(crate) fn transport(&self, network: &Network) -> Result<TransportConfig, String> {
        let mut transport = network.route.transport.clone();
        if let Some(text) = &self.proxy {
            transport.proxy = read_proxy(text)?;
        }
        if let Some(text) = &self.bind {
            transport.binding = values::parse_binding(text)?;
        }
        if let Some(servers) = &self.dns {
            let servers = servers.iter().map(|text| values::parse_name_server(text));
            transport.name_servers = servers.collect::<Result<_, _>>()?;
        }
        if transport.proxy.is_some() {
            transport.name_servers = Vec::new();
        }
        transport.waits_for_binding = true;
        Ok(transport)
    }

    /// Where it listens, at this port.
    fn places(&self, network: &Network, port: u16) -> Vec<SocketAddr> {
        let started = &network.route.transport.listen;
        // Where it is bound, an address of something else would be none of its own.
        let ips: Vec<IpAddr> = match &self.bind {
            None if !started.is_empty() => started.iter().map(SocketAddr::ip).collect(),
            _ => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        };
        ips.into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect()
    }

    /// Ends whatever the route of this name was, and then opens it. Until that has happened, there is none.
    pub(crate) async fn open(
        self,
        engine: &EngineHandle,
        name: &str,
        network: Network,
    ) -> Result<(), String> {
        // There may be none.
        drop(engine.remove_route(name).await);
        let mut transport = self.transport(&network)?;
        if let (Some(proxy), Some(path)) = (transport.proxy.clone(), self.password_file.clone()) {
            // A disk that does not answer keeps this alone.
            let told = tokio::task::spawn_blocking(move || told_password(proxy, Path::new(&path)));
            let told = told.await.map_err(|error| error.to_string())?;
            transport.proxy = Some(told.map_err(|error| error.to_string())?);
        }
        let any = [0];
        let ports = match network.ports.as_slice() {
            [] => &any[..],
            ports => ports,
        };
        for (left, &port) in (0..ports.len()).rev().zip(ports) {
            transport.listen = self.places(&network, port);
            let config = RouteConfig {
                transport: transport.clone(),
                // What is remembered of the DHT would tell that two routes are the same person's.
                dht: network
                    .route
                    .dht
                    .clone()
                    .map(|dht| DhtConfig { saved: None, ..dht }),
                ..network.route
            };
            match engine.set_route(name, config).await {
                Ok(()) => return Ok(()),
                Err(error) if left > 0 && is_taken(&error) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }
}

/// Whether another program listens there.
fn is_taken(error: &EngineError) -> bool {
    let EngineError::Transport(TransportError::Listen { source, .. }) = error else {
        return false;
    };
    source.kind() == io::ErrorKind::AddrInUse
}

fn read_proxy(text: &str) -> Result<Option<Proxy>, String> {
    match text {
        NONE => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|error: ParseProxyError| error.to_string()),
    }
}

/// As [`values::parse_binding`] reads it; `None` is any.
pub(crate) fn shown_binding(binding: &Binding) -> Option<String> {
    match binding {
        Binding::Any => None,
        Binding::Address(address) => Some(address.to_string()),
        Binding::Interface(name) => Some(name.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> SetRoute {
        let mut said = SetRoute::default();
        for pair in text.split_whitespace() {
            let (word, value) = pair.split_once('=').unwrap();
            let value = Some(value.to_owned());
            match word {
                "proxy" => said.proxy = value,
                "password" => said.password_file = value,
                "bind" => said.bind = value,
                _ => {
                    said.dns =
                        value.map(|text| text.split_terminator(',').map(str::to_owned).collect());
                }
            }
        }
        said
    }

    fn told(steps: &[&str], network: &Network) -> Result<Spec, String> {
        let mut spec = Spec::default();
        for step in steps {
            spec.tell(&set(step), network)?;
        }
        Ok(spec)
    }

    #[test]
    fn what_is_not_said_stays_and_what_was_never_said_is_as_the_node_was_started() {
        let mut network = Network::default();
        network.route.transport.binding = Binding::Interface("wg0".to_owned());
        let steps = [
            "proxy=socks5://me@10.0.0.1:1080 password=/secret",
            "bind=10.0.0.2",
        ];
        let spec = told(&steps, &network).unwrap();
        let transport = spec.transport(&network).unwrap();
        assert_eq!(
            transport.proxy.unwrap().to_string(),
            "socks5://10.0.0.1:1080"
        );
        assert_eq!(
            transport.binding,
            Binding::Address("10.0.0.2".parse().unwrap())
        );
        assert_eq!(spec.password_file.as_deref(), Some("/secret"));
        let only_proxy = told(&steps[..1], &network).unwrap();
        let transport = only_proxy.transport(&network).unwrap();
        assert_eq!(transport.binding, Binding::Interface("wg0".to_owned()));
        assert!(transport.waits_for_binding);
        let stored = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&stored).unwrap(), spec);
    }

    #[test]
    fn no_proxy_hears_the_password_of_another() {
        let network = Network::default();
        let first = "proxy=socks5://me@10.0.0.1:1080 password=/secret";
        let changed = told(&[first, "proxy=socks5://me@10.0.0.9:1080"], &network).unwrap();
        assert_eq!(changed.password_file, None);
        let same = told(&[first, "proxy=socks5://me@10.0.0.1:1080"], &network).unwrap();
        assert!(same.password_file.is_some());
        let gone = told(&[first, "proxy=none"], &network).unwrap();
        assert_eq!(gone.transport(&network).unwrap().proxy, None);
    }

    #[test]
    fn names_are_asked_of_the_proxy_where_there_is_one() {
        let network = Network::default();
        let both = told(&["dns=10.8.0.1", "proxy=socks5://10.0.0.1:1080"], &network).unwrap();
        assert!(both.transport(&network).unwrap().name_servers.is_empty());
        let servers = told(&["dns=10.8.0.1,[fd00::1]:5353 bind=wg0"], &network).unwrap();
        let servers = servers.transport(&network).unwrap().name_servers;
        assert_eq!(
            servers,
            [
                "10.8.0.1:53".parse().unwrap(),
                "[fd00::1]:5353".parse().unwrap()
            ]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_changes_nothing() {
        let network = Network::default();
        for (steps, about) in [
            (&["proxy=socks5://me:word@10.0.0.1:1080"][..], "password"),
            (&["proxy=socks5://proxy.example:1080"], "address"),
            (&["proxy=10.0.0.1:1080"], "socks5://"),
            (&["password=/secret"], "name one"),
            (&["proxy=http://10.0.0.1:1 password=here"], "from the root"),
            (&["dns=dns.example"], "10.8.0.1"),
            (&["proxy=http://10.0.0.1:1", "dns=10.8.0.1"], "by the proxy"),
        ] {
            let refused = told(steps, &network).unwrap_err();
            assert!(refused.contains(about), "{steps:?}: {refused}");
        }
        for name in ["", "none", "inherit", "a b", "a/b", &"a".repeat(65)] {
            assert!(checked_name(name).is_err(), "{name}");
        }
        checked_name("default").unwrap();
        checked_name("wg-0.de_1").unwrap();
    }

    #[test]
    fn a_password_is_the_file_without_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let proxy: Proxy = "socks5://me@10.0.0.1:1080".parse().unwrap();
        let missing = told_password(proxy.clone(), &file).unwrap_err();
        assert!(matches!(missing, PasswordError::File(..)), "{missing}");
        std::fs::write(&file, "a word\r\n").unwrap();
        let expected = proxy.clone().with_password("a word").unwrap();
        assert_eq!(told_password(proxy, &file).unwrap(), expected);
        let socks4: Proxy = "socks4://me@10.0.0.1:1080".parse().unwrap();
        let refused = told_password(socks4, &file).unwrap_err();
        assert!(matches!(refused, PasswordError::Refused(..)), "{refused}");
    }
}
