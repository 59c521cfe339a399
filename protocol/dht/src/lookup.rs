//! One search for the contacts nearest to a place, over several paths that share no informant.
//!
//! A contact that lies can only name other liars, nearer to the target than anybody else, until the search sees nothing
//! but them. So a search goes over several paths: each path knows only what those told it whom it asked itself, and nobody
//! is asked by two. A liar on one path cannot push away what another path has heard of. (After S/Kademlia, Baumgart and Mies
//! 2007, which differs in that a contact heard of on one path is lost to the others.)
//!
//! Two rankings are served: the nearest whose id follows from their address (BEP 42), then the nearest of all. Who makes up an
//! id next to the target is in the second and cannot push anybody out of the first. And of one network ([`Network`]) only
//! one contact is in a search.
//!
//! Invariant: each contact is asked at most once, at most [`MAX_ASKED`] are; at most [`MAX_CANDIDATES`] are known.

use crate::contact::Contact;
use crate::id::{Distance, Id};
use crate::krpc::Token;
use crate::secure_id::is_secure;
use core::net::SocketAddr;
use shoal_machine::Network;

/// The most paths that a search may have.
pub(crate) const MAX_PATHS: usize = 8;

/// How many contacts nearest to the target are announced to: K of BEP 5.
pub(crate) const STORERS: usize = 8;

/// How many contacts nearest to the target have to have answered on a path before it ends. Twice K: a liar names K others of
/// its kind, and a path that ended with those would have asked nobody else.
const WIDTH: usize = 16;

/// Queries of one path on their way at the same time. With eight paths that is about three times libtorrent's five; what a search
/// asks in all is two to three times as much as well.
const PER_PATH: u8 = 2;

/// The most contacts that a search asks. Among 10,000 contacts it asks about 70, and each doubling adds a
/// few.
pub(crate) const MAX_ASKED: usize = 128;

/// The most contacts that a search keeps in mind.
const MAX_CANDIDATES: usize = 160;

/// The most contacts of one reply that count: those that are nearest, and K is all that BEP 5 has a reply contain.
const MAX_PER_REPLY: usize = 8;

/// What a search is held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// At least one, at most [`MAX_PATHS`].
    pub paths: usize,
    /// One contact of a network in a search.
    pub one_per_network: bool,
    /// Rank contacts whose id follows from their address beside all others.
    pub prefer_secure: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not asked.
    Heard,
    /// Asked, and its answer is awaited.
    Asked,
    /// Asked so long ago that the search goes on without it.
    Slow,
    Answered,
    /// It did not answer, or not as who it was said to be.
    Failed,
}

#[derive(Clone, Debug)]
struct Candidate {
    distance: Distance,
    contact: Contact,
    network: Option<Network>,
    secure: bool,
    state: State,
    /// A bit for each path that has heard of it.
    heard_by: u8,
    /// The path that asked it.
    asked_by: usize,
    token: Option<Token>,
}

/// A search.
#[derive(Clone, Debug)]
pub(crate) struct Lookup {
    target: Id,
    rules: Rules,
    /// Nearest first.
    candidates: Vec<Candidate>,
    on_their_way: [u8; MAX_PATHS],
    asked: usize,
    answered: usize,
    /// The path whose turn it is.
    turn: usize,
}

impl Lookup {
    /// A search that begins with these contacts, nearest first, dealt out to the paths.
    pub(crate) fn new(target: Id, rules: Rules, beginning: &[Contact]) -> Self {
        let rules = Rules {
            paths: rules.paths.clamp(1, MAX_PATHS),
            ..rules
        };
        let mut lookup = Lookup {
            target,
            rules,
            candidates: Vec::new(),
            on_their_way: [0; MAX_PATHS],
            asked: 0,
            answered: 0,
            turn: 0,
        };
        for (at, contact) in beginning.iter().enumerate() {
            lookup.add(*contact, at % rules.paths);
        }
        lookup
    }

    /// How many contacts a search can begin with.
    pub(crate) const fn beginning_len(rules: &Rules) -> usize {
        4 * if rules.paths < MAX_PATHS {
            rules.paths
        } else {
            MAX_PATHS
        }
    }

