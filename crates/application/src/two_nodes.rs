//! The promise, held where it lives: two nodes on one in-memory database, with everything wired by
//! [`Application::new`], and one test per way round it. `docs/coherence.md` says what is promised.

mod tokens;

use std::future::Future;
use std::num::NonZeroU32;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use adapters_memory::MemorySessionCache;
use chrono::TimeDelta;
use domain::coherence::Scope;
use domain::ports::{Clock, Layer, MonotonicClock, RevocationFeed, SessionCache};
use domain::{Actor, Session, SessionId, UserId};
use futures_util::FutureExt;
use testkit::memory::{MemoryDatabase, MemoryNodes, MemoryRevocationFeed};
use testkit::{FixedClock, SequentialIds, SequentialTokens, SteppingClock, fixtures};
use uuid::Uuid;

use crate::activity::ActivityWriter;
use crate::application::{Application, Ports};
use crate::background_tasks::BackgroundTasks;
use crate::coherence::{Acknowledge, CommitWait, PeerMonitor, Polled, RevocationFollower};
use crate::commands::handlers::RecordActivityError;
use crate::commands::{
    CreateSession, RecordActivity, RevokeAllSessions, RevokeAllUserSessions, RevokeSession,
    RevokeSessions,
};
use crate::queries::GetSession;
use crate::test_support::{self, MAX_STALENESS};

/// A node whose background work is the test's.
struct Node {
    application: Application,
    follower: RevocationFollower,
    activity_writer: Arc<ActivityWriter>,
}

impl Deref for Node {
    type Target = Application;

    fn deref(&self) -> &Application {
        &self.application
    }
}

/// Node `a` revokes; node `b` has cached what is revoked, and learns of it only when a test lets it
/// poll.
struct TwoNodes {
    store: Store,
    a: Node,
    b: Node,
}

impl Deref for TwoNodes {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// What nodes share.
struct Store {
    database: MemoryDatabase,
    leases: MemoryNodes,
    shared: Arc<MemorySessionCache>,
    clock: Arc<FixedClock>,
    monotonic: Arc<SteppingClock>,
    ids: Arc<SequentialIds>,
    tokens: Arc<SequentialTokens>,
}

impl Store {
    async fn start_node(&self, n: u128) -> Node {
        let database = &self.database;
        let feed =
            MemoryRevocationFeed::new(database.clone(), self.leases.clone(), Uuid::from_u128(n));
        let ports = Ports {
            near_cache: Some(Arc::new(MemorySessionCache::new(1000, self.clock.clone()))),
            shared_cache: Some(self.shared.clone()),
            clock: self.clock.clone(),
            monotonic_clock: self.monotonic.clone(),
            ids: self.ids.clone(),
            tokens: self.tokens.clone(),
            ..test_support::ports(database, Arc::new(feed))
        };
        let (application, background) = Application::new(ports, test_support::policies());
        let BackgroundTasks { follower, activity_writer, .. } = background;
        let mut node = Node { application, follower, activity_writer };
        node.follower.poll().await.unwrap();
        node
    }
}

impl TwoNodes {
    /// Two nodes that know each other, and that no earlier life of the database need be waited for.
    async fn start() -> Self {
        let store = Store {
            database: MemoryDatabase::default(),
            leases: MemoryNodes::default(),
            shared: Arc::new(MemorySessionCache::new(1000, fixtures::clock())),
            clock: fixtures::clock(),
            monotonic: Arc::new(SteppingClock::default()),
            ids: Arc::new(SequentialIds::default()),
            tokens: Arc::new(SequentialTokens::default()),
        };
        let a = store.start_node(1).await;
        let b = store.start_node(2).await;
        let mut two = Self { store, a, b };
        two.monotonic.advance(MAX_STALENESS * 2);
        two.poll().await;
        two
    }

    async fn sign_in(&self, user: UserId) -> Session {
        self.a.create_session.handle(CreateSession::of(user)).await.unwrap().session
    }

    /// Returns a session that both nodes serve from their near caches.
    async fn cached_session(&self) -> Session {
        let session = self.sign_in(fixtures::session().user_id).await;
        for node in [&self.a, &self.b] {
            layer(node, &session).await;
            assert_eq!(
                layer(node, &session).await,
                Layer::Near,
                "the fixture has to serve it from a cache"
            );
        }
        session
    }

