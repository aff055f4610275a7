//! What a node has read from the revocation log, and which cached sessions it may serve by
//! that.

use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::{Incarnation, MonotonicInstant, ReadVersion, Snapshot};
use crate::ids::{SessionId, UserId};

/// Whose sessions a revocation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One session.
    Session(SessionId),
    /// Some or all of a user's.
    User(UserId),
    /// Some or all of all users'.
    AllUsers,
}

/// A row of the revocation log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevocationEntry {
    /// The id of the transaction that revoked.
    pub sequence: u64,
    /// Whose sessions it is about.
    pub scope: Scope,
}

/// A page of the log, as one poll read it.
///
/// Where one page is not enough, the next poll goes on where this one ended. What is committed
/// meanwhile may lie before that place, so a row of pages is as complete as the snapshot of its
/// first page says, and no more; each page names that snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogPage {
    /// Which database the page is of.
    pub incarnation: Incarnation,
    /// The entries: those that the snapshot before did not see, in any order.
    pub entries: Vec<RevocationEntry>,
    /// What a node has seen once it has merged the last page of the row. Exact, however many
    /// transactions are in progress.
    pub snapshot: Snapshot,
    /// Whether this is the last page of the row.
    pub is_last: bool,
    /// `Some`: the page does not go on from where the node was, because it is the node's first, of
    /// another incarnation, or because the log was pruned meanwhile. Entries that this snapshot
    /// sees may be missing from it and from all that follow.
    pub starts_over: Option<Snapshot>,
}

/// Why a cached session must not be served. The store decides then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The node's last poll is too long ago.
    PollTooOld,
    /// It was read in another database, or in another life of this one.
    OtherIncarnation,
    /// It was read before the oldest entry that the node still has.
    BelowHorizon,
    /// It may have been revoked since it was read.
    Revoked,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 4] =
        [Self::PollTooOld, Self::OtherIncarnation, Self::BelowHorizon, Self::Revoked];

    /// Returns the label of the metric.
    pub fn reason(self) -> &'static str {
        match self {
            Self::PollTooOld => "poll_too_old",
            Self::OtherIncarnation => "other_incarnation",
            Self::BelowHorizon => "below_horizon",
            Self::Revoked => "revoked",
        }
    }
}

/// What merging a page did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The map was emptied first: nothing that was cached in another incarnation, or before what
    /// the log still has, is served.
    pub is_reset: bool,
    /// There was an entry that the map did not have.
    pub has_news: bool,
    /// The row of pages is complete, and cached sessions may be served again.
    pub is_complete: bool,
    /// The map was full: nothing that was read before this page is served.
    pub has_overflowed: bool,
    /// The store counts from lower numbers than before in the same life, as a copy of its files
    /// does. Numbers mean nothing any more: a new life has to begin.
    pub went_back: bool,
}

/// What a node has read from the revocation log. The entries and the time until which they
/// are recent enough are one value, so that a check sees both as they were together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationMap {
    /// `None` before the first poll.
    log: Option<Log>,
    fresh_until: MonotonicInstant,
    /// An incarnation whose numbers went back. It is not valid any more.
    rewound: Option<Incarnation>,
    /// Sessions that this node is about to revoke, by how many commands.
    fenced: HashMap<Scope, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    incarnation: Incarnation,
    /// Entries that this snapshot sees may be missing. What had not seen all of them is not served.
    horizon: Snapshot,
    /// What the last complete row of pages had seen.
    seen: Snapshot,
    sessions: HashMap<SessionId, Newest>,
    users: HashMap<UserId, Newest>,
    all_users: Option<Newest>,
    /// Every entry above, oldest first, to be dropped once the horizon sees it. An item whose scope
    /// has a newer entry is void.
    order: VecDeque<(Scope, Newest)>,
    /// Snapshots that will be the horizon when they are old enough, one per minute.
    notes: VecDeque<(MonotonicInstant, Snapshot)>,
    /// The number of the present row of pages.
    row: u64,
}

/// The newest entries about one scope.
///
/// Snapshots of one database contain one another. So a read that saw an entry of one row of pages
/// has seen all entries of the rows before, and only the newest row counts. Within a row the order
/// of commits is unknown: there a read must have seen all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Newest {
    row: u64,
    oldest: u64,
    newest: u64,
}

