//! What makes the end of a session final on every node: when an answer that was remembered may be given, and when an end may be
//! acknowledged.
//!
//! Pure rules, with no clock and no I/O of their own. A store counts its changes; a remembered session says up to which count its
//! read had seen everything ([`ReadStamp`]); a node follows the changes that end sessions ([`RevocationMap`]), and gives an
//! answer that was remembered only as long as it has looked recently enough.
//!
//! Why an acknowledged end is final: a node that answers from memory at some moment has begun a look at the changes less than
//! delta before it. The acknowledgement waits for longer than delta after the commit. So whoever asks after the
//! acknowledgement is answered from memory only by a node that looked after the commit, and has seen it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Session, SessionId, UserId};

/// A moment of a process's monotonic clock, as the time since an origin of its own. Never compared between processes: the rules
/// use rates only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// The moment this long after.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Which history of which database: counts of one mean nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The database.
    pub system: u64,
    /// Its history: another one after whatever may have numbers used again, such as a crash, a promotion, a restore.
    pub timeline: u32,
}

/// How much of a store's history a read had seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadStamp {
    /// Which history.
    pub incarnation: Incarnation,
    /// Every change with a smaller number was over, and was seen. (On PostgreSQL: the snapshot's `xmin`.)
    pub seen_below: u64,
}

/// When a session was read; absent if that is not known. All stamps are equal: this says how a session came to be known, not what
/// it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamp(pub Option<ReadStamp>);

impl PartialEq for Stamp {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Stamp {}

/// What a change that ends sessions is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One session.
    Session(SessionId),
    /// Some or all of a user's.
    User(UserId),
    /// Anybody's.
    Everybody,
}

/// A change that may have ended sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoggedEnd {
    /// The number of the change. (On PostgreSQL: the transaction's id.)
    pub change: u64,
    /// Whose sessions it is about.
    pub scope: Scope,
}

/// What one look at the changes found, all of it at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FeedPage {
    /// Which history.
    pub incarnation: Incarnation,
    /// The changes that were asked for.
    pub ends: Vec<LoggedEnd>,
    /// Whether that is all of them.
    pub complete: bool,
    /// Every change with a smaller number was over: the next look begins here.
    pub next: u64,
    /// Changes with smaller numbers may have been cleared away.
    pub kept_from: u64,
}

/// Why a remembered session is not to be answered. The database decides then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The last look at the changes is too long ago.
    FeedStale,
    /// Nobody knows when it was read.
    Unstamped,
    /// It was read in another history.
    OtherHistory,
    /// It was read before what this node knows of.
    TooOld,
    /// It may have been ended since.
    Ended,
}

impl Refusal {
    /// The label of the metric.
    pub fn reason(self) -> &'static str {
        match self {
            Self::FeedStale => "feed_stale",
            Self::Unstamped => "unstamped",
            Self::OtherHistory => "other_history",
            Self::TooOld => "too_old",
            Self::Ended => "ended",
        }
    }
}

/// What a node knows of the changes that end sessions. The map and the moment until which it is good are one value, so that a check
/// sees both as they were together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RevocationMap {
    /// `None`: nothing is known yet.
    known: Option<Known>,
    fresh_until: Monotonic,
    /// Ends that this node has begun, and whose number it does not know.
    begun: BTreeMap<Scope, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    incarnation: Incarnation,
    /// What was read when this was not over yet is not answered.
    floor: u64,
    /// Where the next look begins.
    next: u64,
    sessions: BTreeMap<SessionId, u64>,
    users: BTreeMap<UserId, u64>,
}

/// What became of a look at the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The map goes on.
    Merged {
        /// Whether there was anything that it did not know.
        news: bool,
    },
    /// It begins anew: whatever was remembered until now is not answered any more.
    BegunAnew,
    /// There were too many: look again from where the page says. Until then nothing that was remembered is answered.
    LookAgain,
}

/// Sessions and users that a map knows at most; beyond, it trusts nothing that was read before its last look.
const CAPACITY: usize = 100_000;

