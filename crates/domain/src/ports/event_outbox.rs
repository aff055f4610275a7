//! The event feed.

use async_trait::async_trait;

use super::PortError;
use crate::ids::{SessionId, UserId};
use crate::session_event::SessionEvent;

/// Which events to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those after this position; from the oldest that is kept, if zero.
    pub after: u64,
    /// The size of the page.
    pub limit: u32,
    /// Only those of this session.
    pub session_id: Option<SessionId>,
    /// Only those of this user's sessions.
    pub user_id: Option<UserId>,
}

/// Reads the events of sessions, in an order that all readers share.
///
/// The store writes an event in the same transaction as the change (a transactional outbox), for
/// any statement that makes the change. Each item below is a test of
/// `testkit::conformance::event_outbox`.
#[async_trait]
pub trait EventOutbox: Send + Sync {
    /// Returns events in ascending order of their positions.
    ///
    /// - `every_change_writes_its_event`: created, revoked, evicted, expired, renewed,
    ///   token_reused, once each; nothing else does.
    /// - `events_are_read_in_order_page_by_page`: each exactly once.
    /// - `no_event_is_lost_between_parallel_writers`: a reader that goes on from the last position
    ///   that it saw MUST see every event, in any order of commits.
    /// - `events_are_filtered_by_session_and_user`: the audit trail.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time; [`PortError::Corrupt`] if a
    /// row makes no sense.
    async fn events(&self, query: &EventQuery) -> Result<Vec<SessionEvent>, PortError>;

    /// Returns the position of the newest event; zero if there is none. A reader that goes on from
    /// it sees every change that is committed later.
    ///
    /// - `newest_position_is_where_a_reader_of_later_events_begins`
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time.
    async fn newest_position(&self) -> Result<u64, PortError>;
}
