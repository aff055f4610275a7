//! Expires and deletes sessions and events.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::PortError;

/// Purges expired and revoked sessions, a batch at a time. Several nodes may do so at once: none
/// waits for another, and nothing is done twice.
///
/// - `sessions_over_by_time_are_noted_once`: those whose [`ends_at`](crate::Session::ends_at) has
///   come, revoked ones aside; each with its event.
/// - `ended_sessions_are_deleted_after_their_retention`: by when they ended; live ones, and ones
///   whose end was not noted yet, MUST stay.
/// - `revoked_and_deleted_session_is_not_imported_again`: another system may still have it as live,
///   until its lifetime has passed.
/// - `old_events_are_deleted_and_positions_are_not_used_again`
/// - `batches_are_bounded_and_the_backlog_is_counted`
/// - `parallel_cleaners_share_the_work`
#[async_trait]
pub trait SessionRetention: Send + Sync {
    /// Notes the end of at most `limit` sessions whose time was over at `now`. Answers how many.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer in time; doing it again is safe.
    async fn note_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// Deletes at most `limit` sessions that had ended by then, and whose end was noted. Answers
    /// how many.
    ///
    /// # Errors
    /// As for [`note_expired`](Self::note_expired).
    async fn delete_ended(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// Deletes at most `limit` of the oldest events, of those that were written by then. Answers
    /// how many.
    ///
    /// # Errors
    /// As for [`note_expired`](Self::note_expired).
    async fn delete_events(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError>;

    /// How many sessions wait to be noted as over, or to be deleted; not counted beyond `limit`.
    ///
    /// # Errors
    /// As for [`note_expired`](Self::note_expired).
    async fn backlog(
        &self,
        now: DateTime<Utc>,
        ended_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, PortError>;
}
