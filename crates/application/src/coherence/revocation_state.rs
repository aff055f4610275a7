//! What this node knows of revocations, shared by those who serve, those who revoke, and the
//! follower.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use domain::coherence::{
    Applied, Incarnation, LogPage, MonotonicInstant, ReadVersion, Refusal, RevocationMap, Scope,
    ack_deadline,
};
use domain::ports::MonotonicClock;
use domain::{SessionId, UserId};
use fail::fail_point;

#[cfg(feature = "failpoints")]
use super::injected_bugs::{BOUNDARY, just_before, tick};

/// Released fences that wait for a poll, at most. Beyond that, all users are fenced until the next
/// one.
const MAX_PENDING_RELEASES: usize = 100_000;

/// The revocation map of this node with its clock, and counts of what was refused.
pub struct RevocationState {
    clock: Arc<dyn MonotonicClock>,
    max_staleness: Duration,
    map: RwLock<RevocationMap>,
    bookkeeping: Mutex<Bookkeeping>,
    served: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
}

#[derive(Default)]
struct Bookkeeping {
    /// Fences whose write has been committed, or may have been: they stand until a poll that was
    /// sent later is merged.
    pending_releases: Vec<(MonotonicInstant, Scope)>,
    /// The incarnation of the map, and since when this node knows it.
    incarnation: Option<(Incarnation, MonotonicInstant)>,
    /// What was served and refused when shares were last [noted](RevocationState::note_shares).
    noted: (u64, [u64; Refusal::ALL.len()]),
    /// Why more was refused than served then.
    trouble: Option<Refusal>,
}

/// Checks that are too few to say what share of them is refused.
const FEW_CHECKS: u64 = 10;

impl RevocationState {
    /// Creates the state of a node that has not polled, and so serves nothing from its caches.
    pub fn new(clock: Arc<dyn MonotonicClock>, max_staleness: Duration) -> Self {
        Self {
            clock,
            max_staleness,
            map: RwLock::default(),
            bookkeeping: Mutex::default(),
            served: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
        }
    }

    /// Returns whether a session that was read with this version may be served from a cache now.
    pub fn is_servable(&self, id: SessionId, user_id: UserId, version: &ReadVersion) -> bool {
        fail_point!("bug-no-check", |_| true);
        fail_point!("bug-freshness-after-the-map", |_| self
            .is_servable_in_two_steps(id, user_id, version));
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        fail_point!(BOUNDARY, |_| map.check(id, user_id, version, just_before(self.now())).is_ok());
        // The clock is read under the lock: the map that is asked is the one that was recent enough
        // now.
        let checked = map.check(id, user_id, version, self.now());
        drop(map);
        let count = match checked {
            Ok(()) => &self.served,
            Err(refusal) => &self.refused[refusal as usize],
        };
        count.fetch_add(1, Ordering::Relaxed);
        checked.is_ok()
    }

    /// Returns whether a session that was read with this version may have been revoked since, as
    /// far as this node knows. It is not counted: nothing is served by it.
    pub fn may_be_revoked_since(
        &self,
        id: SessionId,
        user_id: UserId,
        version: &ReadVersion,
    ) -> bool {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.check(id, user_id, version, self.now()).is_err()
    }

    /// Returns how often cached sessions were refused, by reason.
    pub fn refused(&self) -> [(Refusal, u64); Refusal::ALL.len()] {
        Refusal::ALL
            .map(|refusal| (refusal, self.refused[refusal as usize].load(Ordering::Relaxed)))
    }

    /// Returns why cached sessions are not served: all of them, because the last poll is too long
    /// ago, or more than are served.
    pub fn trouble(&self) -> Option<Refusal> {
        if self.poll_age() >= self.max_staleness {
            return Some(Refusal::PollTooOld);
        }
        self.bookkeeping().trouble
    }