impl RevocationMap {
    /// Entries that a map holds at most. With more it trusts nothing that was read before its last
    /// poll.
    pub const MAX_ENTRIES: usize = 1_000_000;
    /// Scopes that are fenced one by one, at most. Beyond that, all users are fenced.
    pub const MAX_FENCES: usize = 100_000;
    /// How long an entry is kept. No cached session is older: it lives for a minute in the near
    /// cache after at most ten in the shared one.
    pub const HORIZON_AGE: Duration = Duration::from_secs(12 * 60);
    /// How often the present snapshot is noted, to be the horizon later.
    const NOTE_INTERVAL: Duration = Duration::from_secs(60);
    /// Entries that one poll drops at most, so that readers do not wait for it.
    const MAX_DROPS: usize = 2_000;

    /// Returns the incarnation that the entries are of.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.log.as_ref().map(|log| log.incarnation)
    }

    /// Returns the time from which on no cached session is served, unless another poll is merged
    /// before.
    pub fn fresh_until(&self) -> MonotonicInstant {
        self.fresh_until
    }

    /// Returns for how many sessions and users there are entries.
    pub fn len(&self) -> usize {
        self.log.as_ref().map_or(0, |log| {
            log.sessions.len() + log.users.len() + usize::from(log.all_users.is_some())
        })
    }

    /// Returns whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether a cached session that was read with this version may be served at `now`, as
    /// far as revocations go. Whether it has expired is another matter
    /// ([`Session::is_live`](crate::Session::is_live)).
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check(
        &self,
        id: SessionId,
        user_id: UserId,
        version: &ReadVersion,
        now: MonotonicInstant,
    ) -> Result<(), Refusal> {
        // At `fresh_until` it is too late already: an acknowledgement is given right after it.
        let Some(log) = self.log.as_ref().filter(|_| now < self.fresh_until) else {
            return Err(Refusal::PollTooOld);
        };
        if version.incarnation != log.incarnation {
            return Err(Refusal::OtherIncarnation);
        }
        let snapshot = &version.snapshot;
        if !snapshot.covers(&log.horizon) {
            return Err(Refusal::BelowHorizon);
        }
        let is_fenced = !self.fenced.is_empty()
            && [Scope::AllUsers, Scope::Session(id), Scope::User(user_id)]
                .iter()
                .any(|scope| self.fenced.contains_key(scope));
        let newest = [log.all_users.as_ref(), log.sessions.get(&id), log.users.get(&user_id)];
        let is_unseen = |entry: &Newest| !snapshot.sees_all(entry.oldest, entry.newest);
        if is_fenced || newest.into_iter().flatten().any(is_unseen) {
            return Err(Refusal::Revoked);
        }
        Ok(())
    }

    /// Merges a page. `sent` is the time before the poll of the **first** page of its row was
    /// sent, not the one at which it got a response.
    pub fn apply(
        &mut self,
        page: &LogPage,
        sent: MonotonicInstant,
        max_staleness: Duration,
    ) -> Applied {
        let is_rewound = |log: &Log| {
            log.incarnation == page.incarnation && page.snapshot.xmin() < log.seen.xmin()
        };
        if self.rewound == Some(page.incarnation) || self.log.as_ref().is_some_and(is_rewound) {
            self.reset();
            self.rewound = Some(page.incarnation);
            return Applied { is_reset: true, went_back: true, ..Applied::default() };
        }
        let mut applied = Applied { is_complete: page.is_last, ..Applied::default() };
        let goes_on =
            |log: &&mut Log| page.starts_over.is_none() && page.incarnation == log.incarnation;
        let log = match self.log.as_mut().filter(goes_on) {
            Some(log) => log,
            None => {
                applied.is_reset = true;
                self.rewound = None;
                // What a page leaves out that goes on from another place is unknown: it is all
                // taken for missing.
                let horizon = page.starts_over.clone().unwrap_or_else(|| page.snapshot.clone());
                self.log.insert(Log::new(page.incarnation, horizon))
            }
        };
        for entry in &page.entries {
            applied.has_news |= log.insert(*entry);
        }
        if log.order.len() > Self::MAX_ENTRIES {
            log.overflow(&page.snapshot);
            applied.has_overflowed = true;
        }
        if !page.is_last {
            self.fresh_until = MonotonicInstant::default();
            return applied;
        }
        log.complete(&page.snapshot, sent);
        self.fresh_until = sent.saturating_add(max_staleness);
        applied
    }

    /// Drops everything: no cached session is served before the next poll.
    pub fn reset(&mut self) {
        self.log = None;
        self.fresh_until = MonotonicInstant::default();
    }

    /// Fences sessions that this node is about to revoke: from now on none of them is served.
    /// Returns the scope that is to be [released](Self::release), which is all users beyond
    /// [`MAX_FENCES`](Self::MAX_FENCES).
    #[must_use]
    pub fn fence(&mut self, scope: Scope) -> Scope {
        let has_room = self.fenced.len() < Self::MAX_FENCES || self.fenced.contains_key(&scope);
        let scope = if has_room { scope } else { Scope::AllUsers };
        *self.fenced.entry(scope).or_default() += 1;
        scope
    }

    /// Takes a fence away: nothing was written, or a poll that was sent after the commit has been
    /// merged.
    pub fn release(&mut self, scope: Scope) {
        if let Some(count) = self.fenced.get_mut(&scope) {
            *count -= 1;
            if *count == 0 {
                self.fenced.remove(&scope);
            }
        }
    }
}