    /// How many contacts have answered.
    pub(crate) const fn answers(&self) -> usize {
        self.answered
    }

    fn add(&mut self, contact: Contact, path: usize) {
        let distance = self.target.distance(&contact.id);
        let search = |candidate: &Candidate| candidate.distance.cmp(&distance);
        let at = match self.candidates.binary_search_by(search) {
            Ok(at) => {
                if self.candidates[at].contact == contact {
                    self.candidates[at].heard_by |= 1 << path;
                }
                return;
            }
            Err(at) => at,
        };
        let network = Network::of(contact.address.ip());
        let is_neighbour = |other: &Candidate| {
            let same_network =
                self.rules.one_per_network && network.is_some() && other.network == network;
            same_network || other.contact.address == contact.address
        };
        if self.candidates.iter().any(is_neighbour) {
            return;
        }
        let candidate = Candidate {
            distance,
            contact,
            network,
            secure: is_secure(&contact.id, contact.address.ip()),
            state: State::Heard,
            heard_by: 1 << path,
            asked_by: path,
            token: None,
        };
        self.candidates.insert(at, candidate);
        if self.candidates.len() > MAX_CANDIDATES {
            self.drop_one();
        }
    }

    /// Forgets the farthest contact that was not asked: first of those whose id does not follow from their address.
    fn drop_one(&mut self) {
        let unasked = |candidate: &Candidate| candidate.state == State::Heard;
        let insecure = |candidate: &Candidate| unasked(candidate) && !candidate.secure;
        let farthest = self.candidates.iter().rposition(insecure);
        let farthest = farthest.or_else(|| self.candidates.iter().rposition(unasked));
        self.candidates
            .remove(farthest.unwrap_or(self.candidates.len() - 1));
    }

    /// Whom to ask next: the caller asks it, and says later what came of that.
    pub(crate) fn next(&mut self) -> Option<Contact> {
        if self.asked >= MAX_ASKED {
            return None;
        }
        for step in 0..self.rules.paths {
            let path = (self.turn + step) % self.rules.paths;
            if self.on_their_way[path] >= PER_PATH {
                continue;
            }
            if let Some(at) = self.wanted_by(path) {
                self.turn = (path + 1) % self.rules.paths;
                self.on_their_way[path] += 1;
                self.asked += 1;
                let candidate = &mut self.candidates[at];
                candidate.state = State::Asked;
                candidate.asked_by = path;
                return Some(candidate.contact);
            }
        }
        None
    }

    /// Nothing is left to ask, and no answer is awaited.
    pub(crate) fn is_over(&self) -> bool {
        let wants = |path| self.asked < MAX_ASKED && self.wanted_by(path).is_some();
        self.on_their_way.iter().all(|count| *count == 0) && !(0..self.rules.paths).any(wants)
    }

    /// The nearest contact that a path has not seen asked, among those it has to hear from. Those whose id follows from their
    /// address come first, so that made-up ids do not use up what a search may ask.
    fn wanted_by(&self, path: usize) -> Option<usize> {
        if !self.rules.prefer_secure {
            return self.nearest_unasked(path, WIDTH, false);
        }
        let secure = self.nearest_unasked(path, WIDTH, true);
        secure.or_else(|| self.nearest_unasked(path, STORERS, false))
    }

    fn nearest_unasked(&self, path: usize, width: usize, only_secure: bool) -> Option<usize> {
        let ranks = |candidate: &Candidate| {
            let is_gone = matches!(candidate.state, State::Failed | State::Slow);
            candidate.heard_by & 1 << path != 0 && !is_gone && (candidate.secure || !only_secure)
        };
        let candidates = self.candidates.iter().enumerate();
        let mut ranking = candidates
            .filter(|(_, candidate)| ranks(candidate))
            .take(width);
        let unasked = ranking.find(|(_, candidate)| candidate.state == State::Heard);
        unasked.map(|(at, _)| at)
    }

    fn asked_mut(&mut self, address: SocketAddr) -> Option<&mut Candidate> {
        let awaited = |candidate: &&mut Candidate| {
            candidate.contact.address == address
                && matches!(candidate.state, State::Asked | State::Slow)
        };
        self.candidates.iter_mut().find(awaited)
    }

