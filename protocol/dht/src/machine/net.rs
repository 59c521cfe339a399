//! One of the two DHTs: our id there, whom we know, and how we get to know the first.

use crate::id::Id;
use crate::machine::Status;
use crate::peers::PeerStore;
use crate::table::{BUCKET, Rules, Table};
use core::net::SocketAddr;
use core::time::Duration;
use shoal_machine::{Moment, Voter};

/// Contacts of a family that are worth keeping: a table of millions of contacts has about 170.
const WORTH_SAVING: usize = 200;

/// At most one contact of the table is asked in this time, so that looking after it is never what takes the bytes.
pub(super) const TABLE_PACE: Duration = Duration::from_secs(1);

/// The first pause after a search for our neighbours that found too few; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const MAX_PAUSE: Duration = Duration::from_secs(10 * 60);

/// When our neighbours are looked for again when all is well: soon after the first time, when we knew few and few knew us,
/// then less and less often.
const FIRST_JOIN_PAUSE: Duration = Duration::from_secs(10 * 60);
const MAX_JOIN_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Our id is not changed more often, whatever is said of our address.
pub(super) const MOVE_EVERY: Duration = Duration::from_secs(10 * 60);

/// What belongs to one family.
#[derive(Clone, Debug)]
pub(super) struct Net {
    pub id: Id,
    pub table: Table,
    pub peers: PeerStore,
    pub voter: Voter,
    /// Queries to seeds on their way.
    pub seeding: usize,
    /// The search for our neighbours.
    pub joining: Option<u64>,
    pub has_joined: bool,
    /// When they are looked for next; `None` until somebody has answered.
    pub join_at: Option<Moment>,
    /// Searches in a row that found too few.
    lonely: u32,
    /// Searches that found enough, since we are where we are.
    pub joined: u32,
    pub moved_at: Option<Moment>,
    /// When the table may ask the next contact.
    pub table_at: Moment,
}

impl Net {
    pub(super) fn new(id: Id, rules: Rules) -> Self {
        Net {
            id,
            table: Table::new(id, rules),
            peers: PeerStore::default(),
            voter: Voter::default(),
            seeding: 0,
            joining: None,
            has_joined: false,
            join_at: None,
            lonely: 0,
            joined: 0,
            moved_at: None,
            table_at: Moment::NEVER,
        }
    }

    pub(super) fn status(&self) -> Status {
        Status {
            id: self.id,
            contacts: self.table.len(),
            has_joined: self.has_joined,
        }
    }

    pub(super) fn worth_saving(&self) -> impl Iterator<Item = SocketAddr> {
        let contacts = self.table.contacts().map(|contact| contact.address);
        contacts.take(WORTH_SAVING)
    }

    /// Something about the table changed that may need to be asked about.
    pub(super) fn look_soon(&mut self, now: Moment) {
        self.table_at = self.table_at.min(now + TABLE_PACE);
    }

    /// The search for our neighbours is over.
    pub(super) fn end_join(&mut self, now: Moment) {
        self.joining = None;
        self.has_joined |= self.table.len() > 0;
        let pause = if self.table.len() >= BUCKET {
            let pause = FIRST_JOIN_PAUSE * 2_u32.saturating_pow(self.joined.min(8));
            (self.lonely, self.joined) = (0, self.joined.saturating_add(1));
            pause.min(MAX_JOIN_PAUSE)
        } else {
            let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.lonely.min(8));
            self.lonely += 1;
            pause.min(MAX_PAUSE)
        };
        self.join_at = Some(now + pause);
        self.look_soon(now);
    }

    /// Whether a search for our neighbours can begin: whoever answers first may be a liar, who would be all that it begins
    /// with, so that it waits for all that are asked to begin with.
    pub(super) fn may_join(&self, seeds_wait: bool) -> bool {
        self.joining.is_none() && self.seeding == 0 && !seeds_wait
    }

    /// When there is something to do; the table has to wait where nothing may be asked.
    pub(super) fn deadline(&self, may_ask: bool, seeds_wait: bool) -> Moment {
        let join = self.join_at.filter(|_| self.may_join(seeds_wait));
        let table = if may_ask {
            self.table_at
        } else {
            Moment::NEVER
        };
        join.unwrap_or(Moment::NEVER).min(table)
    }
}
