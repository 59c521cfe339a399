//! What is set of how a node reaches others: it holds from its next start on.
//!
//! Invariant: what is shown here is read back as the same.

use crate::settings::Settings;
use shoal_engine::{EncryptionPolicy, PeerSources, PeerTransports};
use shoal_metainfo::metainfo::Contact;
use shoal_store::{Database, StoreError};

/// More hosts than anybody asks for a first contact.
const MAX_ROUTERS: usize = 16;

const ENCRYPTION: [(&str, EncryptionPolicy); 3] = [
    ("disabled", EncryptionPolicy::Disabled),
    ("enabled", EncryptionPolicy::Enabled),
    ("forced", EncryptionPolicy::Forced),
];

const TRANSPORTS: [(&str, PeerTransports); 3] = [
    ("both", PeerTransports::Both),
    ("tcp", PeerTransports::Tcp),
    ("utp", PeerTransports::Utp),
];

/// Words for ports that are not said by number.
const USUAL: &str = "usual";
const ANY: &str = "any";

/// Where peers connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenPort {
    /// At the first free one of those that BitTorrent clients have always used.
    #[default]
    Usual,
    /// At any that is free.
    Any,
    /// At this one, or not at all.
    This(u16),
}

/// How a node reaches others, where its command line does not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSettings {
    /// It takes part in the DHT.
    pub dht: bool,
    /// Whom it asks for the first contacts there; the usual ones where nobody is named.
    pub dht_routers: Vec<Contact>,
    /// Where peers connect.
    pub port: ListenPort,
    /// The router is asked to let them in.
    pub port_mapping: bool,
    /// Nobody is told which program we are.
    pub anonymous: bool,
    /// When connections are encrypted.
    pub encryption: EncryptionPolicy,
    /// By what else peers are found.
    pub sources: PeerSources,
    /// Over what peers are spoken to.
    pub transports: PeerTransports,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        NetworkSettings {
            dht: true,
            dht_routers: Vec::new(),
            port: ListenPort::default(),
            port_mapping: true,
            anonymous: false,
            encryption: EncryptionPolicy::default(),
            sources: PeerSources::default(),
            transports: PeerTransports::default(),
        }
    }
}

impl NetworkSettings {
    /// What is stored.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn read(database: &Database) -> Result<Self, StoreError> {
        let stored = database.settings().await?;
        Ok(Settings::from_stored(&stored).network)
    }
}

pub(crate) fn parse_port(text: &str) -> Result<ListenPort, String> {
    match text {
        USUAL => Ok(ListenPort::Usual),
        ANY => Ok(ListenPort::Any),
        number => {
            let port = number.parse().ok().filter(|&port| port != 0);
            let port = port.map(ListenPort::This);
            port.ok_or_else(|| format!("write a port like 51413, `{ANY}` or `{USUAL}`"))
        }
    }
}

pub(crate) fn show_port(port: ListenPort) -> String {
    match port {
        ListenPort::Usual => USUAL.to_owned(),
        ListenPort::Any => ANY.to_owned(),
        ListenPort::This(port) => port.to_string(),
    }
}

pub(crate) fn parse_routers(text: &str) -> Result<Vec<Contact>, String> {
    let routers = text.split_whitespace().map(|word| {
        let what =
            || format!("{word:?} is no router; write a name and a port like dht.example:6881");
        Contact::parse(word).ok_or_else(what)
    });
    let routers: Vec<Contact> = routers.collect::<Result<_, _>>()?;
    match routers.len() > MAX_ROUTERS {
        true => Err(format!("{MAX_ROUTERS} routers are the most")),
        false => Ok(routers),
    }
}

pub(crate) fn show_routers(routers: &[Contact]) -> String {
    let words: Vec<String> = routers.iter().map(ToString::to_string).collect();
    words.join(" ")
}

pub(crate) fn parse_encryption(text: &str) -> Result<EncryptionPolicy, String> {
    choice(text, &ENCRYPTION)
}

pub(crate) fn show_encryption(policy: EncryptionPolicy) -> String {
    word(policy, &ENCRYPTION)
}

pub(crate) fn parse_transports(text: &str) -> Result<PeerTransports, String> {
    choice(text, &TRANSPORTS)
}

pub(crate) fn show_transports(transports: PeerTransports) -> String {
    word(transports, &TRANSPORTS)
}

fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == text);
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    let what = || format!("write one of {}", words.join(", "));
    found.map(|(_, value)| *value).ok_or_else(what)
}

fn word<T: Copy + PartialEq>(value: T, choices: &[(&str, T)]) -> String {
    let found = choices.iter().find(|(_, known)| *known == value);
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back_and_nonsense_is_refused_with_what_to_write() {
        for (_, policy) in ENCRYPTION {
            assert_eq!(parse_encryption(&show_encryption(policy)), Ok(policy));
        }
        for (_, transports) in TRANSPORTS {
            assert_eq!(
                parse_transports(&show_transports(transports)),
                Ok(transports)
            );
        }
        for port in [ListenPort::Usual, ListenPort::Any, ListenPort::This(65_535)] {
            assert_eq!(parse_port(&show_port(port)), Ok(port));
        }
        let routers = parse_routers("dht.example:1 192.0.2.1:6881").unwrap();
        assert_eq!(parse_routers(&show_routers(&routers)).unwrap(), routers);
        for wrong in ["0", "65536", "-1", "", "many"] {
            assert!(parse_port(wrong).unwrap_err().contains("51413"), "{wrong}");
        }
        assert!(parse_encryption("yes").unwrap_err().contains("forced"));
        assert!(parse_transports("quic").unwrap_err().contains("utp"));
        assert!(
            parse_routers("dht.example")
                .unwrap_err()
                .contains("dht.example:6881")
        );
        assert!(parse_routers(&"a:1 ".repeat(MAX_ROUTERS + 1)).is_err());
    }
}