    /// Returns whether a node serves this session as live, from wherever it does.
    async fn serves_as_live(&self, node: &Node, session: &Session) -> bool {
        let query = GetSession { session_id: session.id, user_id: session.user_id };
        node.get_session.handle(query).await.is_ok_and(|result| !result.is_revoked)
    }

    /// No read that starts now reports the session as live, on any node, by any way to ask.
    async fn assert_is_live_nowhere(&self, session: &Session, what: &str) {
        for (name, node) in [("a", &self.a), ("b", &self.b)] {
            assert!(
                !self.serves_as_live(node, session).await,
                "{what}: node {name} serves it as live"
            );
            let activity = node.record_activity.handle(activity(session.id)).await;
            assert!(
                matches!(activity, Err(RecordActivityError::SessionEnded)),
                "{what}: node {name} takes its activity: {activity:?}"
            );
        }
    }

    /// No node has the session any more.
    async fn assert_is_gone(&self, session: &Session, what: &str) {
        for (name, node) in [("a", &self.a), ("b", &self.b)] {
            assert!(
                !self.serves_as_live(node, session).await,
                "{what}: node {name} serves it as live"
            );
            let activity = node.record_activity.handle(activity(session.id)).await;
            assert!(
                matches!(activity, Err(RecordActivityError::SessionNotFound)),
                "{what}: node {name} takes its activity: {activity:?}"
            );
        }
    }

    /// Revokes a session at node a, in one of the ways that there are, and returns once that is
    /// acknowledged.
    async fn revoke(&self, way: &str, session: &Session) {
        let reason = None;
        let actor = Actor::Service;
        let acknowledge = Acknowledge::Effective;
        let revoked = match way {
            "one" => self
                .a
                .revoke_session
                .handle(revoke(session))
                .await
                .map_err(|error| error.to_string()),
            "list" => {
                let command =
                    RevokeSessions { session_ids: vec![session.id], reason, actor, acknowledge };
                self.a.revoke_sessions.handle(command).await.map_err(|error| error.to_string())
            }
            "user" => {
                let command = revoke_all_of(session.user_id);
                self.a
                    .revoke_all_user_sessions
                    .handle(command)
                    .await
                    .map_err(|error| error.to_string())
            }
            "all" => {
                let command = RevokeAllSessions { reason, actor, acknowledge };
                self.a.revoke_all_sessions.handle(command).await.map_err(|error| error.to_string())
            }
            other => panic!("there is no way to revoke by {other}"),
        };
        assert_eq!(revoked.map(|revoked| revoked.effective_by), Ok(None), "{way}");
    }

    /// Both nodes poll, and report what they have merged.
    async fn poll(&mut self) {
        for node in [&mut self.a, &mut self.b] {
            while node.follower.poll().await.unwrap().again {}
        }
    }
}

fn activity(session_id: SessionId) -> RecordActivity {
    RecordActivity { session_id, ip_address: None }
}

async fn layer(node: &Node, session: &Session) -> Layer {
    let query = GetSession { session_id: session.id, user_id: session.user_id };
    node.get_session.find(query).await.unwrap().layer
}

fn revoke(session: &Session) -> RevokeSession {
    RevokeSession {
        session_id: session.id,
        owner: None,
        reason: None,
        actor: Actor::Service,
        acknowledge: Acknowledge::Effective,
    }
}

fn revoke_all_of(user_id: UserId) -> RevokeAllUserSessions {
    RevokeAllUserSessions {
        user_id,
        except: None,
        reason: None,
        actor: Actor::Service,
        acknowledge: Acknowledge::Effective,
    }
}

/// Runs a command up to its first wait, and returns it: what it does before that is done.
async fn begun<F: Future + Unpin>(mut command: F) -> F {
    assert!((&mut command).now_or_never().is_none(), "it acknowledges without a wait");
    command
}

#[tokio::test]
async fn session_is_served_as_live_nowhere_once_its_revocation_is_acknowledged() {
    let mut two = TwoNodes::start().await;
    for way in ["one", "list", "user", "all"] {
        let session = two.cached_session().await;
        two.b.record_activity.handle(activity(session.id)).await.unwrap();
        two.revoke(way, &session).await;
        two.assert_is_live_nowhere(&session, way).await;
        // The caches are used again, for others.
        two.poll().await;
        two.cached_session().await;
    }
}

#[tokio::test]
async fn evicted_session_is_served_as_live_nowhere_once_the_sign_in_is_acknowledged() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    two.b.record_activity.handle(activity(session.id)).await.unwrap();
    let sign_in =
        CreateSession { max_sessions: NonZeroU32::new(1), ..CreateSession::of(session.user_id) };
    let created = two.a.create_session.handle(sign_in).await.unwrap();
    assert_eq!(created.evicted.len(), 1);
    two.assert_is_live_nowhere(&session, "evicted").await;
}

