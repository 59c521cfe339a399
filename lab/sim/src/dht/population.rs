//! The honest contacts: who is there, and at which address.
//!
//! Invariant: an address belongs to one contact ever, and a contact that has gone is not there again.

use super::PersonId;
use core::net::{Ipv4Addr, SocketAddr};
use shoal_dht::{Dht, Saved, Settings};
use shoal_machine::Moment;
use std::collections::HashMap;

/// The port of everybody.
const PORT: u16 = 6881;

/// An honest contact.
pub(super) struct Person {
    pub address: SocketAddr,
    pub machine: Dht,
    /// When a tick is planned.
    pub tick_at: Option<Moment>,
}

pub(super) struct Population {
    settings: Settings,
    people: Vec<Option<Box<Person>>>,
    here: Vec<PersonId>,
    by_address: HashMap<SocketAddr, PersonId>,
}

impl Population {
    pub(super) fn new(settings: Settings) -> Self {
        Population {
            settings,
            people: Vec::new(),
            here: Vec::new(),
            by_address: HashMap::new(),
        }
    }

    /// Somebody new, who knows nobody: anywhere between 20.0.0.0 and 99.255.255.255, where all addresses are global. Its id
    /// does not follow from its address until others have told it that address.
    pub(super) fn add(&mut self, now: Moment, dice: &mut fastrand::Rng) -> PersonId {
        let address = loop {
            let ip = Ipv4Addr::new(dice.u8(20..100), dice.u8(..), dice.u8(..), dice.u8(1..255));
            let address = SocketAddr::from((ip, PORT));
            if !self.by_address.contains_key(&address) {
                break address;
            }
        };
        let mut secret = [0; 32];
        dice.fill(&mut secret);
        let machine = Dht::new(now, self.settings, &Saved::default(), secret, dice.fork());
        let person = PersonId::try_from(self.people.len()).unwrap_or(PersonId::MAX);
        self.people.push(Some(Box::new(Person {
            address,
            machine,
            tick_at: None,
        })));
        self.here.push(person);
        self.by_address.insert(address, person);
        person
    }

    pub(super) fn remove(&mut self, person: PersonId) {
        self.here.retain(|other| *other != person);
        self.people[person as usize] = None;
    }

    /// Anybody who is there.
    pub(super) fn pick(&self, dice: &mut fastrand::Rng) -> Option<PersonId> {
        dice.choice(&self.here).copied()
    }

    pub(super) fn get_mut(&mut self, person: PersonId) -> Option<&mut Person> {
        self.people[person as usize].as_deref_mut()
    }

    /// Who is there at this address.
    pub(super) fn at(&self, address: SocketAddr) -> Option<PersonId> {
        let person = *self.by_address.get(&address)?;
        self.people[person as usize].as_ref().map(|_| person)
    }

    pub(super) fn address(&self, person: PersonId) -> Option<SocketAddr> {
        let person = self.people[person as usize].as_ref()?;
        Some(person.address)
    }
}
