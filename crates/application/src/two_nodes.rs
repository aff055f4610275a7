//! The promise, held where it lives: two nodes on one in-memory database, with everything wired by [`Application::new`], and one
//! test per way round it. `docs/coherence.md` says what is promised.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use adapters_memory::{
    MemoryDatabase, MemoryEventOutbox, MemoryNodes, MemoryRevocationFeed, MemorySessionCache, MemorySessionRepository,
    MemorySessionRetention,
};
use chrono::TimeDelta;
use domain::coherence::Scope;
use domain::ports::{DeviceEnricher, Layer, SessionCache};
use domain::{Actor, Device, OnLimit, Session, SessionId, SessionPolicy, UserId};
use futures_util::FutureExt;
use testkit::{FixedClock, SequentialIds, SteppingClock, fixtures};
use uuid::Uuid;

use crate::commands::handlers::{Enrichers, RecordActivityError};
use crate::commands::{
    CreateSession, RecordActivity, RevokeAllUserSessions, RevokeEverybody, RevokeSession, RevokeSessions,
};
use crate::queries::GetSession;
use crate::{Acknowledge, Application, Policies, Ports};

const DELTA: Duration = Duration::from_millis(500);

struct NoDevices;

impl DeviceEnricher for NoDevices {
    fn device(&self, _: &str) -> Option<Device> {
        None
    }
}

/// Node `a` revokes; node `b` has cached what is revoked, and hears of it only when a test lets it.
struct TwoNodes {
    database: MemoryDatabase,
    shared: Arc<MemorySessionCache>,
    clock: Arc<FixedClock>,
    monotonic: Arc<SteppingClock>,
    a: Application,
    b: Application,
}

impl TwoNodes {
    async fn start() -> Self {
        let database = MemoryDatabase::default();
        let nodes = MemoryNodes::default();
        let shared = Arc::new(MemorySessionCache::new(1000, fixtures::clock()));
        let clock = fixtures::clock();
        let monotonic = Arc::new(SteppingClock::default());
        let ids = Arc::new(SequentialIds::default());
        let node = |n| {
            let ports = Ports {
                session_repo: Arc::new(MemorySessionRepository::new(database.clone())),
                near_cache: Some(Arc::new(MemorySessionCache::new(1000, clock.clone()))),
                shared_cache: Some(shared.clone()),
                revocation_feed: Arc::new(MemoryRevocationFeed::new(
                    database.clone(),
                    nodes.clone(),
                    Uuid::from_u128(n),
                )),
                event_outbox: Arc::new(MemoryEventOutbox::new(database.clone())),
                session_retention: Arc::new(MemorySessionRetention::new(database.clone())),
                enrichers: Enrichers { device: Arc::new(NoDevices), location: None },
                clock: clock.clone(),
                monotonic_clock: monotonic.clone(),
                ids: ids.clone(),
            };
            let sessions = SessionPolicy {
                lifetime: TimeDelta::days(30),
                idle_timeout: None,
                sliding: false,
                max_per_user: None,
                on_limit: OnLimit::EvictOldest,
            };
            let (activity_window, retention) = (TimeDelta::seconds(60), TimeDelta::days(30));
            Application::new(ports, Policies { sessions, activity_window, retention, delta: DELTA })
        };
        let (a, b) = (node(1), node(2));
        let two = Self { a, b, database, shared, clock, monotonic };
        two.a.guard.follow().await.unwrap();
        two.b.guard.follow().await.unwrap();
        two
    }

    async fn sign_in(&self, user: UserId) -> Session {
        self.a.create_session.handle(CreateSession::of(user)).await.unwrap().session
    }

    /// A session that both nodes serve from their near caches.
    async fn cached_session(&self) -> Session {
        let session = self.sign_in(fixtures::session().user_id).await;
        for node in [&self.a, &self.b] {
            layer(node, &session).await;
            assert_eq!(layer(node, &session).await, Layer::Near, "the fixture has to serve it from a cache");
        }
        session
    }