/// The client of the first attempt times out and repeats it; the response to the repetition is an
/// acknowledgement too.
#[tokio::test]
async fn repeated_sign_in_is_acknowledged_once_its_evictions_are_effective() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let sign_in = CreateSession {
        max_sessions: NonZeroU32::new(1),
        idempotency_key: Some(fixtures::idempotency_key("key")),
        ..CreateSession::of(session.user_id)
    };
    let first = begun(Box::pin(two.a.create_session.handle(sign_in.clone()))).await;
    drop(first);
    for repetition in 0..2 {
        let repeated = two.a.create_session.handle(sign_in.clone()).await.unwrap();
        assert_eq!(repeated.evicted.len(), 1, "{repetition}");
        two.assert_is_live_nowhere(&session, "a repeated sign-in").await;
    }
}

/// What it evicted cannot be listed any more: it was deleted, or is one of very many. It may be
/// served all the same.
#[tokio::test]
async fn repeated_sign_in_whose_evictions_are_gone_is_acknowledged_once_they_are_effective() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let sign_in = CreateSession {
        max_sessions: NonZeroU32::new(1),
        idempotency_key: Some(fixtures::idempotency_key("key")),
        ..CreateSession::of(session.user_id)
    };
    drop(begun(Box::pin(two.a.create_session.handle(sign_in.clone()))).await);
    two.database.drop_row(session.id);
    assert!(two.serves_as_live(&two.b, &session).await);
    assert_eq!(two.a.create_session.handle(sign_in).await.unwrap().evicted, []);
    two.assert_is_gone(&session, "a repeated sign-in").await;
}

/// Another caller has just revoked it, and waits: the second revocation has to wait as
/// well.
#[tokio::test]
async fn second_revocation_is_acknowledged_once_the_first_is_effective() {
    let mut two = TwoNodes::start().await;
    for way in ["one", "list", "user"] {
        let session = two.cached_session().await;
        let first = begun(Box::pin(two.a.revoke_session.handle(revoke(&session)))).await;
        drop(first);
        two.revoke(way, &session).await;
        two.assert_is_live_nowhere(&session, way).await;
        two.poll().await;
    }
}

/// The caller has gone away, or its task has panicked.
#[tokio::test]
async fn cancelled_revocation_leaves_no_fence_behind() {
    let mut two = TwoNodes::start().await;
    let session = two.cached_session().await;
    // In the middle of the commit wait.
    drop(
        begun(Box::pin(two.a.revoke_all_user_sessions.handle(revoke_all_of(session.user_id))))
            .await,
    );
    // Before the outcome of the write is known.
    drop(two.a.revocation_state.fence([Scope::AllUsers]));
    let session = two.sign_in(fixtures::another_user()).await;
    for _ in 0..2 {
        assert_eq!(
            layer(&two.a, &session).await,
            Layer::Database,
            "the outcome is unknown until the next poll"
        );
    }
    two.monotonic.advance(Duration::from_millis(1));
    two.poll().await;
    two.cached_session().await;
}

/// Before any node has polled: the fence of the node that revokes does not let an old value pass.
#[tokio::test]
async fn node_that_has_revoked_serves_no_old_value_before_its_next_poll() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let query = GetSession { session_id: session.id, user_id: session.user_id };
    let before = two.b.get_session.find(query).await.unwrap();
    let version = before.version.unwrap();
    let command = RevokeSession { acknowledge: Acknowledge::Committed, ..revoke(&session) };
    assert!(two.a.revoke_session.handle(command).await.unwrap().effective_by.is_some());
    // Another node, which has not polled it yet, writes what it has.
    two.shared.set(&before.session, &version).await;
    assert!(!two.serves_as_live(&two.a, &session).await);
}

