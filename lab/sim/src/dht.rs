//! A DHT of thousands in virtual time: machines of `shoal-dht`, unchanged, over a network that delays and loses datagrams,
//! with contacts that come and go and contacts that lie.
//!
//! Invariant: the same setup, seed included, gives the same datagrams in the same order.

mod population;
mod searches;
mod sybil;

pub use searches::{DhtOutcome, Figures};

use crate::queue::EventQueue;
use core::net::SocketAddr;
use core::time::Duration;
use population::{Person, Population};
use searches::Searches;
use shoal_dht::{Dht, Input, Output, Settings};
use shoal_machine::{Machine, Moment};
use sybil::Sybils;

/// What the liars do. All of them answer with each other, give tokens, and forget what is announced to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lies {
    /// Their ids follow from their addresses, and stay.
    Crowd,
    /// Whom they name in a search for peers has an id made up next to what is looked for, and answers with it.
    MadeUpIds,
}

/// What a DHT is made of.
#[derive(Clone, Debug)]
pub struct DhtSetup {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Contacts that are there at any time, liars included.
    pub contacts: u32,
    /// Of a hundred contacts, how many lie.
    pub sybil_percent: u32,
    /// What they do.
    pub lies: Lies,
    /// Networks (/24) that the liars have their addresses in.
    pub sybil_networks: u32,
    /// Of the honest contacts, how many are replaced by new ones in a day: 0.6 for 60 %.
    pub churn_per_day: f64,
    /// How long everybody has to come, and then to find their neighbours; searches begin after both.
    pub arrivals: Duration,
    /// How long searches go on.
    pub time: Duration,
    /// Swarms, each with [`DhtSetup::peers_per_swarm`] peers that announce themselves every quarter of an hour.
    pub swarms: u32,
    /// Peers of a swarm at the beginning; those that leave are not replaced.
    pub peers_per_swarm: u32,
    /// Searches for peers by contacts that are in no swarm, spread over the time.
    pub searches: u32,
    /// Those of every honest contact.
    pub settings: Settings,
}

impl DhtSetup {
    /// 10,000 contacts of which a fifth lies, 60 % of the others replaced in a day, a quarter of an hour of
    /// searches.
    #[must_use]
    pub fn large(seed: u64, lies: Lies) -> Self {
        DhtSetup {
            seed,
            contacts: 10_000,
            sybil_percent: 20,
            lies,
            sybil_networks: 500,
            churn_per_day: 0.6,
            arrivals: Duration::from_secs(10 * 60),
            time: Duration::from_secs(15 * 60),
            swarms: 200,
            peers_per_swarm: 3,
            searches: 500,
            settings: Settings {
                v6: false,
                ..Settings::default()
            },
        }
    }
}

/// Of a thousand datagrams, how many are lost.
const LOST_PER_MILLE: u32 = 10;

/// How long a datagram takes, evenly drawn for each.
const DELAY_MS: core::ops::Range<u64> = 10..120;

/// How often peers announce themselves.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(15 * 60);

/// How long the neighbours are looked for before anybody announces.
const SETTLING: Duration = Duration::from_secs(5 * 60);

/// How long the first announces may take before anybody searches.
const ANNOUNCING: Duration = Duration::from_secs(5 * 60);

/// How often a liar makes itself known to some honest contact.
const SYBIL_PING_EVERY: Duration = Duration::from_secs(5 * 60);

/// A contact in the simulation; never used twice.
type PersonId = u32;

#[derive(Clone, Copy, Debug)]
enum Event {
    Deliver {
        mail: u32,
    },
    Tick {
        person: PersonId,
    },
    Arrive,
    SybilArrives,
    /// Somebody goes, and somebody else comes.
    Replace,
    Announce {
        swarm: u32,
        person: PersonId,
    },
    Search {
        number: u32,
    },
    SybilPing {
        sybil: u32,
    },
}

