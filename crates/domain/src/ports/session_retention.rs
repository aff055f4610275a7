//! Expires and deletes sessions and events.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::PortError;

/// Purges expired and revoked sessions, a batch at a time. Several nodes may do so at once: none
/// waits for another, and nothing is done twice.
///
/// - `expired_sessions_are_marked_once`: those whose [`ends_at`](crate::Session::ends_at) has
///   come, revoked ones aside; each with its event.
/// - `ended_sessions_are_deleted_after_their_retention`: by when they were terminated; live ones,
///   and ones whose end was not noted yet, MUST stay.
/// - `revoked_and_deleted_session_is_not_imported_again`: another system may still have it as live,
///   until its lifetime has passed.
/// - `old_events_are_deleted_and_positions_are_not_used_again`
/// - `batches_are_bounded_and_the_backlog_is_counted`
/// - `parallel_cleaners_share_the_work`
#[async_trait]
pub trait SessionRetention: Send + Sync {
    /// Marks at most `limit` sessions expired that had expired at `now`. Returns how many.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time; doing it again is safe.
    async fn mark_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// Deletes at most `limit` sessions that were terminated by then, and marked so. Returns
    /// how many.
    ///
    /// # Errors
    /// As for [`mark_expired`](Self::mark_expired).
    async fn delete_ended(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// Deletes at most `limit` of the oldest events, of those that were written by then. Returns
    /// how many.
    ///
    /// # Errors
    /// As for [`mark_expired`](Self::mark_expired).
    async fn delete_events(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// Returns how many sessions wait to be marked expired, or to be deleted; not counted beyond
    /// `limit`.
    ///
    /// # Errors
    /// As for [`mark_expired`](Self::mark_expired).
    async fn backlog(
        &self,
        now: DateTime<Utc>,
        terminated_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, PortError>;
}