#[tokio::test]
async fn activity_of_a_revoked_session_is_not_written_any_more() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    two.a.record_activity.handle(activity(session.id)).await.unwrap();
    two.a.revoke_session.handle(revoke(&session)).await.unwrap();
    assert_eq!(two.a.activity_writer.write_all().await.unwrap(), 0);
}

/// A sign-in that revokes nothing leaves the caches as they are, at once.
#[tokio::test]
async fn sign_in_without_evictions_leaves_the_users_sessions_cached() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let sign_in =
        CreateSession { max_sessions: NonZeroU32::new(5), ..CreateSession::of(session.user_id) };
    assert_eq!(two.a.create_session.handle(sign_in).await.unwrap().evicted, []);
    assert_eq!(layer(&two.a, &session).await, Layer::Near);
}

/// A node's own fence: from before the write on it serves nothing of the user from its caches, and
/// from the next poll on again.
#[tokio::test]
async fn node_that_revokes_stops_serving_from_its_caches_before_the_write() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let fence = two.a.revocation_state.fence([Scope::Session(session.id)]);
    assert_eq!(layer(&two.a, &session).await, Layer::Database);
    assert_eq!(
        layer(&two.b, &session).await,
        Layer::Near,
        "the other node goes on until it polls the revocation"
    );
    fence.abort();
    assert_ne!(layer(&two.a, &session).await, Layer::Database, "nothing was written");
}

/// What a node cannot know it does not say.
#[tokio::test]
async fn node_that_cannot_poll_serves_nothing_from_its_caches_after_max_staleness() {
    let mut two = TwoNodes::start().await;
    let session = two.cached_session().await;
    two.database.take_down();
    assert!(two.serves_as_live(&two.b, &session).await);
    assert!(two.b.follower.poll().await.is_err());
    two.monotonic.advance(MAX_STALENESS);
    assert!(!two.serves_as_live(&two.b, &session).await);
    assert!(two.b.record_activity.handle(activity(session.id)).await.is_err());
}

/// Nothing that was revoked comes back from the shared cache, whenever a node read it.
#[tokio::test]
async fn value_that_was_read_before_a_revocation_is_not_served_after_it_from_any_cache() {
    let mut two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let query = GetSession { session_id: session.id, user_id: session.user_id };
    let before = two.b.get_session.find(query).await.unwrap();
    let version = before.version.unwrap();
    two.a.revoke_session.handle(revoke(&session)).await.unwrap();
    two.poll().await;
    // A node that was paused between its read and its write to the caches.
    two.shared.set(&before.session, &version).await;
    two.assert_is_live_nowhere(&session, "an old value").await;
    two.clock.advance(TimeDelta::seconds(1));
    two.assert_is_live_nowhere(&session, "an old value, later").await;
}

/// What the store no longer has, caches may have: a restore took it away, and no revocation can
/// match it.
#[tokio::test]
async fn revocation_that_matches_nothing_is_effective_for_what_caches_have() {
    for way in ["user", "all"] {
        let mut two = TwoNodes::start().await;
        let session = two.cached_session().await;
        two.database.drop_row(session.id);
        assert!(two.serves_as_live(&two.b, &session).await);
        two.revoke(way, &session).await;
        two.assert_is_gone(&session, way).await;
        two.poll().await;
        two.cached_session().await;
    }
}

/// A backup is put back in place, under running nodes. What was cached before is not served by a
/// node that knows of the new life, and a revocation waits for those that do not, though their
/// leases are gone.
#[tokio::test]
async fn revocation_after_a_restore_waits_for_nodes_whose_leases_are_gone() {
    let mut two = TwoNodes::start().await;
    let backup = two.database.back_up();
    for node_knows in [true, false] {
        let session = two.cached_session().await;
        two.database.restore(&backup);
        two.leases.clear();
        assert!(two.serves_as_live(&two.b, &session).await, "it has not polled yet");
        if node_knows {
            two.a.follower.poll().await.unwrap();
            assert!(!two.serves_as_live(&two.a, &session).await);
        }
        two.revoke("all", &session).await;
        two.assert_is_gone(&session, "restored").await;
        two.poll().await;
        two.cached_session().await;
    }
}