    /// Whether a node serves this session as live, from wherever it does.
    async fn serves_as_live(&self, node: &Application, session: &Session) -> bool {
        let query = GetSession { session_id: session.id, user_id: session.user_id };
        node.get_session.handle(query).await.is_ok_and(|result| !result.is_revoked)
    }

    /// No read that starts now reports the session as live, on any node, by any way to ask.
    async fn assert_is_live_nowhere(&self, session: &Session, what: &str) {
        for (name, node) in [("a", &self.a), ("b", &self.b)] {
            assert!(!self.serves_as_live(node, session).await, "{what}: node {name} serves it as live");
            let activity = node.record_activity.handle(activity(session.id)).await;
            assert!(
                matches!(activity, Err(RecordActivityError::SessionEnded)),
                "{what}: node {name} takes its activity: {activity:?}"
            );
        }
    }

    /// Revokes a session at node a, in one of the ways that there are, and returns once that is acknowledged.
    async fn revoke(&self, way: &str, session: &Session) {
        let (reason, actor, acknowledge) = (None, Actor::Service, Acknowledge::WhenFinal);
        let revoked = match way {
            "one" => self.a.revoke_session.handle(revoke(session)).await.map_err(|error| error.to_string()),
            "list" => {
                let command = RevokeSessions { session_ids: vec![session.id], reason, actor, acknowledge };
                self.a.revoke_sessions.handle(command).await.map_err(|error| error.to_string())
            }
            "user" => {
                let command = revoke_all_of(session.user_id);
                self.a.revoke_all_user_sessions.handle(command).await.map_err(|error| error.to_string())
            }
            "all" => {
                let command = RevokeEverybody { reason, actor, acknowledge };
                self.a.revoke_everybody.handle(command).await.map_err(|error| error.to_string())
            }
            other => panic!("there is no way to revoke by {other}"),
        };
        assert_eq!(revoked.map(|revoked| revoked.effective_by), Ok(None), "{way}");
    }

    /// Both nodes poll once.
    async fn poll(&self) {
        for node in [&self.a, &self.b] {
            node.guard.follow().await.unwrap();
        }
    }
}

fn activity(session_id: SessionId) -> RecordActivity {
    RecordActivity { session_id, ip_address: None }
}

async fn layer(node: &Application, session: &Session) -> Layer {
    let query = GetSession { session_id: session.id, user_id: session.user_id };
    node.get_session.find(query).await.unwrap().layer
}

fn revoke(session: &Session) -> RevokeSession {
    RevokeSession {
        session_id: session.id,
        owner: None,
        reason: None,
        actor: Actor::Service,
        acknowledge: Acknowledge::WhenFinal,
    }
}

fn revoke_all_of(user_id: UserId) -> RevokeAllUserSessions {
    RevokeAllUserSessions {
        user_id,
        except: None,
        reason: None,
        actor: Actor::Service,
        acknowledge: Acknowledge::WhenFinal,
    }
}

/// Runs a command up to its first wait, and returns it: what it does before that is done.
async fn begun<F: Future + Unpin>(mut command: F) -> F {
    assert!((&mut command).now_or_never().is_none(), "it acknowledges without a wait");
    command
}

#[tokio::test]
async fn session_is_served_as_live_nowhere_once_its_revocation_is_acknowledged() {
    let two = TwoNodes::start().await;
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
    let sign_in = CreateSession { max_sessions: NonZeroU32::new(1), ..CreateSession::of(session.user_id) };
    let created = two.a.create_session.handle(sign_in).await.unwrap();
    assert_eq!(created.evicted.len(), 1);
    two.assert_is_live_nowhere(&session, "evicted").await;
}

