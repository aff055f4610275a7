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
    /// The truth: [`SessionRepository`](super::SessionRepository).
    Database,
}

/// A session that a cache had, with the layer that had it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedSession {
    /// The session, without its user agent.
    pub session: Arc<Session>,
    /// What the read that found it had seen.
    pub version: ReadVersion,
    /// Which cache served it.
    pub layer: Layer,
}

/// Caches sessions, so that reading one need not ask
/// [`SessionRepository`](super::SessionRepository).
///
/// A cache cannot fail: one that is slow, full, down or holds rubbish is a cache that does not
/// know. That is why no method returns an error; an adapter counts and logs its failures itself,
/// and returns within a fixed budget of milliseconds.
///
/// - `set_then_get_returns_the_session`: what was set MUST be returned equal in every field but the
///   user agent, the metadata and the idempotency key, which a cache MUST leave out (they are
///   large, and no read that a cache serves shows them).
/// - `set_then_get_returns_the_read_version`: exactly. Without it no node may serve the session.
/// - `unknown_session_is_a_miss`
/// - `another_user_is_a_miss`: look-ups are by session *and* user; a stranger's probe MUST look
///   like an unknown id, and MUST leave the owner's entry as it was.
/// - `later_set_replaces_earlier`
/// - `revoked_session_is_never_cached`: `set` MUST ignore a session that is revoked.
/// - `removed_session_is_a_miss`
/// - `expired_session_is_a_miss`: what a cache knows of a session's use may be old, so whether
///   it has expired is for the database to say.
#[async_trait]
pub trait SessionCache: Send + Sync {
    /// Returns the session, if it is cached for this user.
    async fn get(&self, session_id: SessionId, user_id: UserId) -> Option<CachedSession>;

    /// Caches the session for its owner, with what the read that found it had seen. Best effort.
    async fn set(&self, session: &Arc<Session>, version: &ReadVersion);

    /// Removes sessions. Best effort.
    async fn remove(&self, sessions: &[SessionKey]);
}
