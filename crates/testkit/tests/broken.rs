//! Adapters that are broken, as those that are being written are, and the suites that have to say
//! so within seconds.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::coherence::{Incarnation, SessionRead};
use domain::ports::{
    EventOutbox, EventQuery, Insertion, LogPosition, Peer, Peers, Poll, PortError, RevocationFeed,
    SearchPage, SessionEdit, SessionKey, SessionListing, SessionPage, SessionRepository,
    SessionRetention, SessionSearch, TokenRotation,
};
use domain::{
    Revocation, Session, SessionEvent, SessionId, SessionLimit, TokenHash, Touch, UserId,
};
use testkit::conformance::{Stores, TwoNodes};
use testkit::memory::{MemoryDatabase, MemoryEventOutbox, MemorySessionRepository};

/// Refuses every call.
struct Refusing;

fn refused<T>() -> Result<T, PortError> {
    Err(PortError::Unavailable("this adapter is not written yet".into()))
}

#[async_trait::async_trait]
impl SessionRepository for Refusing {
    async fn find_by_id(&self, _: SessionId) -> Result<Option<SessionRead>, PortError> {
        refused()
    }

    async fn insert(&self, _: &Session, _: Option<SessionLimit>) -> Result<Insertion, PortError> {
        refused()
    }

    async fn list_by_user(&self, _: &SessionListing) -> Result<SessionPage, PortError> {
        refused()
    }

    async fn search(&self, _: &SessionSearch) -> Result<SearchPage, PortError> {
        refused()
    }

    async fn find_by_idempotency_key(
        &self,
        _: UserId,
        _: &str,
    ) -> Result<Option<Session>, PortError> {
        refused()
    }

    async fn edit(&self, _: SessionId, _: &SessionEdit) -> Result<Option<Session>, PortError> {
        refused()
    }

    async fn rotate_token(&self, _: SessionId, _: &TokenRotation) -> Result<bool, PortError> {
        refused()
    }

    async fn mark_token_reused(
        &self,
        _: SessionId,
        _: &TokenHash,
        _: DateTime<Utc>,
    ) -> Result<bool, PortError> {
        refused()
    }

    async fn touch(&self, _: &[Touch]) -> Result<(), PortError> {
        refused()
    }

    async fn import(&self, _: &[Session]) -> Result<u64, PortError> {
        refused()
    }

    async fn revoke(&self, _: &[SessionId], _: &Revocation) -> Result<Vec<SessionKey>, PortError> {
        refused()
    }

    async fn revoke_all_of_user(
        &self,
        _: UserId,
        _: Option<SessionId>,
        _: u32,
        _: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        refused()
    }

    async fn revoke_all_sessions(
        &self,
        _: Option<SessionId>,
        _: u32,
        _: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        refused()
    }
}

#[async_trait::async_trait]
impl EventOutbox for Refusing {
    async fn events(&self, _: &EventQuery) -> Result<Vec<SessionEvent>, PortError> {
        refused()
    }

    async fn newest_position(&self) -> Result<u64, PortError> {
        refused()
    }
}

#[async_trait::async_trait]
impl SessionRetention for Refusing {
    async fn mark_expired(&self, _: DateTime<Utc>, _: u32) -> Result<u64, PortError> {
        refused()
    }

    async fn delete_terminated(&self, _: DateTime<Utc>, _: u32) -> Result<u64, PortError> {
        refused()
    }

    async fn delete_events(&self, _: DateTime<Utc>, _: u32) -> Result<u64, PortError> {
        refused()
    }

    async fn backlog(&self, _: DateTime<Utc>, _: DateTime<Utc>, _: u32) -> Result<u64, PortError> {
        refused()
    }
}

#[async_trait::async_trait]
impl RevocationFeed for Refusing {
    async fn register(&self, _: Duration) -> Result<(), PortError> {
        refused()
    }

    async fn poll(&self, _: Option<&LogPosition>, _: bool) -> Result<Option<Poll>, PortError> {
        refused()
    }

    async fn peers(&self, _: Duration) -> Result<Peers, PortError> {
        refused()
    }

    async fn remove_peer(&self, _: &Peer) -> Result<(), PortError> {
        refused()
    }

    async fn end_incarnation(&self, _: Incarnation) -> Result<(), PortError> {
        refused()
    }

    async fn leave(&self) -> Result<(), PortError> {
        refused()
    }

    async fn prune(&self, _: u32) -> Result<u64, PortError> {
        refused()
    }
}

fn refusing_stores() -> Stores {
    Stores {
        sessions: Arc::new(Refusing),
        events: Arc::new(Refusing),
        retention: Arc::new(Refusing),
        feed: Arc::new(Refusing),
    }
}