impl RevocationMap {
    /// Where the next look at the changes begins; `None`: at those that are under way.
    pub fn next(&self) -> Option<u64> {
        self.known.as_ref().map(|known| known.next)
    }

    /// The moment until which remembered sessions may be answered.
    pub fn fresh_until(&self) -> Monotonic {
        self.fresh_until
    }

    /// How many sessions and users it knows.
    pub fn len(&self) -> usize {
        self.known.as_ref().map_or(0, |known| known.sessions.len() + known.users.len())
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a remembered session may be answered at `now` as far as other people's changes go; its own time is another matter
    /// ([`Session::is_live`]).
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check(&self, session: &Session, now: Monotonic) -> Result<(), Refusal> {
        self.check_read(session.id, session.user_id, session.stamp, now)
    }

    /// The same for what is not a whole session, but was read as this one with this stamp.
    ///
    /// # Errors
    /// The [`Refusal`].
    pub fn check_read(&self, id: SessionId, user_id: UserId, stamp: Stamp, now: Monotonic) -> Result<(), Refusal> {
        // At `fresh_until` it is over, not after it.
        if now >= self.fresh_until {
            return Err(Refusal::FeedStale);
        }
        let (Some(known), Some(stamp)) = (&self.known, stamp.0) else { return Err(Refusal::Unstamped) };
        if stamp.incarnation != known.incarnation {
            return Err(Refusal::OtherHistory);
        }
        if stamp.seen_below < known.floor {
            return Err(Refusal::TooOld);
        }
        let unseen = |change: Option<&u64>| change.is_some_and(|change| *change >= stamp.seen_below);
        let begun = !self.begun.is_empty()
            && [Scope::Everybody, Scope::Session(id), Scope::User(user_id)]
                .iter()
                .any(|scope| self.begun.contains_key(scope));
        if begun || unseen(known.sessions.get(&id)) || unseen(known.users.get(&user_id)) {
            return Err(Refusal::Ended);
        }
        Ok(())
    }

    /// Merges what a look found that was **sent** at `sent` (not: answered), for this node's `delta`.
    pub fn follow(&mut self, page: &FeedPage, sent: Monotonic, delta: Duration) -> Followed {
        let goes_on = |known: &Known| {
            page.incarnation == known.incarnation && page.kept_from <= known.next && page.next >= known.next
        };
        // In another history numbers may be lower: what lies below where this look began was not asked for.
        let asked_for_all =
            self.known.as_ref().is_none_or(|known| page.incarnation == known.incarnation || page.next >= known.next);
        let followed = match &mut self.known {
            Some(known) if goes_on(known) && page.complete => Followed::Merged { news: known.merge(page) },
            // Something is missing, or another history goes on from here. What was read before this look is not trusted.
            known => {
                let went_back =
                    known.as_ref().is_some_and(|known| page.incarnation == known.incarnation && page.next < known.next);
                // Of what was cleared away nobody knows whose end it was.
                let floor = if went_back { u64::MAX } else { page.next.max(page.kept_from) };
                let mut anew = Known {
                    incarnation: page.incarnation,
                    floor,
                    next: page.next,
                    sessions: BTreeMap::new(),
                    users: BTreeMap::new(),
                };
                anew.merge(page);
                *known = Some(anew);
                Followed::BegunAnew
            }
        };
        if !page.complete || !asked_for_all {
            // The changes that are under way have to be known before anything remembered is answered.
            self.fresh_until = Monotonic::default();
            return Followed::LookAgain;
        }
        self.fresh_until = sent.after(delta);
        followed
    }

    /// Forgets everything: nothing that was remembered is answered before the next look.
    pub fn forget(&mut self) {
        self.known = None;
        self.fresh_until = Monotonic::default();
    }

    /// This node is about to end sessions: from now on it serves none of them from its caches. Returns the scope of the fence, which
    /// is what has to be [settled](Self::settle): beyond a bound, everybody.
    #[must_use]
    pub fn begin(&mut self, scope: Scope) -> Scope {
        let is_known = self.begun.contains_key(&scope);
        let scope = if is_known || self.begun.len() < CAPACITY { scope } else { Scope::Everybody };
        *self.begun.entry(scope).or_default() += 1;
        scope
    }

    /// That is settled: nothing was changed, or a look that was sent after the commit has been merged, or nothing will be acknowledged.
    pub fn settle(&mut self, scope: Scope) {
        if let Some(count) = self.begun.get_mut(&scope) {
            *count -= 1;
            if *count == 0 {
                self.begun.remove(&scope);
            }
        }
    }
}

impl Known {
    /// Answers whether there was anything new.
    fn merge(&mut self, page: &FeedPage) -> bool {
        let mut news = false;
        for end in &page.ends {
            news |= match end.scope {
                Scope::Session(id) => raise(self.sessions.entry(id).or_default(), end.change),
                Scope::User(id) => raise(self.users.entry(id).or_default(), end.change),
                Scope::Everybody => raise(&mut self.floor, end.change.saturating_add(1)),
            };
        }
        self.next = page.next;
        if self.sessions.len() + self.users.len() > CAPACITY {
            // Whoever has seen everything below `next` has seen these.
            raise(&mut self.floor, page.next);
        }
        // What the floor covers need not be known one by one.
        let floor = self.floor;
        if self.sessions.len() + self.users.len() > CAPACITY / 2 {
            self.sessions.retain(|_, change| *change >= floor);
            self.users.retain(|_, change| *change >= floor);
        }
        news
    }
}

/// Answers whether it was lower.
fn raise(value: &mut u64, to: u64) -> bool {
    let was_lower = *value < to;
    *value = (*value).max(to);
    was_lower
}

/// How much faster one clock may run than another: a thousandth.
const CLOCK_DRIFT: u32 = 1000;
/// What the operating system's timers and our own arithmetic may be off by.
const EPSILON: Duration = Duration::from_millis(2);

/// The moment at which an end may be acknowledged, whatever other nodes do, if its commit had returned at `committed` and no node's
/// delta is larger than this one.
pub fn ack_deadline(committed: Monotonic, delta: Duration) -> Monotonic {
    committed.after(delta + delta / CLOCK_DRIFT + EPSILON)
}

/// Whether that moment has come: after it, not at it.
pub fn may_acknowledge(now: Monotonic, deadline: Monotonic) -> bool {
    now > deadline
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use uuid::Uuid;

    use super::*;

    const DELTA: Duration = Duration::from_millis(500);
    const HISTORY: Incarnation = Incarnation { system: 7, timeline: 1 };

    fn ms(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn user() -> UserId {
        UserId(Uuid::from_u128(0xa))
    }

    fn session(n: u128, seen_below: u64) -> Session {
        let created_at = DateTime::UNIX_EPOCH;
        Session {
            id: SessionId(Uuid::from_u128(n)),
            user_id: user(),
            device_info: None,
            device: None,
            user_agent: None,
            ip_address: None,
            last_ip_address: None,
            location: None,
            name: None,
            created_at,
            last_activity_at: created_at,
            expires_at: created_at + TimeDelta::days(1),
            idle_timeout: None,
            renewal: None,
            metadata: None,
            idempotency_key: None,
            revocation: None,
            stamp: Stamp(Some(ReadStamp { incarnation: HISTORY, seen_below })),
        }
    }

    fn page(next: u64, ends: &[(u64, Scope)]) -> FeedPage {
        let ends = ends.iter().map(|(change, scope)| LoggedEnd { change: *change, scope: *scope }).collect();
        FeedPage { incarnation: HISTORY, ends, complete: true, next, kept_from: 0 }
    }

    /// A map that has looked at moment 0, when everything below 10 was over.
    fn map() -> RevocationMap {
        let mut map = RevocationMap::default();
        assert_eq!(map.follow(&page(10, &[]), ms(0), DELTA), Followed::BegunAnew);
        map
    }

    #[test]
    fn nothing_is_answered_before_the_first_look_nor_delta_after_the_last_was_sent() {
        assert_eq!(RevocationMap::default().check(&session(1, 10), ms(0)), Err(Refusal::FeedStale));
        let mut map = map();
        assert_eq!(map.check(&session(1, 10), ms(499)), Ok(()));
        assert_eq!(map.check(&session(1, 10), ms(500)), Err(Refusal::FeedStale));
        // Sent at 400; when the answer came is no matter.
        map.follow(&page(10, &[]), ms(400), DELTA);
        assert_eq!(map.check(&session(1, 10), ms(899)), Ok(()));
        assert_eq!(map.check(&session(1, 10), ms(900)), Err(Refusal::FeedStale));
    }

    #[test]
    fn what_was_read_before_the_node_began_or_elsewhere_is_refused() {
        let map = map();
        assert_eq!(map.check(&session(1, 9), ms(1)), Err(Refusal::TooOld));
        let unstamped = Session { stamp: Stamp(None), ..session(1, 10) };
        assert_eq!(map.check(&unstamped, ms(1)), Err(Refusal::Unstamped));
        for incarnation in [Incarnation { timeline: 2, ..HISTORY }, Incarnation { system: 8, ..HISTORY }] {
            let stamp = Stamp(Some(ReadStamp { incarnation, seen_below: 10 }));
            assert_eq!(map.check(&Session { stamp, ..session(1, 10) }, ms(1)), Err(Refusal::OtherHistory));
        }
    }

    #[test]
    fn an_end_refuses_what_had_not_seen_it_and_nothing_else() {
        let other = UserId(Uuid::from_u128(0xb));
        for (scope, covers_other_session, covers_other_user) in [
            (Scope::Session(SessionId(Uuid::from_u128(1))), false, false),
            (Scope::User(user()), true, false),
            (Scope::Everybody, true, true),
        ] {
            let mut map = map();
            assert_eq!(map.follow(&page(15, &[(12, scope)]), ms(0), DELTA), Followed::Merged { news: true });
            assert_eq!(map.follow(&page(15, &[(12, scope)]), ms(0), DELTA), Followed::Merged { news: false });
            assert!(map.check(&session(1, 12), ms(1)).is_err());
            assert_eq!(map.check(&session(1, 13), ms(1)), Ok(()));
            assert_eq!(map.check(&session(2, 12), ms(1)).is_err(), covers_other_session);
            let others = Session { user_id: other, ..session(2, 12) };
            assert_eq!(map.check(&others, ms(1)).is_err(), covers_other_user);
        }
    }

    #[test]
    fn what_this_node_is_about_to_end_is_refused_until_a_look_has_seen_it() {
        for scope in [Scope::Session(session(1, 10).id), Scope::User(user()), Scope::Everybody] {
            let mut map = map();
            assert_eq!((map.begin(scope), map.begin(scope)), (scope, scope));
            map.settle(scope);
            assert_eq!(map.check(&session(1, 1000), ms(1)), Err(Refusal::Ended));
            map.settle(scope);
            assert_eq!(map.check(&session(1, 1000), ms(1)), Ok(()));
        }
    }

    /// After a failover a look begins where the old numbers were, and the new ones may be lower.
    #[test]
    fn look_that_began_above_the_numbers_of_another_history_is_not_whole() {
        let mut map = RevocationMap::default();
        map.follow(&page(1000, &[]), ms(0), DELTA);
        let other = Incarnation { timeline: 2, ..HISTORY };
        let promoted = FeedPage { incarnation: other, ..page(900, &[]) };
        assert_eq!(map.follow(&promoted, ms(10), DELTA), Followed::LookAgain);
        assert_eq!((map.next(), map.fresh_until()), (Some(900), Monotonic::default()));
        let end = LoggedEnd { change: 905, scope: Scope::Session(session(1, 900).id) };
        let again = FeedPage { incarnation: other, ends: vec![end], ..page(906, &[]) };
        assert_eq!(map.follow(&again, ms(20), DELTA), Followed::Merged { news: true });
        let stamp = Stamp(Some(ReadStamp { incarnation: other, seen_below: 900 }));
        assert_eq!(map.check(&Session { stamp, ..session(1, 900) }, ms(21)), Err(Refusal::Ended));
    }

    /// The scope that was fenced is the one that is settled, so that nothing stays fenced for ever.
    #[test]
    fn fences_beyond_the_bound_are_of_everybody_and_end_all_the_same() {
        let mut map = map();
        let scopes = (0..CAPACITY as u128 + 5).map(|n| Scope::Session(SessionId(Uuid::from_u128(n << 64))));
        let fenced: Vec<_> = scopes.map(|scope| map.begin(scope)).collect();
        assert_eq!(fenced.iter().filter(|scope| **scope == Scope::Everybody).count(), 5);
        assert_eq!(map.check(&session(1, 1000), ms(1)), Err(Refusal::Ended));
        fenced.into_iter().for_each(|scope| map.settle(scope));
        assert_eq!(map.check(&session(1, 1000), ms(1)), Ok(()));
    }

    #[test]
    fn a_gap_another_history_or_a_step_back_begins_anew() {
        let pruned = FeedPage { kept_from: 11, ..page(20, &[]) };
        let promoted = FeedPage { incarnation: Incarnation { timeline: 2, ..HISTORY }, ..page(20, &[]) };
        for page in [pruned, promoted] {
            let mut map = map();
            assert_eq!(map.follow(&page, ms(0), DELTA), Followed::BegunAnew);
            let stamp = |seen_below| Stamp(Some(ReadStamp { incarnation: page.incarnation, seen_below }));
            assert_eq!(map.check(&Session { stamp: stamp(19), ..session(1, 0) }, ms(1)), Err(Refusal::TooOld));
            assert_eq!(map.check(&Session { stamp: stamp(20), ..session(1, 0) }, ms(1)), Ok(()));
        }
        // An open transaction holds `next` back, and what came after it is cleared away already.
        let mut behind = map();
        assert_eq!(behind.follow(&FeedPage { kept_from: 13, ..page(10, &[]) }, ms(0), DELTA), Followed::BegunAnew);
        assert_eq!(behind.check(&session(1, 12), ms(1)), Err(Refusal::TooOld));
        assert_eq!(behind.check(&session(1, 13), ms(1)), Ok(()));
        // Numbers that were used before are used again: no stamp means anything.
        let mut back = map();
        assert_eq!(back.follow(&page(5, &[]), ms(0), DELTA), Followed::BegunAnew);
        assert_eq!(back.check(&session(1, 1_000_000), ms(1)), Err(Refusal::TooOld));
    }

    #[test]
    fn a_look_that_is_not_whole_answers_nothing_until_the_next() {
        let mut map = map();
        let half = FeedPage { complete: false, ..page(50, &[(12, Scope::Session(session(1, 0).id))]) };
        assert_eq!(map.follow(&half, ms(0), DELTA), Followed::LookAgain);
        assert_eq!(map.check(&session(2, 1000), ms(0)), Err(Refusal::FeedStale));
        assert_eq!(map.next(), Some(50));
        map.follow(&page(50, &[]), ms(1), DELTA);
        assert_eq!(map.check(&session(2, 49), ms(2)), Err(Refusal::TooOld));
        assert_eq!(map.check(&session(2, 50), ms(2)), Ok(()));
    }

    #[test]
    fn a_full_map_trusts_nothing_that_was_read_before_its_last_look() {
        let mut map = map();
        let id = |n: usize| Scope::Session(SessionId(Uuid::from_u128(n as u128 + 100)));
        let ends: Vec<_> = (0..=CAPACITY).map(|n| (12, id(n))).collect();
        map.follow(&page(15, &ends), ms(0), DELTA);
        assert!(map.is_empty());
        assert_eq!(map.check(&session(1, 14), ms(1)), Err(Refusal::TooOld));
        assert_eq!(map.check(&session(1, 15), ms(1)), Ok(()));
    }

    #[test]
    fn an_end_is_acknowledged_after_the_last_node_that_could_have_missed_it_and_not_at_that_moment() {
        let deadline = ack_deadline(ms(100), DELTA);
        assert!(deadline > ms(600), "however fast a clock runs, within a thousandth");
        assert!(!may_acknowledge(deadline, deadline));
        assert!(may_acknowledge(deadline.after(Duration::from_nanos(1)), deadline));
    }
}
