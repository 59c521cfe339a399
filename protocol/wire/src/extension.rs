//! The extensions we speak over BEP 10, and the ids under which each side wants them.
//!
//! Invariant: what we receive is told by our own ids, which are constants; what we send goes out under the ids that the
//! remote chose.

use crate::message::ExtendedHandshake;

/// An extension with messages of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// `ut_metadata` (BEP 9): pieces of the info dictionary.
    Metadata,
    /// `ut_pex` (BEP 11): whom the sender is connected to.
    PeerExchange,
    /// `lt_donthave` (BEP 54): the sender no longer has a piece.
    DontHave,
    /// `ut_holepunch` (BEP 55): peers behind routers are brought together.
    HolePunch,
}

/// The message id of [`Extension::Metadata`] towards us, as by custom.
pub const LOCAL_METADATA: u8 = 1;

/// The message id of [`Extension::PeerExchange`] towards us, as by custom.
pub const LOCAL_PEER_EXCHANGE: u8 = 2;

/// The message id of [`Extension::DontHave`] towards us.
pub const LOCAL_DONT_HAVE: u8 = 3;

/// The message id of [`Extension::HolePunch`] towards us.
pub const LOCAL_HOLE_PUNCH: u8 = 5;

impl Extension {
    /// All that we speak.
    pub const ALL: [Extension; 4] = [
        Extension::Metadata,
        Extension::PeerExchange,
        Extension::DontHave,
        Extension::HolePunch,
    ];

    /// What the extension is called in the extension handshake.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Extension::Metadata => "ut_metadata",
            Extension::PeerExchange => "ut_pex",
            Extension::DontHave => "lt_donthave",
            Extension::HolePunch => "ut_holepunch",
        }
    }

    /// The message id under which we want it. Never 0.
    #[must_use]
    pub const fn local_id(self) -> u8 {
        match self {
            Extension::Metadata => LOCAL_METADATA,
            Extension::PeerExchange => LOCAL_PEER_EXCHANGE,
            Extension::DontHave => LOCAL_DONT_HAVE,
            Extension::HolePunch => LOCAL_HOLE_PUNCH,
        }
    }

    /// The place in a table of all.
    const fn index(self) -> usize {
        match self {
            Extension::Metadata => 0,
            Extension::PeerExchange => 1,
            Extension::DontHave => 2,
            Extension::HolePunch => 3,
        }
    }

    /// The extensions of our own extension handshake.
    #[must_use]
    pub fn offer() -> Vec<(String, u8)> {
        Extension::ALL
            .iter()
            .map(|extension| (extension.name().to_owned(), extension.local_id()))
            .collect()
    }
}

/// The ids under which a remote wants the extensions that we speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteExtensions {
    /// By [`Extension::index`]; 0 where it wants none.
    ids: [u8; Extension::ALL.len()],
}

impl RemoteExtensions {
    /// Takes note of one of the remote's extension handshakes. What a later one does not name stays, an id of 0 switches
    /// one off (BEP 10).
    pub fn update(&mut self, handshake: &ExtendedHandshake) {
        for (name, id) in &handshake.extensions {
            let ours = Extension::ALL.iter().find(|ours| ours.name() == name);
            if let Some(extension) = ours {
                self.ids[extension.index()] = *id;
            }
        }
    }

    /// The id to send `extension` under, `None` where the remote does not want it.
    #[must_use]
    pub fn id(&self, extension: Extension) -> Option<u8> {
        let id = self.ids[extension.index()];
        (id != 0).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(names: &[(&str, u8)]) -> ExtendedHandshake {
        ExtendedHandshake {
            extensions: names.iter().map(|&(name, id)| (name.into(), id)).collect(),
            ..ExtendedHandshake::default()
        }
    }

    #[test]
    fn a_later_handshake_adds_and_an_id_of_zero_switches_off() {
        let mut remote = RemoteExtensions::default();
        assert_eq!(remote.id(Extension::DontHave), None);
        remote.update(&handshake(&[("ut_pex", 1), ("lt_donthave", 7)]));
        assert_eq!(remote.id(Extension::DontHave), Some(7));
        remote.update(&handshake(&[("ut_pex", 0)]));
        assert_eq!(remote.id(Extension::DontHave), Some(7));
        remote.update(&handshake(&[("lt_donthave", 0)]));
        assert_eq!(remote.id(Extension::DontHave), None);
    }

    #[test]
    fn our_own_ids_are_distinct_and_not_zero() {
        let mut ids: Vec<u8> = Extension::offer().iter().map(|(_, id)| *id).collect();
        ids.push(0);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Extension::ALL.len() + 1);
        for (at, extension) in Extension::ALL.into_iter().enumerate() {
            assert_eq!(extension.index(), at);
        }
    }
}