impl Log {
    fn new(incarnation: Incarnation, horizon: Snapshot) -> Self {
        Self {
            incarnation,
            horizon,
            seen: Snapshot::default(),
            sessions: HashMap::new(),
            users: HashMap::new(),
            all_users: None,
            order: VecDeque::new(),
            notes: VecDeque::new(),
            row: 0,
        }
    }

    /// Returns whether the entry is new.
    fn insert(&mut self, entry: RevocationEntry) -> bool {
        let sequence = entry.sequence;
        let mut newest = Newest { row: self.row, oldest: sequence, newest: sequence };
        let is_same = |known: &Newest| (known.oldest, known.newest) == (sequence, sequence);
        let known = match entry.scope {
            Scope::Session(id) => self.sessions.insert(id, newest),
            Scope::User(id) => self.users.insert(id, newest),
            Scope::AllUsers => self.all_users.replace(newest),
        };
        if known.as_ref().is_some_and(is_same) {
            // It is in the order already.
            return false;
        }
        if let Some(known) = known.filter(|known| known.row == self.row) {
            newest.oldest = newest.oldest.min(known.oldest);
            newest.newest = newest.newest.max(known.newest);
            match entry.scope {
                Scope::Session(id) => self.sessions.insert(id, newest),
                Scope::User(id) => self.users.insert(id, newest),
                Scope::AllUsers => self.all_users.replace(newest),
            };
        }
        self.order.push_back((entry.scope, newest));
        known.is_none_or(|known| !(known.oldest..=known.newest).contains(&sequence))
    }

    /// Returns whether the scope still has this entry.
    fn has(&self, scope: Scope, entry: Newest) -> bool {
        let newest = match scope {
            Scope::Session(id) => self.sessions.get(&id).copied(),
            Scope::User(id) => self.users.get(&id).copied(),
            Scope::AllUsers => self.all_users,
        };
        newest.is_some_and(|newest| (newest.oldest, newest.newest) == (entry.oldest, entry.newest))
    }

    fn overflow(&mut self, snapshot: &Snapshot) {
        self.horizon = snapshot.clone();
        let is_unseen = |entry: &Newest| !snapshot.sees_all(entry.oldest, entry.newest);
        self.sessions.retain(|_, entry| is_unseen(entry));
        self.users.retain(|_, entry| is_unseen(entry));
        self.all_users = self.all_users.filter(is_unseen);
        self.order.retain(|(_, entry)| is_unseen(entry));
        self.notes = VecDeque::new();
    }