/// A datagram on its way.
struct Mail {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// A DHT that runs.
pub struct DhtWorld {
    setup: DhtSetup,
    dice: fastrand::Rng,
    now: Moment,
    queue: EventQueue<Event>,
    mail: Vec<Option<Mail>>,
    free: Vec<u32>,
    people: Population,
    sybils: Sybils,
    searches: Searches,
    datagrams: u64,
    bytes: u64,
}

impl DhtWorld {
    /// Before anybody has come.
    #[must_use]
    pub fn new(setup: DhtSetup) -> Self {
        let mut dice = fastrand::Rng::with_seed(setup.seed);
        let sybils = setup.contacts * setup.sybil_percent / 100;
        let sybils = Sybils::new(sybils, setup.sybil_networks, setup.lies, &mut dice);
        DhtWorld {
            people: Population::new(setup.settings),
            sybils,
            searches: Searches::default(),
            setup,
            dice,
            now: Moment::ZERO,
            queue: EventQueue::new(),
            mail: Vec::new(),
            free: Vec::new(),
            datagrams: 0,
            bytes: 0,
        }
    }

    /// Runs to the end.
    #[must_use]
    pub fn run(mut self) -> DhtOutcome {
        self.plan();
        let end = self.search_begin() + self.setup.time + Duration::from_secs(60);
        while let Some((at, event)) = self.queue.pop() {
            if at > end {
                break;
            }
            self.now = at;
            self.happen(event);
        }
        self.searches.outcome(self.datagrams, self.bytes)
    }

    fn search_begin(&self) -> Moment {
        Moment::ZERO + self.setup.arrivals + SETTLING + ANNOUNCING
    }

    /// Everything that does not follow from what happens.
    fn plan(&mut self) {
        let honest = self.setup.contacts - self.sybils.len();
        for _ in 0..honest {
            let at = self.within(Moment::ZERO, self.setup.arrivals);
            self.queue.push(at, Event::Arrive);
        }
        for _ in 0..self.sybils.len() {
            let at = self.within(Moment::ZERO, self.setup.arrivals);
            self.queue.push(at, Event::SybilArrives);
        }
        let arrived = Moment::ZERO + self.setup.arrivals;
        let rest = SETTLING + ANNOUNCING + self.setup.time;
        // Departures are a Poisson process.
        let per_s = f64::from(honest) * self.setup.churn_per_day / 86_400.0;
        let mut at = Duration::ZERO;
        loop {
            // Without churn the next departure is farther away than anything.
            let pause_s = -(1.0 - self.dice.f64()).ln() / per_s;
            at += Duration::from_secs_f64(pause_s.min(rest.as_secs_f64() + 1.0));
            if at > rest {
                break;
            }
            self.queue.push(arrived + at, Event::Replace);
        }
        for number in 0..self.setup.searches {
            let at = self.within(self.search_begin(), self.setup.time);
            self.queue.push(at, Event::Search { number });
        }
        for swarm in 0..self.setup.swarms {
            for _ in 0..self.setup.peers_per_swarm {
                let at = self.within(arrived + SETTLING, ANNOUNCING / 2);
                self.queue.push(
                    at,
                    Event::Announce {
                        swarm,
                        person: PersonId::MAX,
                    },
                );
            }
        }
    }

    fn within(&mut self, begin: Moment, time: Duration) -> Moment {
        begin + time.mul_f64(self.dice.f64())
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { mail } => self.deliver(mail),
            Event::Tick { person } => self.tick(person),
            Event::Arrive => self.arrive(),
            Event::SybilArrives => {
                if let Some(sybil) = self.sybils.arrive() {
                    self.queue.push(self.now, Event::SybilPing { sybil });
                }
            }
            Event::Replace => {
                if let Some(gone) = self.people.pick(&mut self.dice) {
                    self.people.remove(gone);
                    self.searches.forget(gone);
                    self.arrive();
                }
            }
            Event::Announce { swarm, person } => self.announce(swarm, person),
            Event::Search { number } => self.search(number),
            Event::SybilPing { sybil } => {
                let at = self.now + SYBIL_PING_EVERY;
                self.queue.push(at, Event::SybilPing { sybil });
                if let Some(person) = self.people.pick(&mut self.dice)
                    && let Some(to) = self.people.address(person)
                {
                    let (from, bytes) = self.sybils.ping(sybil);
                    self.send(from, to, bytes);
                }
            }
        }
    }