    /// Notes the shares of what was served and refused since the last call. To be called every
    /// second or so.
    pub(crate) fn note_shares(&self) {
        let served = self.served.load(Ordering::Relaxed);
        let refused = self.refused().map(|(_, count)| count);
        let mut bookkeeping = self.bookkeeping();
        let (served_before, refused_before) =
            std::mem::replace(&mut bookkeeping.noted, (served, refused));
        let newly = std::array::from_fn::<_, { Refusal::ALL.len() }, _>(|index| {
            refused[index] - refused_before[index]
        });
        let all = newly.iter().sum::<u64>();
        let newly_served = served - served_before;
        if all + newly_served >= FEW_CHECKS {
            let most = Refusal::ALL.into_iter().max_by_key(|refusal| newly[*refusal as usize]);
            bookkeeping.trouble = most.filter(|_| all > newly_served);
        }
    }

    /// Returns how long after a poll was sent this node serves what it has cached.
    pub fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// Returns how long ago the last poll was sent. From [`max_staleness`](Self::max_staleness) on,
    /// nothing is served from caches.
    pub fn poll_age(&self) -> Duration {
        let fresh_until = self.map.read().unwrap_or_else(PoisonError::into_inner).fresh_until();
        (self.clock.now().0 + self.max_staleness).saturating_sub(fresh_until.0)
    }

    /// Returns for how many sessions and users the map has entries.
    pub fn entry_count(&self) -> usize {
        self.map.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Fences sessions, before the store revokes them: this node serves none of them from
    /// its caches while the fence stands.
    pub(crate) fn fence(self: &Arc<Self>, scopes: impl IntoIterator<Item = Scope>) -> Fence {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let scopes = scopes.into_iter().map(|scope| map.fence(scope)).collect();
        Fence { state: self.clone(), scopes }
    }

    /// Merges a page of the log. `sent` is the time before the poll of the first page of its row
    /// was sent.
    pub(super) fn apply(&self, page: &LogPage, sent: MonotonicInstant) -> Applied {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let applied = map.apply(page, sent, self.max_staleness);
        let mut bookkeeping = self.bookkeeping();
        let incarnation = map.incarnation();
        if bookkeeping.incarnation.map(|(known, _)| known) != incarnation {
            // By now at the latest the incarnation before has ended.
            bookkeeping.incarnation =
                incarnation.map(|incarnation| (incarnation, self.clock.now()));
        }
        if applied.is_complete {
            let pending = std::mem::take(&mut bookkeeping.pending_releases);
            let (seen, unseen) =
                pending.into_iter().partition::<Vec<_>, _>(|(committed, _)| *committed < sent);
            bookkeeping.pending_releases = unseen;
            for (_, scope) in seen {
                map.release(scope);
            }
        }
        applied
    }

    /// From now on this node serves nothing from its caches, until it has polled again.
    pub(crate) fn reset(&self) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).reset();
        self.bookkeeping().incarnation = None;
    }

    /// Returns the time after which no node serves what it cached in an earlier incarnation than
    /// this one. `None` if this node does not know that it is the present one.
    ///
    /// A restore may have taken away the leases of nodes that go on serving what they cached before
    /// it, until they poll or their last poll is too long ago. That is less than `max_staleness`
    /// after this node learnt of the new incarnation.
    pub(super) fn earlier_incarnations_served_until(
        &self,
        incarnation: Option<Incarnation>,
        max_staleness: Duration,
    ) -> Option<MonotonicInstant> {
        let known = self.bookkeeping().incarnation;
        known
            .filter(|(known, _)| Some(*known) == incarnation)
            .map(|(_, since)| ack_deadline(since, max_staleness))
    }

    pub(super) fn now(&self) -> MonotonicInstant {
        fail_point!(BOUNDARY, |_| tick(self.clock.now()));
        self.clock.now()
    }

    #[cfg(feature = "failpoints")]
    pub(super) fn map(&self) -> &RwLock<RevocationMap> {
        &self.map
    }

    /// No method panics while it holds it.
    fn bookkeeping(&self) -> MutexGuard<'_, Bookkeeping> {
        self.bookkeeping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it stands, this node serves none of the sessions in its scopes from its caches.
