//! Where sessions are cached.

use std::sync::Arc;

use async_trait::async_trait;

use super::SessionKey;
use crate::coherence::ReadVersion;
use crate::ids::{SessionId, UserId};
use crate::session::Session;

/// Where a read was served from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// A cache in this process.
    Near,
    /// A cache that several processes share.
    Shared,
    /// The system of record: [`SessionRepository`](super::SessionRepository).
    Database,
}

/// A session that a cache had, with the layer that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedSession {
    /// The session, without its user agent, metadata and idempotency key.
    pub session: Arc<Session>,
    /// The version of the read that found it.
    pub version: ReadVersion,
    /// Which cache served it.
    pub layer: Layer,
}

/// Caches sessions, so that most reads do not reach
/// [`SessionRepository`](super::SessionRepository).
///
/// A cache cannot fail: one that is slow, full, down or corrupted has misses. So no method returns
/// an error. An adapter counts and logs its failures itself, and returns within a fixed budget of
/// milliseconds. Each item below is a test of `testkit::conformance::session_cache`.
#[async_trait]
pub trait SessionCache: Send + Sync {
    /// Returns the session, if it is cached for this user.
    ///
    /// - `unknown_session_is_a_miss`
    /// - `another_user_is_a_miss`: a stranger's look-up MUST be the same as one of an unknown id,
    ///   and MUST leave the owner's entry as it was.
    /// - `expired_session_is_a_miss`: the activity that a cache has may be old, so whether a
    ///   session has expired is for the database to decide.
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession>;

    /// Caches the session for its owner, with the version of the read that found it. Best effort.
    ///
    /// - `set_then_get_returns_the_session`: equal in every field but the user agent, the metadata
    ///   and the idempotency key, which a cache MUST leave out (they are large, and no read that a
    ///   cache serves shows them).
    /// - `set_then_get_returns_the_read_version`: exactly. Without it no node may serve the
    ///   session.
    /// - `later_set_replaces_earlier`
    /// - `revoked_session_is_never_cached`: a revoked session MUST be ignored.
    async fn set(&self, session: &Arc<Session>, version: &ReadVersion);

    /// Removes sessions. Best effort.
    ///
    /// - `removed_session_is_a_miss`
    async fn remove(&self, sessions: &[SessionKey]);
}
