//! Expires and deletes sessions and events.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::PortError;

/// Deletes expired and revoked sessions after their retention (purges them), a batch at a time.
///
/// Several nodes may do so concurrently. Each item below is a test of
/// `testkit::conformance::session_retention`.
///
/// - `parallel_cleaners_share_the_work`: none waits for another, and nothing is done twice.
/// - `batches_are_bounded_and_the_backlog_is_counted`
#[async_trait]
pub trait SessionRetention: Send + Sync {
    /// Marks at most `limit` sessions expired that had expired at `now`. Returns how many.
    ///
    /// - `expired_sessions_are_marked_once`: those whose [`ends_at`](crate::Session::ends_at) has
    ///   passed, except revoked ones; each with its event.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time; doing it again is safe.
    async fn mark_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// Deletes at most `limit` sessions that were terminated at `by` or before. Returns how many.
    ///
    /// - `terminated_sessions_are_deleted_after_their_retention`: live sessions, and expired ones
    ///   that are not marked so yet, MUST stay.
    /// - `revoked_and_deleted_session_is_not_imported_again`: another system may still have it as
    ///   live, until its lifetime has passed.
    ///
    /// # Errors
    /// As for [`mark_expired`](Self::mark_expired).
    async fn delete_terminated(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// Deletes at most `limit` of the oldest events that were written at `by` or before. Returns
    /// how many.
    ///
    /// - `old_events_are_deleted_and_positions_are_not_used_again`
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