///
/// Dropped before it is known what became of the write, because its caller was cancelled or has
/// panicked, it stands until a poll that is sent later has been merged: that poll sees the write,
/// if it was committed.
#[must_use]
pub(crate) struct Fence {
    state: Arc<RevocationState>,
    scopes: Vec<Scope>,
}

impl Fence {
    /// Takes the fence away: nothing was written.
    pub(crate) fn abort(mut self) {
        let mut map = self.state.map.write().unwrap_or_else(PoisonError::into_inner);
        self.scopes.drain(..).for_each(|scope| map.release(scope));
    }

    /// Releases the fence: the write has been committed by now, or may have been. It stands until a
    /// poll that is sent later has been merged. Returns the present time.
    pub(crate) fn release(mut self) -> MonotonicInstant {
        self.release_after_next_poll()
    }

    fn release_after_next_poll(&mut self) -> MonotonicInstant {
        let now = self.state.now();
        let mut map = self.state.map.write().unwrap_or_else(PoisonError::into_inner);
        let pending = &mut self.state.bookkeeping().pending_releases;
        pending.extend(self.scopes.drain(..).map(|scope| (now, scope)));
        if pending.len() > MAX_PENDING_RELEASES {
            // One fence instead of many, which stands for as long as the last of them.
            let all_users = map.fence(Scope::AllUsers);
            pending.drain(..).for_each(|(_, scope)| map.release(scope));
            pending.push((now, all_users));
        }
        now
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if !self.scopes.is_empty() {
            self.release_after_next_poll();
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::coherence::{RevocationEntry, Snapshot};
    use testkit::{SteppingClock, fixtures};
    use uuid::Uuid;

    use super::*;

    const MAX_STALENESS: Duration = Duration::from_millis(500);
    const HERE: Incarnation = Incarnation { system: 1, database: 1, life: 1 };

    struct Fixture {
        clock: Arc<SteppingClock>,
        state: Arc<RevocationState>,
    }

    fn fixture() -> Fixture {
        let clock = Arc::new(SteppingClock::default());
        let fixture =
            Fixture { state: Arc::new(RevocationState::new(clock.clone(), MAX_STALENESS)), clock };
        fixture.poll();
        fixture
    }

    impl Fixture {
        fn poll(&self) {
            let page = LogPage {
                incarnation: HERE,
                entries: Vec::new(),
                snapshot: Snapshot::below(10),
                is_last: true,
                starts_over: Some(Snapshot::below(5)),
            };
            self.state.apply(&page, self.clock.now());
        }

        fn is_servable(&self) -> bool {
            let session = fixtures::session();
            let version = ReadVersion { incarnation: HERE, snapshot: Snapshot::below(9) };
            self.state.is_servable(session.id, session.user_id, &version)
        }
    }

    #[test]
    fn released_fence_stands_until_a_poll_that_was_sent_later_is_merged() {
        let f = fixture();
        let fence = f.state.fence([Scope::Session(fixtures::session().id)]);
        assert!(!f.is_servable());
        assert_eq!(fence.release(), f.clock.now());
        // A poll that was sent at that very instant need not have seen it.
        f.poll();
        assert!(!f.is_servable());
        f.clock.advance(Duration::from_nanos(1));
        f.poll();
        assert!(f.is_servable());
    }

    #[test]
    fn fence_that_is_aborted_stands_no_longer_and_one_that_is_dropped_until_the_next_poll() {
        let f = fixture();
        f.state.fence([Scope::User(fixtures::session().user_id)]).abort();
        assert!(f.is_servable());
        drop(f.state.fence([Scope::AllUsers]));
        assert!(!f.is_servable());
        f.clock.advance(Duration::from_nanos(1));
        f.poll();
        assert!(f.is_servable());
    }

    /// An outage in which every command fails must not let the list grow for ever.
    #[test]
    fn very_many_releases_become_one_fence_about_all_users() {
        let f = fixture();
        for n in 0..=MAX_PENDING_RELEASES as u128 {
            drop(f.state.fence([Scope::Session(SessionId(Uuid::from_u128(n << 64)))]));
        }
        assert_eq!(f.state.bookkeeping().pending_releases.len(), 1);
        assert!(!f.is_servable());
        f.clock.advance(Duration::from_nanos(1));
        f.poll();
        assert!(f.is_servable() && f.state.bookkeeping().pending_releases.is_empty());
    }

    #[test]
    fn fence_is_about_its_scope_and_no_other_also_once_it_is_released() {
        let f = fixture();
        let fence = f.state.fence([Scope::Session(fixtures::session_number(2).id)]);
        assert!(f.is_servable());
        fence.release();
        assert!(f.is_servable());
    }

    #[test]
    fn entries_are_counted() {
        let f = fixture();
        assert_eq!(f.state.entry_count(), 0);
        let entry = |n| RevocationEntry {
            sequence: 8,
            scope: Scope::Session(fixtures::session_number(n).id),
        };
        let page = LogPage {
            incarnation: HERE,
            entries: (1..=3).map(entry).collect(),
            snapshot: Snapshot::below(11),
            is_last: true,
            starts_over: None,
        };
        f.state.apply(&page, f.clock.now());
        assert_eq!(f.state.entry_count(), 3);
    }

    #[test]
    fn refusals_are_counted_by_reason() {
        let f = fixture();
        let counts = || f.state.refused().map(|(_, count)| count);
        assert!(f.is_servable());
        assert_eq!(counts(), [0, 0, 0, 0]);
        assert_eq!(f.state.poll_age(), Duration::ZERO);
        f.clock.advance(MAX_STALENESS);
        assert!(!f.is_servable());
        assert_eq!((counts(), f.state.poll_age()), ([1, 0, 0, 0], MAX_STALENESS));
        f.poll();
        let _fence = f.state.fence([Scope::AllUsers]);
        assert!(!f.is_servable());
        assert_eq!(counts(), [1, 0, 0, 1]);
    }

    /// Losing the caches is a fault that has to be seen.
    #[test]
    fn trouble_is_that_more_is_refused_than_served_and_why() {
        let f = fixture();
        assert_eq!(f.state.trouble(), None);
        let fence = f.state.fence([Scope::AllUsers]);
        let check = |times| assert!((0..times).all(|_| f.is_servable() == f.is_servable()));
        check((FEW_CHECKS - 1) / 2);
        f.state.note_shares();
        assert_eq!(f.state.trouble(), None, "too few to say");
        check(FEW_CHECKS);
        f.state.note_shares();
        assert_eq!(f.state.trouble(), Some(Refusal::Revoked));
        fence.abort();
        f.state.note_shares();
        assert_eq!(
            f.state.trouble(),
            Some(Refusal::Revoked),
            "until something shows that it is over"
        );
        check(FEW_CHECKS * 10);
        f.state.note_shares();
        assert_eq!(f.state.trouble(), None);
        // However many were served before; and half of them is not more than half.
        let fence = f.state.fence([Scope::AllUsers]);
        check(FEW_CHECKS);
        f.state.note_shares();
        assert_eq!(f.state.trouble(), Some(Refusal::Revoked));
        check(FEW_CHECKS);
        fence.abort();
        check(FEW_CHECKS);
        f.state.note_shares();
        assert_eq!(f.state.trouble(), None);
        f.clock.advance(MAX_STALENESS);
        assert_eq!(f.state.trouble(), Some(Refusal::PollTooOld));
    }

    #[test]
    fn earlier_incarnations_are_waited_for_from_when_this_one_is_known() {
        let f = fixture();
        let until = |life| {
            let incarnation = Some(Incarnation { life, ..HERE });
            f.state.earlier_incarnations_served_until(incarnation, MAX_STALENESS)
        };
        let deadline = Some(ack_deadline(MonotonicInstant::default(), MAX_STALENESS));
        assert_eq!((until(1), until(2)), (deadline, None));
        f.clock.advance(Duration::from_secs(1));
        f.poll();
        assert_eq!(until(1), deadline, "known since the first poll");
        f.state.reset();
        assert_eq!(until(1), None);
    }
}
