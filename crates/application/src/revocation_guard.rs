#[cfg(feature = "failpoints")]
mod injected_bugs;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chrono::TimeDelta;
use domain::coherence::{Followed, Monotonic, Refusal, RevocationMap, Scope, Stamp, ack_deadline, may_acknowledge};
use domain::ports::{Mark, MonotonicClock, OtherNode, PortError, RevocationFeed};
use domain::{Session, SessionId, UserId};
use fail::fail_point;
#[cfg(feature = "failpoints")]
use injected_bugs::{BOUNDARY, just_before, tick};
use uuid::Uuid;

/// How often somebody who waits asks whether everybody has passed.
const WAIT_STEP: Duration = Duration::from_millis(10);
/// A node that stood still for so many of its deltas is taken off the list.
const STANDSTILLS: u32 = 10;

/// What makes an acknowledged end final: it follows the changes that end sessions, says which remembered session may be
/// answered, and keeps acknowledgements back until no node can answer what was ended (`docs/coherence.md`).
pub struct RevocationGuard {
    feed: Arc<dyn RevocationFeed>,
    clock: Arc<dyn MonotonicClock>,
    delta: Duration,
    map: RwLock<RevocationMap>,
    following: Mutex<Following>,
    refused: [AtomicU64; REFUSALS.len()],
}

/// Where the node is with its looks.
struct Following {
    registered: bool,
    /// The moment of the last look that is merged.
    applied: Option<String>,
    /// Ends that are committed, and wait for a look that was sent after the commit.
    committed: Vec<(Monotonic, Scope)>,
    /// The largest delta of any node that was ever seen.
    largest_delta: Duration,
    /// Since when another node has stood still, at which number.
    standing: HashMap<Uuid, (u64, Monotonic)>,
}

/// Every reason, for the counts.
const REFUSALS: [Refusal; 5] =
    [Refusal::FeedStale, Refusal::Unstamped, Refusal::OtherHistory, Refusal::TooOld, Refusal::Ended];

impl RevocationGuard {
    /// A guard that has not looked yet, and so lets nothing through.
    pub fn new(feed: Arc<dyn RevocationFeed>, clock: Arc<dyn MonotonicClock>, delta: Duration) -> Self {
        let following = Following {
            registered: false,
            applied: None,
            committed: Vec::new(),
            largest_delta: delta,
            standing: HashMap::new(),
        };
        let refused = [const { AtomicU64::new(0) }; REFUSALS.len()];
        Self { feed, clock, delta, map: RwLock::default(), following: Mutex::new(following), refused }
    }

    /// Whether a remembered session may be answered now.
    pub(crate) fn lets_through(&self, session: &Session) -> bool {
        self.lets_through_read(session.id, session.user_id, session.stamp)
    }

    /// The same for what is not a whole session, but was read as this one with this stamp.
    pub(crate) fn lets_through_read(&self, id: SessionId, user_id: UserId, stamp: Stamp) -> bool {
        fail_point!("bug-no-check", |_| true);
        fail_point!("bug-freshness-after-the-map", |_| self.lets_through_in_two_steps(id, user_id, stamp));
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        fail_point!(BOUNDARY, |_| map.check_read(id, user_id, stamp, just_before(self.now())).is_ok());
        // Read under the lock: the map that is asked is the one that was fresh at this moment.
        let checked = map.check_read(id, user_id, stamp, self.now());
        drop(map);
        let refused = checked.err().and_then(|refusal| REFUSALS.iter().position(|other| *other == refusal));
        if let Some(index) = refused {
            self.refused[index].fetch_add(1, Ordering::Relaxed);
        }
        checked.is_ok()
    }

