//! Clients of the HTTP library, kept for the next request to the same site, with their connections.
//!
//! Invariant: a client serves only requests to one URL origin for which exactly those addresses were found and allowed that it
//! was made for, so that a kept connection leads to an address that was checked for the request that it serves.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::Url;

/// Sites whose clients are kept. Who reads from more within a quarter of a minute only makes connections anew.
const MAX_SITES: usize = 16;

/// Connections of a site that wait for a request: a hybrid torrent announces itself twice at once.
pub(super) const MAX_IDLE_PER_SITE: usize = 2;

/// The same of a site that ranges are read from, which takes several requests at once.
pub(super) const MAX_IDLE_PER_ORIGIN: usize = 4;

/// How long a connection waits. Common servers close theirs after 5 s to 75 s, and who closes first does not write into a
/// connection that has gone.
pub(super) const MAX_IDLE_TIME: Duration = Duration::from_secs(15);

/// Whether a reply may come compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// It may, and is decompressed.
    Any,
    /// It must come as it is, and is taken as it is.
    Identity,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    origin: url::Origin,
    addresses: Vec<SocketAddr>,
    coding: Coding,
}

impl Site {
    /// The site of `url`, whose host has these addresses.
    pub(super) fn new(url: &Url, addresses: &[SocketAddr], coding: Coding) -> Site {
        let mut addresses = addresses.to_vec();
        // Name servers give them in another order each time.
        addresses.sort_unstable();
        Site {
            origin: url.origin(),
            addresses,
            coding,
        }
    }
}

/// The clients of the sites that were read from last, the latest at the end.
#[derive(Default)]
pub(crate) struct Clients<C = reqwest::Client>(Mutex<Vec<(Site, C)>>);

impl<C: Clone> Clients<C> {
    /// The client of a site, if there is one.
    pub(super) fn find(&self, site: &Site) -> Option<C> {
        let mut clients = self.lock();
        let position = clients.iter().position(|(kept, _)| kept == site)?;
        clients[position..].rotate_left(1);
        clients.last().map(|(_, client)| client.clone())
    }

    /// Keeps a client, in place of an earlier one of this site. The connections of what is not kept any more close when
    /// nobody uses them.
    pub(super) fn keep(&self, site: Site, client: C) {
        let mut clients = self.lock();
        clients.retain(|(kept, _)| *kept != site);
        clients.push((site, client));
        if clients.len() > MAX_SITES {
            clients.remove(0);
        }
    }

    /// Keeps none of them.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Held for a look, never across an await.
    fn lock(&self) -> MutexGuard<'_, Vec<(Site, C)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(url: &str, addresses: &[&str]) -> Site {
        let addresses: Vec<SocketAddr> =
            addresses.iter().map(|text| text.parse().unwrap()).collect();
        Site::new(&url.parse().unwrap(), &addresses, Coding::Any)
    }

    #[test]
    fn a_site_is_its_origin_and_its_addresses_in_any_order() {
        let (a, b) = ("192.0.2.1:80", "192.0.2.2:80");
        let first = site("http://t.example/announce?x", &[a, b]);
        assert_eq!(first, site("http://t.example:80/scrape", &[b, a]));
        for other in [
            site("http://t.example/announce", &[a]),
            site("https://t.example/announce", &[a, b]),
            site("http://t.example:81/announce", &[a, b]),
            site("http://u.example/announce", &[a, b]),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn the_site_that_was_not_read_from_for_the_longest_gives_way() {
        let clients = Clients::default();
        let numbered = |number: usize| site(&format!("http://t{number}.example/"), &[]);
        for number in 0..MAX_SITES {
            clients.keep(numbered(number), number);
        }
        assert_eq!(clients.find(&numbered(0)), Some(0));
        clients.keep(numbered(MAX_SITES), MAX_SITES);
        assert_eq!(clients.find(&numbered(0)), Some(0));
        assert_eq!(clients.find(&numbered(1)), None);
        clients.keep(numbered(0), 7);
        assert_eq!(clients.find(&numbered(0)), Some(7));
        assert_eq!(clients.lock().len(), MAX_SITES);
    }
}