    /// Changes what is known of an asked contact; its path has a query less on its way.
    fn settle(&mut self, address: SocketAddr, state: State) -> Option<usize> {
        let candidate = self.asked_mut(address)?;
        let (before, path) = (candidate.state, candidate.asked_by);
        candidate.state = state;
        if before == State::Asked {
            self.on_their_way[path] = self.on_their_way[path].saturating_sub(1);
        }
        Some(path)
    }

    /// An answer came. Contacts in it that are not to be asked have been taken out by the caller.
    ///
    /// False where it came from somebody else than who was asked: what it says does not count then.
    pub(crate) fn answered(
        &mut self,
        from: Contact,
        token: Option<Token>,
        named: &[Contact],
    ) -> bool {
        let expected = self
            .asked_mut(from.address)
            .map(|candidate| candidate.contact.id);
        if expected != Some(from.id) {
            self.settle(from.address, State::Failed);
            return false;
        }
        let Some(path) = self.settle(from.address, State::Answered) else {
            return false;
        };
        self.answered += 1;
        let answerer = self
            .candidates
            .iter_mut()
            .find(|other| other.contact == from);
        if let Some(candidate) = answerer {
            candidate.token = token;
        }
        let mut named = named.to_vec();
        named.sort_unstable_by_key(|contact| self.target.distance(&contact.id));
        for contact in named.into_iter().take(MAX_PER_REPLY) {
            self.add(contact, path);
        }
        true
    }

    /// An answer takes long: the search goes on without it, and takes it if it comes.
    pub(crate) fn slow(&mut self, address: SocketAddr) {
        self.settle(address, State::Slow);
    }

    /// No answer comes.
    pub(crate) fn failed(&mut self, address: SocketAddr) {
        self.settle(address, State::Failed);
    }