    /// How often remembered sessions were refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REFUSALS.iter().zip(&self.refused).map(|(refusal, count)| (refusal.reason(), count.load(Ordering::Relaxed)))
    }

    /// How long ago the last look was sent; what is remembered is answered while that is less than delta.
    pub fn feed_age(&self) -> Duration {
        let fresh_until = self.map.read().unwrap_or_else(PoisonError::into_inner).fresh_until();
        (self.clock.now().0 + self.delta).saturating_sub(fresh_until.0)
    }

    /// How long an end may have to wait until it is final.
    pub fn longest_wait(&self) -> Duration {
        ack_deadline(Monotonic::default(), self.following().largest_delta).0
    }

    /// Looks at the changes once. Answers whether to look again at once: somebody may be waiting to hear that this node knows what it
    /// has just learnt. Not to be called twice at a time.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer: what is remembered is answered until delta is over, then nothing.
    pub async fn follow(&self) -> Result<bool, PortError> {
        if !self.following().registered {
            self.feed.register(self.delta).await?;
            let mut following = self.following();
            following.registered = true;
            following.applied = None;
        }
        let from = self.map.read().unwrap_or_else(PoisonError::into_inner).next();
        let applied = self.following().applied.clone();
        // Before the look is sent, never after.
        let sent = self.now();
        let look = self.feed.look(from, applied.as_deref()).await?;
        let sent = self.sent_or_injected_bug(sent);
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let mut following = self.following();
        let Some(look) = look else {
            // Somebody took this node for dead, and waits for it no more.
            map.forget();
            following.registered = false;
            return Ok(true);
        };
        let followed = map.follow(&look.page, sent, self.delta);
        if followed == Followed::LookAgain {
            return Ok(true);
        }
        following.applied = Some(look.moment);
        let (seen, unseen) = following.committed.drain(..).partition::<Vec<_>, _>(|(committed, _)| *committed < sent);
        following.committed = unseen;
        for (_, scope) in seen {
            map.settle(scope);
        }
        Ok(followed == Followed::Merged { news: true })
    }

    /// Looks after the other nodes: what their deltas are, and whether one has stood still for so long that it must be dead.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer.
    pub async fn look_after_others(&self) -> Result<(), PortError> {
        let others = self.feed.mark().await?.others;
        let now = self.clock.now();
        let mut dead = Vec::new();
        {
            let mut following = self.following();
            following.learn(&others);
            following.standing.retain(|node, _| others.iter().any(|other| other.node == *node));
            for other in others {
                let since = following.standing.entry(other.node).or_insert((other.renewals, now));
                if since.0 != other.renewals {
                    *since = (other.renewals, now);
                } else if now > since.1.after(other.delta * STANDSTILLS) {
                    dead.push(other);
                }
            }
        }
        for node in &dead {
            self.feed.remove(node).await?;
        }
        Ok(())
    }

    /// From now on this node answers nothing that it remembers, and nobody waits for it.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer; others then wait for it for a while.
    pub async fn leave(&self) -> Result<(), PortError> {
        self.map.write().unwrap_or_else(PoisonError::into_inner).forget();
        self.feed.leave().await
    }

    /// Clears away at most `limit` old entries of the log.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer.
    pub async fn prune(&self, limit: u32) -> Result<u64, PortError> {
        self.feed.prune(limit).await
    }

    /// Before the store is told to end sessions: this node serves none of them from its caches while the fence stands.
    pub(crate) fn fence(self: &Arc<Self>, scopes: impl IntoIterator<Item = Scope>) -> Fence {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        let scopes = scopes.into_iter().map(|scope| map.begin(scope)).collect();
        Fence { guard: self.clone(), scopes }
    }

    /// Waits until no node can answer from memory what was ended by `committed`: until all have said that they know, or for
    /// longer than any of them trusts its memory.
    pub(crate) async fn wait_until_final(&self, committed: Monotonic) {
        fail_point!("bug-no-wait", |_| ());
        let mark = self.feed.mark().await.ok();
        let Some(deadline) = self.deadline(committed, mark.as_ref()) else { return };
        while !may_acknowledge(self.now(), deadline) {
            if let Some(mark) = &mark
                && self.feed.behind(mark.change).await.is_ok_and(|behind| behind.is_empty())
            {
                return;
            }
            self.clock.sleep(WAIT_STEP).await;
        }
    }

    /// How long it takes at most until no node can answer from memory what was ended by `committed`.
    pub(crate) async fn until_final(&self, committed: Monotonic) -> TimeDelta {
        let mark = self.feed.mark().await.ok();
        let deadline = self.deadline(committed, mark.as_ref()).unwrap_or_default();
        let left = deadline.0.saturating_sub(self.clock.now().0);
        TimeDelta::from_std(left).unwrap_or(TimeDelta::MAX)
    }

    /// When no node trusts any more what it remembered before the commit; `None`: there is no other node. Where the store cannot be
    /// asked about them, the largest delta that was ever seen has to do.
    fn deadline(&self, committed: Monotonic, mark: Option<&Mark>) -> Option<Monotonic> {
        let mut following = self.following();
        if let Some(mark) = mark {
            if mark.others.is_empty() {
                return None;
            }
            following.learn(&mark.others);
        }
        fail_point!(BOUNDARY, |_| Some(just_before(committed.after(following.largest_delta))));
        Some(ack_deadline(committed, following.largest_delta))
    }

    fn now(&self) -> Monotonic {
        fail_point!(BOUNDARY, |_| tick(self.clock.now()));
        self.clock.now()
    }

    /// When a look was sent; by an injected bug, when it was answered.
    fn sent_or_injected_bug(&self, sent: Monotonic) -> Monotonic {
        fail_point!("bug-look-counts-from-its-arrival", |_| self.clock.now());
        sent
    }

    /// No method panics while it holds it.
    fn following(&self) -> MutexGuard<'_, Following> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it stands, its node serves none of the sessions in its scopes from its caches.
