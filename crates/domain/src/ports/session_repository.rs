use async_trait::async_trait;

use super::PortError;
use crate::{Session, SessionId};

/// The truth about sessions.
///
/// - `inserted_session_is_found`: what was inserted MUST be found equal in every field, to the microsecond.
/// - `unknown_session_is_none`
/// - `second_insert_of_an_id_is_a_conflict`: ids are never reused; the first row MUST stay as it was.
/// - `absent_fields_stay_absent`
/// - `revoked_session_is_found_revoked`: an ended session MUST be found with its time and reason, not hidden.
/// - `text_is_kept_verbatim`: quotes, emoji and line breaks are data.
/// - `parallel_inserts_of_one_id_leave_one_row`
#[async_trait]
pub trait SessionRepository: Send + Sync {
    /// The session with this id, in whatever state it is.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer in time; [`PortError::Corrupt`] if the row makes no sense.
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<Session>, PortError>;

    /// Stores a new session. MUST be one atomic statement or transaction that a caller who goes away cannot leave half done.
    ///
    /// # Errors
    /// [`PortError::Conflict`] if the id is taken; [`PortError::Unavailable`] if the store did not answer in time, in which
    /// case the row may or may not be there.
    async fn insert(&self, session: &Session) -> Result<(), PortError>;
}