    /// A row of pages has been merged, whose first poll was sent at `sent` and saw this snapshot.
    fn complete(&mut self, snapshot: &Snapshot, sent: MonotonicInstant) {
        self.row += 1;
        self.seen = snapshot.clone();
        let is_due = |(noted, _): &(MonotonicInstant, Snapshot)| {
            sent >= noted.saturating_add(RevocationMap::NOTE_INTERVAL)
        };
        if self.notes.back().is_none_or(is_due) {
            self.notes.push_back((sent, snapshot.clone()));
        }
        let is_old = |(noted, _): &(MonotonicInstant, Snapshot)| {
            sent >= noted.saturating_add(RevocationMap::HORIZON_AGE)
        };
        while let Some((_, old)) = self.notes.pop_front_if(|note| is_old(note)) {
            self.horizon = old;
        }
        for _ in 0..RevocationMap::MAX_DROPS {
            let Some((scope, entry)) = self.order.front().copied() else { break };
            if self.has(scope, entry) {
                if !self.horizon.sees_all(entry.oldest, entry.newest) {
                    break;
                }
                match scope {
                    Scope::Session(id) => drop(self.sessions.remove(&id)),
                    Scope::User(id) => drop(self.users.remove(&id)),
                    Scope::AllUsers => self.all_users = None,
                }
            }
            self.order.pop_front();
        }
    }
}