///
/// Dropped before it is known what became of the write (the caller was cancelled, or has panicked), it stands until a poll that
/// is sent later has been merged: that poll sees the write, if it was committed.
#[must_use]
pub(crate) struct Fence {
    guard: Arc<RevocationGuard>,
    scopes: Vec<Scope>,
}

impl Fence {
    /// Nothing was written: takes the fence away.
    pub(crate) fn abort(mut self) {
        let mut map = self.guard.map.write().unwrap_or_else(PoisonError::into_inner);
        self.scopes.drain(..).for_each(|scope| map.settle(scope));
    }

    /// The store has committed, by now, or may have: the fence stands until a poll that is sent later has been merged.
    pub(crate) fn committed(mut self) -> Monotonic {
        self.release_after_next_poll()
    }

    fn release_after_next_poll(&mut self) -> Monotonic {
        let now = self.guard.now();
        self.guard.following().committed.extend(self.scopes.drain(..).map(|scope| (now, scope)));
        now
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        self.release_after_next_poll();
    }
}

impl Following {
    fn learn(&mut self, others: &[OtherNode]) {
        let largest = others.iter().map(|other| other.delta).max().unwrap_or_default();
        self.largest_delta = self.largest_delta.max(largest);
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::{MemoryDatabase, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository};
    use domain::ports::{Look, SessionReader, SessionRepository};
    use domain::{Actor, Revocation};
    use testkit::{SteppingClock, fixtures};

    use super::*;

    const DELTA: Duration = Duration::from_millis(500);

    /// Two nodes of one database.
    struct Setting {
        database: MemoryDatabase,
        repo: MemorySessionRepository,
        clock: Arc<SteppingClock>,
        one: Arc<RevocationGuard>,
        other: Arc<RevocationGuard>,
    }

    async fn setting() -> Setting {
        let (database, nodes) = (MemoryDatabase::default(), MemoryNodes::default());
        let repo = MemorySessionRepository::new(database.clone());
        repo.insert(&fixtures::session(), None).await.unwrap();
        let clock = Arc::new(SteppingClock::default());
        let guard = |n| {
            let feed = MemoryRevocationFeed::new(database.clone(), nodes.clone(), Uuid::from_u128(n));
            Arc::new(RevocationGuard::new(Arc::new(feed), clock.clone(), DELTA))
        };
        let (one, other) = (guard(1), guard(2));
        one.follow().await.unwrap();
        Setting { database, repo, clock, one, other }
    }

    impl Setting {
        async fn session(&self) -> Session {
            self.repo.find_by_id(fixtures::session().id).await.unwrap().unwrap()
        }

        /// Ends the session at node one; the moment of the commit.
        async fn end(&self) -> Monotonic {
            let (id, revocation) =
                (fixtures::session().id, Revocation { at: fixtures::now(), reason: None, actor: Some(Actor::Service) });
            let fence = self.one.fence([Scope::Session(id)]);
            assert_eq!(self.repo.revoke(&[id], &revocation).await.unwrap().len(), 1);
            fence.committed()
        }

        /// How long an end had to wait.
        async fn wait(&self, committed: Monotonic) -> Duration {
            self.one.wait_until_final(committed).await;
            self.clock.now().0 - committed.0
        }
    }

    #[tokio::test]
    async fn a_node_alone_waits_for_nobody() {
        let s = setting().await;
        let committed = s.end().await;
        assert_eq!(s.one.until_final(committed).await, TimeDelta::zero());
        assert_eq!(s.wait(committed).await, Duration::ZERO);
    }

    #[tokio::test]
    async fn a_silent_node_is_waited_for_until_it_trusts_its_memory_no_more() {
        let s = setting().await;
        s.other.follow().await.unwrap();
        let remembered = s.session().await;
        let committed = s.end().await;
        let left = s.one.until_final(committed).await.to_std().unwrap();
        assert_eq!(left, s.one.longest_wait());
        assert!(s.other.lets_through(&remembered), "it knows nothing of it");
        assert!(s.wait(committed).await > DELTA);
        assert!(!s.other.lets_through(&remembered));
    }

    #[tokio::test]
    async fn a_node_that_has_said_that_it_knows_is_not_waited_for() {
        let s = setting().await;
        s.other.follow().await.unwrap();
        let remembered = s.session().await;
        let committed = s.end().await;
        let (waited, ()) = tokio::join!(s.wait(committed), async {
            // The look that sees the end, and the one that says so.
            assert!(s.other.follow().await.unwrap());
            s.other.follow().await.unwrap();
        });
        assert!(waited < DELTA / 2, "{waited:?}");
        assert!(!s.other.lets_through(&remembered));
    }

    #[tokio::test]
    async fn where_the_store_cannot_be_asked_the_largest_delta_is_waited_for() {
        let s = setting().await;
        let committed = s.end().await;
        s.database.take_down();
        assert!(s.wait(committed).await > DELTA);
    }

    #[tokio::test]
    async fn the_node_that_ends_a_session_stops_remembering_it_before_and_begins_again_after_a_look() {
        let s = setting().await;
        let remembered = s.session().await;
        assert!(s.one.lets_through(&remembered));
        let fence = s.one.fence([Scope::Session(remembered.id)]);
        assert!(!s.one.lets_through(&remembered));
        fence.abort();
        assert!(s.one.lets_through(&remembered));

        s.end().await;
        s.clock.advance(Duration::from_millis(1));
        assert!(!s.one.lets_through(&remembered));
        s.one.follow().await.unwrap();
        assert!(!s.one.lets_through(&remembered), "now because it knows");
    }

    #[tokio::test]
    async fn a_node_that_stood_still_is_taken_off_the_list_and_forgets_everything() {
        let s = setting().await;
        s.other.follow().await.unwrap();
        let remembered = s.session().await;
        assert!(s.other.lets_through(&remembered));
        s.one.look_after_others().await.unwrap();
        s.clock.advance(DELTA * (STANDSTILLS + 1));
        s.one.look_after_others().await.unwrap();
        let committed = s.end().await;
        assert_eq!(s.wait(committed).await, Duration::ZERO);
        // It hears that it was taken for dead, and registers anew.
        assert!(s.other.follow().await.unwrap());
        assert!(!s.other.lets_through(&remembered));
        s.other.follow().await.unwrap();
        assert!(!s.other.lets_through(&remembered));
    }

    /// A look that takes a while.
    struct SlowFeed(MemoryRevocationFeed, Arc<SteppingClock>);

    const SLOW: Duration = Duration::from_millis(300);

    #[async_trait::async_trait]
    impl RevocationFeed for SlowFeed {
        async fn register(&self, delta: Duration) -> Result<(), PortError> {
            self.0.register(delta).await
        }

        async fn look(&self, from: Option<u64>, applied: Option<&str>) -> Result<Option<Look>, PortError> {
            let look = self.0.look(from, applied).await;
            self.1.advance(SLOW);
            look
        }

        async fn mark(&self) -> Result<Mark, PortError> {
            self.0.mark().await
        }

        async fn behind(&self, change: u64) -> Result<Vec<OtherNode>, PortError> {
            self.0.behind(change).await
        }

        async fn remove(&self, node: &OtherNode) -> Result<(), PortError> {
            self.0.remove(node).await
        }

        async fn leave(&self) -> Result<(), PortError> {
            self.0.leave().await
        }

        async fn prune(&self, limit: u32) -> Result<u64, PortError> {
            self.0.prune(limit).await
        }
    }

    #[tokio::test]
    async fn poll_counts_from_when_it_was_sent_and_not_from_when_it_was_answered() {
        let s = setting().await;
        let feed = MemoryRevocationFeed::new(s.database.clone(), MemoryNodes::default(), Uuid::from_u128(3));
        let slow = RevocationGuard::new(Arc::new(SlowFeed(feed, s.clock.clone())), s.clock.clone(), DELTA);
        let cached = s.session().await;
        slow.follow().await.unwrap();
        assert_eq!(slow.feed_age(), SLOW);
        assert!(slow.lets_through(&cached));
        s.clock.advance(DELTA - SLOW);
        assert!(!slow.lets_through(&cached));
    }

    /// A poll that is sent at the moment of the commit may not have seen it.
    #[tokio::test]
    async fn fence_stands_until_a_poll_that_was_sent_after_the_commit() {
        let s = setting().await;
        let other = Session { id: fixtures::session_number(2).id, ..s.session().await };
        let committed = s.one.fence([Scope::User(other.user_id)]).committed();
        s.one.follow().await.unwrap();
        assert_eq!(s.clock.now(), committed, "the clock stands still");
        assert!(!s.one.lets_through(&other));
        s.clock.advance(Duration::from_millis(1));
        s.one.follow().await.unwrap();
        assert!(s.one.lets_through(&other));
    }
}