/// A cached session of another life is a miss, and caches are used again at once.
#[tokio::test]
async fn nothing_from_before_a_restore_is_served_and_caches_are_used_again_at_once() {
    let mut two = TwoNodes::start().await;
    let session = two.sign_in(fixtures::session().user_id).await;
    let backup = two.database.back_up();
    layer(&two.a, &session).await;
    two.database.restore(&backup);
    assert!(
        two.a.follower.poll().await.unwrap().again,
        "a node that was restored registers, and reports"
    );
    for layers in [Layer::Database, Layer::Near] {
        assert_eq!(layer(&two.a, &session).await, layers);
    }
}

/// A rolling deployment does not cost a read of the database per session and node.
#[tokio::test]
async fn node_that_starts_serves_what_the_shared_cache_has() {
    let two = TwoNodes::start().await;
    let [session, revoked] = [two.cached_session().await, two.cached_session().await];
    two.revoke("one", &revoked).await;
    let started = two.start_node(3).await;
    // Its near cache is empty.
    assert_ne!(layer(&started, &session).await, Layer::Database);
    assert_eq!(layer(&started, &revoked).await, Layer::Database);
}

/// A node that has just started does not know whether peers serve what they cached in an earlier
/// life of the database.
#[tokio::test]
async fn node_that_starts_waits_for_earlier_lives_and_later_for_none() {
    let two = TwoNodes::start().await;
    two.leases.clear();
    let started = two.start_node(3).await;
    let wait = async |node: &Node| {
        let session = two.sign_in(fixtures::another_user()).await;
        let began = two.monotonic.now();
        node.revoke_session.handle(revoke(&session)).await.unwrap();
        two.monotonic.now().0 - began.0
    };
    assert!(wait(&started).await > MAX_STALENESS);
    assert_eq!(wait(&started).await, Duration::ZERO);
}

#[tokio::test]
async fn peers_are_waited_for_until_they_report_and_silent_ones_until_their_staleness_is_over() {
    let mut two = TwoNodes::start().await;
    let wait = async |two: &TwoNodes| {
        let session = two.sign_in(fixtures::another_user()).await;
        let command = RevokeSession { acknowledge: Acknowledge::Committed, ..revoke(&session) };
        two.a.revoke_session.handle(command).await.unwrap().effective_by.unwrap() - two.clock.now()
    };
    let silent = wait(&two).await.to_std().unwrap();
    assert!(silent > MAX_STALENESS && silent <= two.a.longest_commit_wait(), "{silent:?}");
    two.poll().await;
    let session = two.sign_in(fixtures::another_user()).await;
    let began = two.monotonic.now();
    let mut revoking = begun(Box::pin(two.a.revoke_session.handle(revoke(&session)))).await;
    let b = &mut two.b.follower;
    while b.poll().await.unwrap().again {}
    assert_eq!((&mut revoking).await.unwrap().count, 1);
    drop(revoking);
    assert!(two.monotonic.now().0 - began.0 < MAX_STALENESS / 10, "once the peer has reported");
}

/// A peer whose node died stops delaying revocations; one that lives never does.
#[tokio::test]
async fn dead_peer_is_removed_and_a_live_one_is_not() {
    let two = TwoNodes::start().await;
    let feed =
        || MemoryRevocationFeed::new(two.database.clone(), two.leases.clone(), Uuid::from_u128(1));
    let state = two.a.revocation_state.clone();
    let commit_wait = Arc::new(CommitWait::new(Arc::new(feed()), two.monotonic.clone(), state));
    let mut monitor = PeerMonitor::new(Arc::new(feed()), two.monotonic.clone(), commit_wait);
    assert_eq!(monitor.remove_dead_peers().await.unwrap(), []);
    two.monotonic.advance(MAX_STALENESS * 10);
    assert_eq!(monitor.remove_dead_peers().await.unwrap(), [], "not too early");
    two.monotonic.advance(Duration::from_nanos(1));
    let mut two = two;
    two.b.follower.poll().await.unwrap();
    assert_eq!(monitor.remove_dead_peers().await.unwrap(), [], "it has reported meanwhile");
    two.monotonic.advance(MAX_STALENESS * 10 + Duration::from_nanos(1));
    let dead = monitor.remove_dead_peers().await.unwrap();
    assert_eq!(dead.iter().map(|peer| peer.node).collect::<Vec<_>>(), [Uuid::from_u128(2)]);
    // It was only cut off: it has to start again, and trusts nothing meanwhile.
    let polled = two.b.follower.poll().await.unwrap();
    assert_eq!(polled, Polled { again: true, is_reset: true, ..Polled::default() });
    let session = two.sign_in(fixtures::another_user()).await;
    layer(&two.b, &session).await;
    assert_eq!(layer(&two.b, &session).await, Layer::Database);
    two.b.follower.poll().await.unwrap();
    layer(&two.b, &session).await;
    assert_eq!(layer(&two.b, &session).await, Layer::Near);
}