async fn stores() -> ((), Arc<Stores>) {
    ((), Arc::new(refusing_stores()))
}

testkit::session_repository_contract!(async { ((), Arc::new(Refusing)) }, must_fail);

testkit::event_outbox_contract!(stores(), must_fail);

testkit::revocation_feed_contract!(stores(), must_fail);

testkit::revocation_feed_of_two_nodes_contract!(
    async {
        ((), Arc::new(TwoNodes { stores: refusing_stores(), other_feed: Arc::new(Refusing) }))
    },
    must_fail
);

testkit::session_retention_contract!(stores(), must_fail);

/// Ignores the cursor of every page: it begins at the beginning again.
struct IgnoresCursors(MemorySessionRepository, MemoryEventOutbox);

impl IgnoresCursors {
    fn new() -> Self {
        let database = MemoryDatabase::default();
        Self(MemorySessionRepository::new(database.clone()), MemoryEventOutbox::new(database))
    }
}

#[async_trait::async_trait]
impl SessionRepository for IgnoresCursors {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<SessionRead>, PortError> {
        self.0.find_by_id(session_id).await
    }

    async fn insert(
        &self,
        session: &Session,
        limit: Option<SessionLimit>,
    ) -> Result<Insertion, PortError> {
        self.0.insert(session, limit).await
    }

    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError> {
        self.0.list_by_user(&SessionListing { after: None, ..*listing }).await
    }

    async fn search(&self, search: &SessionSearch) -> Result<SearchPage, PortError> {
        self.0.search(&SessionSearch { after: None, ..search.clone() }).await
    }

    async fn find_by_idempotency_key(
        &self,
        user_id: UserId,
        key: &str,
    ) -> Result<Option<Session>, PortError> {
        self.0.find_by_idempotency_key(user_id, key).await
    }

    async fn edit(
        &self,
        session_id: SessionId,
        edit: &SessionEdit,
    ) -> Result<Option<Session>, PortError> {
        self.0.edit(session_id, edit).await
    }

    async fn rotate_token(
        &self,
        id: SessionId,
        rotation: &TokenRotation,
    ) -> Result<bool, PortError> {
        self.0.rotate_token(id, rotation).await
    }

    async fn mark_token_reused(
        &self,
        id: SessionId,
        hash: &TokenHash,
        at: DateTime<Utc>,
    ) -> Result<bool, PortError> {
        self.0.mark_token_reused(id, hash, at).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), PortError> {
        self.0.touch(touches).await
    }

    async fn import(&self, sessions: &[Session]) -> Result<u64, PortError> {
        self.0.import(sessions).await
    }

    async fn revoke(
        &self,
        ids: &[SessionId],
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        self.0.revoke(ids, revocation).await
    }

    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        self.0.revoke_all_of_user(user_id, except, limit, revocation).await
    }

    async fn revoke_all_sessions(
        &self,
        _: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        // It never gets any further, as if nothing had been revoked.
        let revoked = self.0.revoke_all_sessions(None, limit, revocation).await?;
        let key =
            |read: SessionRead| SessionKey { id: read.session.id, user_id: read.session.user_id };
        let first = self.0.find_by_id(testkit::fixtures::session_number(1).id).await?.map(key);
        Ok(if revoked.is_empty() { first.into_iter().collect() } else { revoked })
    }
}

#[async_trait::async_trait]
impl EventOutbox for IgnoresCursors {
    async fn events(&self, query: &EventQuery) -> Result<Vec<SessionEvent>, PortError> {
        self.1.events(&EventQuery { after: 0, ..*query }).await
    }

    async fn newest_position(&self) -> Result<u64, PortError> {
        self.1.newest_position().await
    }
}

#[test]
fn pages_that_repeat_themselves_are_reported() {
    use testkit::conformance::{assert_fails, event_outbox, session_repository};

    assert_fails("sessions_are_listed", || async {
        session_repository::sessions_are_listed_newest_first_page_by_page(&IgnoresCursors::new())
            .await;
    });
    assert_fails("all_sessions_are_revoked", || async {
        session_repository::all_sessions_are_revoked_batch_by_batch(&IgnoresCursors::new()).await;
    });
    let stores = || {
        let adapter = IgnoresCursors::new();
        let events = Arc::new(IgnoresCursors(MemorySessionRepository::default(), adapter.1));
        Stores { sessions: Arc::new(adapter.0), events, ..refusing_stores() }
    };
    assert_fails("events_are_read", move || async move {
        event_outbox::events_are_read_in_order_page_by_page(&stores()).await;
    });
    assert_fails("no_event_is_lost", move || async move {
        event_outbox::no_event_is_lost_between_parallel_writers(&stores()).await;
    });
}