/// For the model of the protocol, which distinguishes states by their hash: what decides whether a
/// session is servable. When entries are to be dropped is left out, and maps, which have no order,
/// are hashed sorted.
impl Hash for RevocationMap {
    fn hash<H: Hasher>(&self, state: &mut H) {
        fn sorted<K: Ord + Copy>(map: &HashMap<K, Newest>) -> Vec<(K, u64, u64)> {
            let mut entries: Vec<_> =
                map.iter().map(|(key, entry)| (*key, entry.oldest, entry.newest)).collect();
            entries.sort_unstable();
            entries
        }
        let mut fenced: Vec<_> = self.fenced.keys().collect();
        fenced.sort_unstable();
        (self.fresh_until, self.rewound, fenced).hash(state);
        if let Some(log) = &self.log {
            let all_users = log.all_users.map(|entry| (entry.oldest, entry.newest));
            (log.incarnation, &log.horizon, &log.seen, all_users).hash(state);
            (sorted(&log.sessions), sorted(&log.users)).hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const MAX_STALENESS: Duration = Duration::from_millis(500);
    const HERE: Incarnation = Incarnation { system: 7, database: 5, life: 1 };
    const SESSION: SessionId = SessionId(Uuid::from_u128(1));
    const USER: UserId = UserId(Uuid::from_u128(0xa));

    fn ms(millis: u64) -> MonotonicInstant {
        MonotonicInstant(Duration::from_millis(millis))
    }

    fn session(n: u128) -> Scope {
        Scope::Session(SessionId(Uuid::from_u128(n)))
    }

    fn page(snapshot: Snapshot, entries: &[(u64, Scope)]) -> LogPage {
        let entries = entries
            .iter()
            .map(|(sequence, scope)| RevocationEntry { sequence: *sequence, scope: *scope });
        LogPage {
            incarnation: HERE,
            entries: entries.collect(),
            snapshot,
            is_last: true,
            starts_over: None,
        }
    }

    fn below(xmax: u64, entries: &[(u64, Scope)]) -> LogPage {
        page(Snapshot::below(xmax), entries)
    }

    /// A map that has polled at time 0, when everything below 10 was committed.
    fn map() -> RevocationMap {
        let mut map = RevocationMap::default();
        let first = LogPage { starts_over: Some(Snapshot::below(10)), ..below(10, &[]) };
        let applied = map.apply(&first, ms(0), MAX_STALENESS);
        assert_eq!(applied, Applied { is_reset: true, is_complete: true, ..Applied::default() });
        map
    }

    fn apply(map: &mut RevocationMap, page: &LogPage) -> Applied {
        map.apply(page, ms(0), MAX_STALENESS)
    }

    /// The verdict on a session of `USER` that was read with this snapshot.
    fn check(map: &RevocationMap, snapshot: Snapshot) -> Result<(), Refusal> {
        map.check(SESSION, USER, &ReadVersion { incarnation: HERE, snapshot }, ms(1))
    }

    fn at(map: &RevocationMap, millis: u64) -> Result<(), Refusal> {
        map.check(
            SESSION,
            USER,
            &ReadVersion { incarnation: HERE, snapshot: Snapshot::below(10) },
            ms(millis),
        )
    }

    #[test]
    fn nothing_is_served_before_the_first_poll_nor_max_staleness_after_the_last_was_sent() {
        assert_eq!(at(&RevocationMap::default(), 0), Err(Refusal::PollTooOld));
        let mut map = map();
        assert_eq!(
            (at(&map, 0), at(&map, 499), at(&map, 500)),
            (Ok(()), Ok(()), Err(Refusal::PollTooOld))
        );
        // Sent at 400; when the response came does not matter.
        map.apply(&below(10, &[]), ms(400), MAX_STALENESS);
        assert_eq!((at(&map, 899), at(&map, 900)), (Ok(()), Err(Refusal::PollTooOld)));
        assert_eq!(map.fresh_until(), ms(900));
        map.reset();
        assert_eq!(
            (at(&map, 0), map.fresh_until(), map.incarnation()),
            (Err(Refusal::PollTooOld), ms(0), None)
        );
    }

    #[test]
    fn session_of_another_incarnation_is_refused() {
        let map = map();
        assert_eq!(map.incarnation(), Some(HERE));
        for incarnation in [
            Incarnation { life: 2, ..HERE },
            Incarnation { database: 6, ..HERE },
            Incarnation { system: 8, ..HERE },
        ] {
            let version = ReadVersion { incarnation, snapshot: Snapshot::below(1000) };
            assert_eq!(map.check(SESSION, USER, &version, ms(1)), Err(Refusal::OtherIncarnation));
        }
    }

    #[test]
    fn session_that_was_read_before_the_horizon_is_refused() {
        let map = map();
        assert_eq!(check(&map, Snapshot::below(9)), Err(Refusal::BelowHorizon));
        assert_eq!(check(&map, Snapshot::new(20, [9])), Err(Refusal::BelowHorizon));
        assert_eq!(check(&map, Snapshot::new(20, [10])), Ok(()));
    }

    #[test]
    fn revocation_refuses_reads_that_had_not_seen_it_and_no_others() {
        let other_session = SessionId(Uuid::from_u128(2));
        let other_user = UserId(Uuid::from_u128(0xb));
        for (scope, is_about_other_session, is_about_other_user) in [
            (Scope::Session(SESSION), false, false),
            (Scope::User(USER), true, false),
            (Scope::AllUsers, true, true),
        ] {
            let mut map = map();
            let applied = apply(&mut map, &below(15, &[(12, scope)]));
            assert_eq!(
                applied,
                Applied { has_news: true, is_complete: true, ..Applied::default() }
            );
            assert_eq!(map.len(), 1);
            for unseen in [Snapshot::below(12), Snapshot::new(15, [12])] {
                assert_eq!(check(&map, unseen.clone()), Err(Refusal::Revoked));
                let version = ReadVersion { incarnation: HERE, snapshot: unseen };
                let other = map.check(other_session, USER, &version, ms(1));
                assert_eq!(other.is_err(), is_about_other_session);
                let other = map.check(other_session, other_user, &version, ms(1));
                assert_eq!(other.is_err(), is_about_other_user);
            }
            // A transaction that stays open, wherever, does not matter to a read that has seen the
            // revocation.
            for seen in [Snapshot::below(13), Snapshot::new(20, [10, 11, 13])] {
                assert_eq!(check(&map, seen), Ok(()));
            }
            assert!(!apply(&mut map, &below(15, &[(12, scope)])).has_news);
        }
    }

    /// Transactions commit in another order than they began: the entry that comes later may have
    /// the lower number.
    #[test]
    fn later_entry_with_a_lower_number_refuses_a_read_that_saw_the_earlier_one() {
        for scope in [Scope::Session(SESSION), Scope::User(USER), Scope::AllUsers] {
            let mut map = map();
            apply(&mut map, &page(Snapshot::new(13, [11]), &[(12, scope)]));
            assert_eq!(check(&map, Snapshot::new(13, [11])), Ok(()));
            assert!(apply(&mut map, &below(14, &[(11, scope)])).has_news);
            assert_eq!(check(&map, Snapshot::new(13, [11])), Err(Refusal::Revoked));
            assert_eq!(check(&map, Snapshot::below(14)), Ok(()));
            // In one page, where the order is unknown, both count; and so in the pages of one row.
            let mut map = self::map();
            apply(&mut map, &below(14, &[(11, scope), (12, scope)]));
            assert_eq!(check(&map, Snapshot::new(13, [11])), Err(Refusal::Revoked));
            let mut map = self::map();
            apply(&mut map, &LogPage { is_last: false, ..below(14, &[(12, scope)]) });
            apply(&mut map, &below(14, &[(11, scope)]));
            for (unseen, seen) in [
                (Snapshot::new(13, [11]), false),
                (Snapshot::below(12), false),
                (Snapshot::below(13), true),
            ] {
                assert_eq!(check(&map, unseen).is_ok(), seen);
            }
        }
    }

    #[test]
    fn fenced_session_is_refused_until_every_fence_is_released() {
        for scope in [Scope::Session(SESSION), Scope::User(USER), Scope::AllUsers] {
            let mut map = map();
            assert_eq!((map.fence(scope), map.fence(scope)), (scope, scope));
            map.release(scope);
            assert_eq!(check(&map, Snapshot::below(1000)), Err(Refusal::Revoked));
            map.release(scope);
            assert_eq!(check(&map, Snapshot::below(1000)), Ok(()));
            map.release(scope);
            assert!(map.fenced.is_empty());
        }
        let mut map = map();
        let _ = map.fence(session(2));
        assert_eq!(check(&map, Snapshot::below(1000)), Ok(()));
    }

    /// The scope that was fenced is the one that is released, so that nothing stays fenced for
    /// ever.
    #[test]
    fn fences_beyond_the_bound_are_about_all_users_and_are_released_all_the_same() {
        let mut map = map();
        let scopes: Vec<_> =
            (0..RevocationMap::MAX_FENCES as u128 + 5).map(|n| session(n << 64)).collect();
        let fenced: Vec<_> = scopes.iter().map(|scope| map.fence(*scope)).collect();
        assert_eq!(fenced.iter().filter(|scope| **scope == Scope::AllUsers).count(), 5);
        assert_eq!(
            map.fence(scopes[0]),
            scopes[0],
            "one more of a scope that is fenced takes no room"
        );
        map.release(scopes[0]);
        assert_eq!(check(&map, Snapshot::below(1000)), Err(Refusal::Revoked));
        fenced.into_iter().for_each(|scope| map.release(scope));
        assert_eq!(check(&map, Snapshot::below(1000)), Ok(()));
    }

    #[test]
    fn page_of_another_incarnation_or_that_starts_over_resets_the_map() {
        let elsewhere = Incarnation { life: 2, ..HERE };
        for (incarnation, starts_over, horizon) in [
            (elsewhere, Some(Snapshot::below(5)), 5),
            (HERE, Some(Snapshot::below(12)), 12),
            // It should say that it starts over. It does not, so all that it may leave out counts
            // as missing.
            (elsewhere, None, 20),
        ] {
            let mut map = map();
            apply(&mut map, &below(11, &[(10, Scope::User(USER))]));
            let other = LogPage { incarnation, starts_over, ..below(20, &[(15, session(2))]) };
            let applied = apply(&mut map, &other);
            assert_eq!(
                applied,
                Applied { is_reset: true, has_news: true, is_complete: true, ..Applied::default() }
            );
            // What the horizon sees is dropped.
            assert_eq!(
                (map.len(), map.incarnation()),
                (usize::from(horizon <= 15), Some(incarnation))
            );
            let check = |xmax| {
                let version = ReadVersion { incarnation, snapshot: Snapshot::below(xmax) };
                map.check(SESSION, USER, &version, ms(1))
            };
            assert_eq!((check(horizon - 1), check(horizon)), (Err(Refusal::BelowHorizon), Ok(())));
        }
    }

    /// The files of the database were put back, in a way that did not begin a new life.
    #[test]
    fn life_whose_numbers_went_back_is_not_valid_any_more() {
        let mut map = map();
        for starts_over in [None, Some(Snapshot::below(3)), None] {
            let back = LogPage { starts_over, ..below(9, &[]) };
            let applied = apply(&mut map, &back);
            assert_eq!(applied, Applied { is_reset: true, went_back: true, ..Applied::default() });
            assert_eq!(check(&map, Snapshot::below(1000)), Err(Refusal::PollTooOld));
        }
        assert!(
            apply(&mut map, &below(1000, &[])).went_back,
            "numbers that are high again are no better"
        );
        let elsewhere = LogPage { incarnation: Incarnation { life: 2, ..HERE }, ..below(9, &[]) };
        assert_eq!(
            apply(&mut map, &elsewhere),
            Applied { is_reset: true, is_complete: true, ..Applied::default() }
        );
        // A transaction that is still open is no step back.
        let mut map = self::map();
        apply(&mut map, &page(Snapshot::new(20, [10]), &[]));
        assert!(!apply(&mut map, &page(Snapshot::new(18, [10]), &[])).went_back);
    }

    #[test]
    fn nothing_is_served_between_the_pages_of_one_row_and_each_is_merged() {
        let mut map = map();
        let half = LogPage { is_last: false, ..below(50, &[(12, session(2))]) };
        assert_eq!(apply(&mut map, &half), Applied { has_news: true, ..Applied::default() });
        assert_eq!(check(&map, Snapshot::below(1000)), Err(Refusal::PollTooOld));
        apply(&mut map, &below(50, &[(13, Scope::Session(SESSION))]));
        assert_eq!(
            (map.len(), check(&map, Snapshot::below(13)), check(&map, Snapshot::below(14))),
            (2, Err(Refusal::Revoked), Ok(()))
        );
    }

    /// Polls once a second for so many minutes, with an entry each, and returns the size of the
    /// map.
    fn poll_for(map: &mut RevocationMap, from: u64, minutes: u64) -> usize {
        for second in from..from + minutes * 60 {
            let entry = (10 + second, session(u128::from(second) << 64));
            map.apply(&below(11 + second, &[entry]), ms(second * 1000), MAX_STALENESS);
        }
        map.len()
    }

    #[test]
    fn entries_are_dropped_and_older_reads_refused_after_twelve_minutes() {
        let mut map = map();
        assert_eq!(poll_for(&mut map, 0, 12), 12 * 60);
        let size = poll_for(&mut map, 12 * 60, 60);
        assert!((12 * 60..=13 * 60 + 1).contains(&size), "{size}");
        let last = 72 * 60 - 1;
        let check = |minutes_ago: u64| {
            let version = ReadVersion {
                incarnation: HERE,
                snapshot: Snapshot::below(11 + last - minutes_ago * 60),
            };
            map.check(SESSION, USER, &version, ms(last * 1000))
        };
        assert_eq!((check(0), check(11)), (Ok(()), Ok(())));
        assert_eq!(check(13), Err(Refusal::BelowHorizon));
        let log = map.log.as_ref().unwrap();
        assert!(log.order.len() <= 13 * 60 + 1 && log.notes.len() <= 13);
    }

    /// A transaction that is open for an hour does not move the horizon past what is read
    /// meanwhile.
    #[test]
    fn open_transaction_neither_keeps_entries_nor_refuses_reads() {
        let mut map = map();
        for second in 0..3600 {
            let snapshot = Snapshot::new(12 + second, [10]);
            map.apply(
                &page(snapshot, &[(11 + second, session(u128::from(second) << 64))]),
                ms(second * 1000),
                MAX_STALENESS,
            );
        }
        assert!(map.len() <= 13 * 60 + 1, "{}", map.len());
        let version = ReadVersion { incarnation: HERE, snapshot: Snapshot::new(3600, [10]) };
        assert_eq!(map.check(SESSION, USER, &version, ms(3_599_000)), Ok(()));
    }

    /// A newer entry about the same scope outlives the older one, whose item in the order is void.
    #[test]
    fn newer_entry_about_a_scope_is_not_dropped_with_the_older_one() {
        let mut map = map();
        for minute in 0..=13 {
            let entries: &[_] =
                if minute == 0 || minute == 11 { &[(10 + minute, Scope::User(USER))] } else { &[] };
            map.apply(&below(11 + minute, entries), ms(minute * 60_000), MAX_STALENESS);
        }
        assert_eq!(map.len(), 1);
        let version = ReadVersion { incarnation: HERE, snapshot: Snapshot::below(21) };
        assert_eq!(map.check(SESSION, USER, &version, ms(780_001)), Err(Refusal::Revoked));
    }

    /// Only the entries of the newest row of pages count: what is open between two of them does not
    /// matter.
    #[test]
    fn newer_entry_about_a_scope_takes_the_place_of_the_older_one() {
        let mut map = map();
        apply(&mut map, &below(13, &[(12, Scope::User(USER))]));
        apply(&mut map, &page(Snapshot::new(21, [15]), &[(20, Scope::User(USER))]));
        assert_eq!(check(&map, Snapshot::new(25, [15])), Ok(()));
        assert_eq!(check(&map, Snapshot::new(25, [20])), Err(Refusal::Revoked));
    }

    #[test]
    fn maps_that_differ_in_what_is_servable_have_different_hashes() {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash =
            |map: &RevocationMap| BuildHasherDefault::<DefaultHasher>::default().hash_one(map);
        let mut hashes = vec![hash(&RevocationMap::default()), hash(&map())];
        for scope in [session(1), session(2), Scope::User(USER), Scope::AllUsers] {
            let mut revoked = map();
            let mut fenced = map();
            let mut both = [map(), map()];
            apply(&mut revoked, &below(11, &[(10, scope)]));
            let _ = fenced.fence(scope);
            hashes.extend([hash(&revoked), hash(&fenced)]);
            let entries = [(10, scope), (11, session(7))];
            apply(&mut both[0], &below(12, &entries));
            apply(&mut both[1], &below(12, &[entries[1], entries[0]]));
            assert_eq!(hash(&both[0]), hash(&both[1]), "the order of the entries does not matter");
        }
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }

    #[test]
    fn reasons_of_refusals_are_the_labels_of_the_metric() {
        let reasons = Refusal::ALL.map(Refusal::reason);
        assert_eq!(reasons, ["poll_too_old", "other_incarnation", "below_horizon", "revoked"]);
        assert!(Refusal::ALL.iter().enumerate().all(|(index, refusal)| *refusal as usize == index));
    }

    #[test]
    fn full_map_trusts_nothing_that_was_read_before_its_last_poll() {
        let mut map = map();
        let entries: Vec<_> =
            (0..RevocationMap::MAX_ENTRIES).map(|n| (12, session(n as u128 + 100))).collect();
        assert!(!apply(&mut map, &below(15, &entries)).has_overflowed && !map.is_empty());
        let applied = apply(&mut map, &below(15, &[(13, session(1))]));
        assert!(applied.has_overflowed && applied.is_complete && map.is_empty());
        assert_eq!(check(&map, Snapshot::below(14)), Err(Refusal::BelowHorizon));
        assert_eq!(check(&map, Snapshot::below(15)), Ok(()));
        assert!(!apply(&mut map, &below(16, &[(15, session(1))])).has_overflowed);
    }

    /// With more transactions in progress than a limited snapshot names, and with entries that the
    /// row's first page had not seen.
    #[test]
    fn full_map_keeps_what_its_horizon_has_not_seen() {
        let mut map = map();
        let many_open = Snapshot::new(5000, 100..150);
        let version = many_open.clone().limited();
        apply(&mut map, &page(Snapshot::new(5001, 100..150), &[(4999, Scope::Session(SESSION))]));
        assert_eq!(check(&map, version.clone()), Err(Refusal::Revoked));
        let entries: Vec<_> =
            (0..=RevocationMap::MAX_ENTRIES).map(|n| (4000, session(n as u128 + 100))).collect();
        let late = (5001, Scope::User(USER));
        let full = page(Snapshot::new(5001, 100..150), &[&entries[..], &[late]].concat());
        assert!(apply(&mut map, &full).has_overflowed);
        assert!(check(&map, version).is_err(), "it was revoked, though entries were dropped");
        assert_eq!(map.len(), 1);
        assert_eq!(
            check(&map, Snapshot::new(5001, 100..150)),
            Err(Refusal::Revoked),
            "what the page had not seen"
        );
        assert_eq!(check(&map, Snapshot::new(5002, 100..150)), Ok(()));
    }

    /// Rows that a restore brought from a server with higher numbers are returned by every poll.
    #[test]
    fn entry_that_is_returned_again_and_again_takes_no_more_room() {
        let mut map = map();
        for poll in 0..10 {
            let applied =
                apply(&mut map, &below(20, &[(4_000_000, session(1)), (12, Scope::User(USER))]));
            assert_eq!(applied.has_news, poll == 0);
        }
        assert_eq!(map.log.as_ref().unwrap().order.len(), 2);
        assert_eq!(check(&map, Snapshot::below(12)), Err(Refusal::Revoked));
    }
}