/// However often a node polls meanwhile.
#[tokio::test]
async fn peer_that_stays_silent_is_removed() {
    let two = TwoNodes::start().await;
    let feed =
        || MemoryRevocationFeed::new(two.database.clone(), two.leases.clone(), Uuid::from_u128(1));
    let state = two.a.revocation_state.clone();
    let commit_wait = Arc::new(CommitWait::new(Arc::new(feed()), two.monotonic.clone(), state));
    let mut monitor = PeerMonitor::new(Arc::new(feed()), two.monotonic.clone(), commit_wait);
    for staleness in 0..=10 {
        assert_eq!(
            monitor.remove_dead_peers().await.unwrap(),
            [],
            "after {staleness} maximum stalenesses"
        );
        two.monotonic.advance(MAX_STALENESS);
    }
    assert_eq!(monitor.remove_dead_peers().await.unwrap().len(), 1);
    assert_eq!(monitor.remove_dead_peers().await.unwrap(), []);
}

/// A node that has polled a longer maximum staleness goes by it where the store cannot be asked,
/// and only there.
#[tokio::test]
async fn longest_staleness_is_waited_for_where_the_store_cannot_say_who_the_peers_are() {
    let mut two = TwoNodes::start().await;
    let patient =
        MemoryRevocationFeed::new(two.database.clone(), two.leases.clone(), Uuid::from_u128(9));
    let long = MAX_STALENESS * 8;
    assert!(two.a.longest_commit_wait() < long);
    patient.register(long).await.unwrap();
    let effective_in = async |two: &TwoNodes| {
        let session = two.sign_in(fixtures::another_user()).await;
        let command = RevokeSession { acknowledge: Acknowledge::Committed, ..revoke(&session) };
        let effective_by = two.a.revoke_session.handle(command).await.unwrap().effective_by;
        (effective_by.unwrap() - two.clock.now()).to_std().unwrap()
    };
    assert!(effective_in(&two).await > long);
    assert!(two.a.longest_commit_wait() > long);
    patient.leave().await.unwrap();
    // Until then a node may serve what it cached in an earlier life.
    two.monotonic.advance(long * 2);
    two.poll().await;
    assert!(effective_in(&two).await < long / 2, "the store says that it is gone");
    two.poll().await;
    let began = two.monotonic.now();
    two.database.take_down();
    let revoker_waits = CommitWait::new(
        Arc::new(MemoryRevocationFeed::new(
            two.database.clone(),
            two.leases.clone(),
            Uuid::from_u128(1),
        )),
        two.monotonic.clone(),
        two.a.revocation_state.clone(),
    );
    revoker_waits.wait(began).await;
    let waited = two.monotonic.now().0 - began.0;
    assert!(waited > MAX_STALENESS && waited < MAX_STALENESS * 2, "{waited:?}");
}

/// A lease is written where there is news, and twice per maximum staleness: not with each poll.
#[tokio::test]
async fn lease_is_not_written_with_each_poll() {
    let mut two = TwoNodes::start().await;
    let heartbeats = async |two: &TwoNodes| {
        let feed =
            MemoryRevocationFeed::new(two.database.clone(), two.leases.clone(), Uuid::from_u128(1));
        feed.peers(Duration::ZERO).await.unwrap().peers[0].heartbeats
    };
    two.poll().await;
    let before = heartbeats(&two).await;
    for _ in 0..100 {
        two.monotonic.advance(Duration::from_millis(10));
        two.b.follower.poll().await.unwrap();
    }
    assert_eq!(heartbeats(&two).await - before, 4, "in two maximum stalenesses");
}