    /// Whom to announce to: the nearest that answered with a token, and the nearest of those whose id follows from their
    /// address (BEP 42 allows the former where the latter are served as well).
    pub(crate) fn storers(&self) -> Vec<(Contact, Token)> {
        let (mut all, mut secure) = (0, 0);
        let mut chosen = Vec::new();
        for candidate in &self.candidates {
            let Some(token) = &candidate.token else {
                continue;
            };
            if all < STORERS || (self.rules.prefer_secure && candidate.secure && secure < STORERS) {
                chosen.push((candidate.contact, token.clone()));
            }
            all += 1;
            secure += usize::from(candidate.secure);
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    const RULES: Rules = Rules {
        paths: 4,
        one_per_network: true,
        prefer_secure: true,
    };

    fn contact(number: u32, bits: u32) -> Contact {
        let mut rng = fastrand::Rng::with_seed(u64::from(number));
        Contact {
            id: Id([0; 20]).flipped(bits).random_near(bits + 1, &mut rng),
            address: (Ipv4Addr::from_bits(0x0b00_0001 + (number << 8)), 6881).into(),
        }
    }

    fn lookup(rules: Rules, beginning: &[Contact]) -> Lookup {
        Lookup::new(Id([0; 20]), rules, beginning)
    }

    fn token() -> Option<Token> {
        Some(Token::from_slice(b"token"))
    }

    #[test]
    fn a_search_asks_the_nearest_and_ends_when_they_have_answered() {
        let everybody: Vec<Contact> = (0..100).map(|at| contact(at, at / 5)).collect();
        let mut lookup = lookup(RULES, &everybody[..5]);
        let mut asked = Vec::new();
        while let Some(whom) = lookup.next() {
            asked.push(whom);
            // Whoever is asked names the eight that it is nearest to, which get nearer to the target.
            let at = everybody.iter().position(|&other| other == whom).unwrap();
            let named = &everybody[(at + 1).min(92)..(at + 9).min(100)];
            assert!(lookup.answered(whom, token(), named));
        }
        assert!(lookup.is_over());
        let storers: Vec<Contact> = lookup
            .storers()
            .into_iter()
            .map(|(contact, _)| contact)
            .collect();
        let mut nearest = everybody.clone();
        nearest.sort_by_key(|contact| Id([0; 20]).distance(&contact.id));
        assert_eq!(storers, nearest[..STORERS]);
        asked.sort();
        assert!(
            asked.windows(2).all(|pair| pair[0] != pair[1]),
            "nobody twice"
        );
    }

    #[test]
    fn a_liar_on_one_path_does_not_hide_what_another_has_heard_of() {
        let (liar, honest) = (contact(0, 1), contact(1, 0));
        let rules = Rules { paths: 2, ..RULES };
        let mut lookup = lookup(rules, &[liar, honest]);
        assert_eq!(lookup.next(), Some(liar));
        assert_eq!(lookup.next(), Some(honest));
        let crowd: Vec<Contact> = (100..108).map(|at| contact(at, 100)).collect();
        lookup.answered(liar, None, &crowd);
        let truth = contact(2, 10);
        lookup.answered(honest, None, &[truth]);
        let asked: Vec<Contact> = core::iter::from_fn(|| lookup.next()).collect();
        assert!(asked.contains(&truth));
        assert!(asked.iter().filter(|whom| crowd.contains(whom)).count() <= usize::from(PER_PATH));
    }

    #[test]
    fn of_a_network_one_contact_is_asked() {
        let neighbours: Vec<Contact> = (1..100_u8)
            .map(|last| Contact {
                address: (Ipv4Addr::new(11, 1, 1, last), 6881).into(),
                ..contact(u32::from(last), 50)
            })
            .collect();
        let mut lookup = lookup(RULES, &neighbours);
        assert_eq!(core::iter::from_fn(|| lookup.next()).count(), 1);
    }

    #[test]
    fn an_id_made_up_next_to_the_target_displaces_no_secure_one() {
        let mut rng = fastrand::Rng::with_seed(3);
        let made_up: Vec<Contact> = (0..20).map(|at| contact(at, 140)).collect();
        let secure: Vec<Contact> = (0..8)
            .map(|at| {
                let address: SocketAddr = (Ipv4Addr::new(80, at, 1, 1), 6881).into();
                let id = crate::secure_id(address.ip(), &mut rng);
                Contact { id, address }
            })
            .collect();
        let rules = Rules { paths: 1, ..RULES };
        let mut lookup = lookup(rules, &[made_up, secure.clone()].concat());
        while let Some(whom) = lookup.next() {
            lookup.answered(whom, token(), &[]);
        }
        let storers: Vec<Contact> = lookup
            .storers()
            .into_iter()
            .map(|(contact, _)| contact)
            .collect();
        assert!(secure.iter().all(|contact| storers.contains(contact)));
    }

    #[test]
    fn who_answers_with_another_id_does_not_count() {
        let whom = contact(1, 3);
        let mut lookup = lookup(RULES, &[whom]);
        lookup.next();
        let other = Contact {
            id: contact(2, 60).id,
            ..whom
        };
        assert!(!lookup.answered(other, token(), &[contact(3, 70)]));
        assert!(lookup.is_over() && lookup.storers().is_empty());
    }

    #[test]
    fn a_search_goes_on_without_who_is_slow_and_takes_a_late_answer() {
        let everybody: Vec<Contact> = (0..3).map(|at| contact(at, at)).collect();
        let mut lookup = lookup(Rules { paths: 1, ..RULES }, &everybody);
        let first: Vec<Contact> = core::iter::from_fn(|| lookup.next()).collect();
        assert_eq!(first.len(), 2);
        lookup.slow(first[0].address);
        assert_eq!(lookup.next(), Some(everybody[0]), "the farthest");
        assert!(lookup.answered(first[0], token(), &[]));
        assert_eq!(lookup.storers().len(), 1);
    }

    #[test]
    fn a_crowd_without_end_is_asked_for_a_while_only() {
        let rules = Rules {
            one_per_network: false,
            ..RULES
        };
        let mut lookup = lookup(rules, &[contact(0, 0)]);
        let (mut asked, mut next) = (0, 1);
        while let Some(whom) = lookup.next() {
            asked += 1;
            let bits = (asked / 2).min(150);
            let named: Vec<Contact> = (next..next + 8).map(|at| contact(at, bits)).collect();
            next += 8;
            lookup.answered(whom, token(), &named);
            assert!(lookup.candidates.len() <= MAX_CANDIDATES);
        }
        assert!(asked as usize <= MAX_ASKED && lookup.is_over());
    }
}