    fn arrive(&mut self) {
        let mut seeds: Vec<SocketAddr> = Vec::new();
        for _ in 0..8 {
            let is_liar = self.dice.u32(..100) < self.setup.sybil_percent;
            let seed = if is_liar {
                self.sybils.pick(&mut self.dice)
            } else {
                let person = self.people.pick(&mut self.dice);
                person.and_then(|person| self.people.address(person))
            };
            seeds.extend(seed);
        }
        let person = self.people.add(self.now, &mut self.dice);
        let input = Input::Bootstrap {
            addresses: seeds,
            are_routers: false,
        };
        self.tell(person, input);
    }

    fn announce(&mut self, swarm: u32, person: PersonId) {
        let person = match person {
            PersonId::MAX => self.people.pick(&mut self.dice),
            person => Some(person).filter(|person| self.people.address(*person).is_some()),
        };
        let Some(person) = person else {
            return;
        };
        let address = self.people.address(person);
        let input = address.map(|address| self.searches.announce(swarm, person, address));
        if let Some(input) = input {
            self.tell(person, input);
        }
        self.queue
            .push(self.now + ANNOUNCE_EVERY, Event::Announce { swarm, person });
    }

    fn search(&mut self, number: u32) {
        let swarm = number % self.setup.swarms;
        if let Some(person) = self.people.pick(&mut self.dice)
            && let Some(input) = self.searches.begin(self.now, number, swarm, person)
        {
            self.tell(person, input);
        }
    }

    fn tick(&mut self, person: PersonId) {
        let Some(somebody) = self.people.get_mut(person) else {
            return;
        };
        if somebody.tick_at != Some(self.now) {
            return;
        }
        somebody.tick_at = None;
        if somebody.machine.deadline().is_some_and(|at| at <= self.now) {
            self.tell(person, Input::Tick);
        } else {
            self.schedule(person);
        }
    }

    fn deliver(&mut self, mail: u32) {
        let Some(Mail { from, to, bytes }) = self.mail[mail as usize].take() else {
            return;
        };
        self.free.push(mail);
        if let Some(person) = self.people.at(to) {
            self.tell(person, Input::Datagram { from, bytes });
        } else if let Some(answer) = self.sybils.answer(from, to, &bytes, &mut self.dice) {
            self.send(to, from, answer);
        }
    }

    /// Has a machine do something, and carries out what it says.
    fn tell(&mut self, person: PersonId, input: Input) {
        let now = self.now;
        let Some(Person {
            machine, address, ..
        }) = self.people.get_mut(person)
        else {
            return;
        };
        let from = *address;
        machine.handle(now, input);
        while let Some(output) = self
            .people
            .get_mut(person)
            .and_then(|p| Dht::poll(&mut p.machine))
        {
            match output {
                Output::Send { to, bytes } => self.send(from, to, bytes),
                Output::PeersFound { handle, peers } => self.searches.found(handle, &peers),
                Output::Ended { handle, outcome } => self.searches.ended(now, handle, &outcome),
                _ => {}
            }
        }
        self.schedule(person);
    }

    /// A tick that is there already and early enough stays: the machine is asked then whether it still wants one.
    fn schedule(&mut self, person: PersonId) {
        let now = self.now;
        let Some(somebody) = self.people.get_mut(person) else {
            return;
        };
        let Some(deadline) = somebody.machine.deadline() else {
            return;
        };
        let at = deadline.max(now);
        if somebody.tick_at.is_none_or(|planned| at < planned) {
            somebody.tick_at = Some(at);
            self.queue.push(at, Event::Tick { person });
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.datagrams += 1;
        self.bytes += bytes.len() as u64;
        if self.dice.u32(..1_000) < LOST_PER_MILLE {
            return;
        }
        let mail = Some(Mail { from, to, bytes });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.mail[slot as usize] = mail;
                slot
            }
            None => {
                self.mail.push(mail);
                u32::try_from(self.mail.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let delay = Duration::from_millis(self.dice.u64(DELAY_MS));
        self.queue
            .push(self.now + delay, Event::Deliver { mail: slot });
    }
}