/// The client of the first attempt times out and repeats it; the answer to the repetition is an acknowledgement too.
#[tokio::test]
async fn repeated_sign_in_is_acknowledged_once_its_evictions_are_effective() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let sign_in = CreateSession {
        max_sessions: NonZeroU32::new(1),
        idempotency_key: Some("key".into()),
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

/// Another caller has revoked it a moment ago, and waits: the second revocation has to wait as well.
#[tokio::test]
async fn second_revocation_is_acknowledged_once_the_first_is_effective() {
    let two = TwoNodes::start().await;
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
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    // In the middle of the commit wait.
    drop(begun(Box::pin(two.a.revoke_all_user_sessions.handle(revoke_all_of(session.user_id)))).await);
    // Before anybody knows what became of the write.
    drop(two.a.guard.fence([Scope::Everybody]));
    let session = two.sign_in(fixtures::another_user()).await;
    for _ in 0..2 {
        assert_eq!(layer(&two.a, &session).await, Layer::Database, "the outcome is unknown until the next poll");
    }
    two.monotonic.advance(Duration::from_millis(1));
    two.poll().await;
    two.cached_session().await;
}

/// Before anybody has polled: the fence of the node that revokes does not let an old value pass.
#[tokio::test]
async fn node_that_has_revoked_serves_no_old_value_before_its_next_poll() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let query = GetSession { session_id: session.id, user_id: session.user_id };
    let before = two.b.get_session.find(query).await.unwrap().session;
    let command = RevokeSession { acknowledge: Acknowledge::WhenStored, ..revoke(&session) };
    assert!(two.a.revoke_session.handle(command).await.unwrap().effective_by.is_some());
    // Another node, which has not heard of it, writes what it has.
    two.shared.set(&before).await;
    assert!(!two.serves_as_live(&two.a, &session).await);
}

#[tokio::test]
async fn activity_of_a_revoked_session_is_not_written_any_more() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    two.a.record_activity.handle(activity(session.id)).await.unwrap();
    two.a.revoke_session.handle(revoke(&session)).await.unwrap();
    assert_eq!(two.a.record_activity.flush_all().await.unwrap(), 0);
}

/// A node's own fence: from before the write on it serves nothing of the user from its caches, and from the next poll on again.
#[tokio::test]
async fn node_that_revokes_stops_serving_from_its_caches_before_the_write() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let fence = two.a.guard.fence([Scope::Session(session.id)]);
    assert_eq!(layer(&two.a, &session).await, Layer::Database);
    assert_eq!(layer(&two.b, &session).await, Layer::Near, "the other node goes on until it hears of a revocation");
    fence.abort();
    assert_ne!(layer(&two.a, &session).await, Layer::Database, "nothing was written");
}

/// What a node cannot know it does not say.
#[tokio::test]
async fn node_that_cannot_poll_serves_nothing_from_its_caches_after_max_staleness() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    two.database.take_down();
    assert!(two.serves_as_live(&two.b, &session).await);
    assert!(two.b.guard.follow().await.is_err());
    two.monotonic.advance(DELTA);
    assert!(!two.serves_as_live(&two.b, &session).await);
    assert!(two.b.record_activity.handle(activity(session.id)).await.is_err());
}

/// Nothing that was revoked comes back from the shared cache, whenever a node read it.
#[tokio::test]
async fn value_that_was_read_before_a_revocation_is_not_served_after_it_from_any_cache() {
    let two = TwoNodes::start().await;
    let session = two.cached_session().await;
    let query = GetSession { session_id: session.id, user_id: session.user_id };
    let before = two.b.get_session.find(query).await.unwrap().session;
    two.a.revoke_session.handle(revoke(&session)).await.unwrap();
    two.poll().await;
    // A node that was paused between its read and its write to the caches.
    two.shared.set(&before).await;
    two.assert_is_live_nowhere(&session, "an old value").await;
    two.clock.advance(TimeDelta::seconds(1));
    two.assert_is_live_nowhere(&session, "an old value, later").await;
}
