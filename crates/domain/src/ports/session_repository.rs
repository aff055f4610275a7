//! Where sessions are stored.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::PortError;
use crate::activity::Touch;
use crate::coherence::SessionRead;
use crate::ids::{SessionId, UserId};
use crate::metadata::Metadata;
use crate::policy::SessionLimit;
use crate::session::{Revocation, Session};

/// Where a page of a list ends: the next one begins with what is older. Sessions are listed newest
/// first, those of the same time by descending id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPosition {
    /// `created_at` of the page's last session.
    pub created_at: DateTime<Utc>,
    /// Its id.
    pub id: SessionId,
}

/// Which of a user's sessions to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionListing {
    /// Whose.
    pub user_id: UserId,
    /// The time at which a session counts as live.
    pub now: DateTime<Utc>,
    /// Only those that are live then.
    pub active_only: bool,
    /// At most so many.
    pub limit: u32,
    /// Only those after this position; from the newest, if absent.
    pub after: Option<ListPosition>,
}

/// How far a list counts: a count of this many stands for this many or more, so that a user with
/// very many sessions costs others nothing.
pub const MAX_COUNTED: u64 = 10_000;

/// A page of a user's sessions, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPage {
    /// Newest first.
    pub sessions: Vec<Session>,
    /// All of the user's, in any state and independent of the page; at most [`MAX_COUNTED`].
    pub total_count: u64,
    /// Those that are live; at most [`MAX_COUNTED`].
    pub active_count: u64,
}

/// What identifies a session in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionKey {
    /// Its id.
    pub id: SessionId,
    /// Its owner.
    pub user_id: UserId,
}

/// What became of a new session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is stored; these were evicted.
    Stored {
        /// The oldest ones first.
        evicted: Vec<SessionKey>,
    },
    /// The user has all the sessions that are allowed, and the limit says to refuse more.
    LimitReached,
}

/// What an edit can change of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EditableFields {
    /// The user's own name for the device.
    pub name: Option<String>,
    /// The backend's metadata.
    pub metadata: Option<Metadata>,
}

impl EditableFields {
    /// Returns those of a session.
    pub fn of(session: &Session) -> Self {
        Self {
            name: session.name.as_deref().map(str::to_owned),
            metadata: session.metadata.as_deref().cloned(),
        }
    }
}

/// What is to be changed of what people keep with a session; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionEdit {
    /// The user's own name for the device; `Some(None)` takes it away.
    pub name: Option<Option<String>>,
    /// The backend's metadata, as a whole; `Some(None)` takes it away.
    pub metadata: Option<Option<Metadata>>,
    /// Changes nothing unless the session has exactly these then: no update is lost
    /// between two editors.
    pub only_if: Option<EditableFields>,
}

/// The truth about sessions.
///
/// - `inserted_session_is_found`: what was inserted MUST be found equal in every field, to the
///   microsecond.
/// - `unknown_session_is_none`
/// - `second_insert_of_an_id_is_a_conflict`: ids are never reused; the first row MUST stay as it
///   was.
/// - `absent_fields_stay_absent`
/// - `revoked_session_is_found_revoked`: a revoked session MUST be found with its time and reason,
///   not hidden.
/// - `text_is_kept_verbatim`: quotes, emoji and line breaks are data.
/// - `parallel_inserts_of_one_id_leave_one_row`
/// - `limit_evicts_the_oldest_live_sessions`: exactly as many as it takes, with
///   [`SessionLimit::eviction`].
/// - `limit_that_denies_stores_nothing`
/// - `parallel_sign_ins_never_exceed_the_limit`: at no time that a reader can observe.
/// - `sessions_are_listed_newest_first_page_by_page`: each exactly once, those of the same time
///   too.
/// - `counts_and_active_only_leave_out_what_is_over`: neither revoked nor expired sessions are
///   active.
/// - `list_has_no_session_of_another_user`
/// - `revoked_sessions_are_returned_once`: `revoke` MUST return those that it revoked, not those
///   that were revoked already.
/// - `first_revocation_is_kept`: time, reason and actor of a revocation MUST never change.
/// - `revoke_all_spares_exactly_the_excepted_session`
/// - `all_sessions_are_revoked_batch_by_batch`: each session once, in ascending order of ids.
/// - `idle_session_is_neither_active_nor_counted_against_a_limit`
/// - `touches_move_activity_and_never_back`: as [`Session::touch`] says, for each of them by
///   itself.
/// - `touches_do_not_wake_what_is_over`: revoked, expired or idle at the first use; nor do unknown
///   ids matter.
/// - `a_sliding_session_is_renewed_by_touches`
/// - `edits_change_what_they_name`: and return the session as it is afterwards.
/// - `conditional_edits_change_what_they_expect_and_nothing_else`: of parallel ones that expect the
///   same, one MUST win.
/// - `counts_stop_at_the_bound`
/// - `an_idempotency_key_is_taken_once_by_a_user`: a second insert with it MUST be a conflict, and
///   the first one be found by it.
/// - `imports_add_missing_sessions_and_their_revocations`: what is here already MUST stay as it
///   is, but for a revocation that only the import knows of.
/// - `random_commands_do_what_a_small_model_does`
#[async_trait]
pub trait SessionRepository: Send + Sync {
    /// Returns the session with this id, in any state, and what the read had seen.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time; [`PortError::Corrupt`] if
    /// the row makes no sense.
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<SessionRead>, PortError>;

    /// Stores a new session, within a limit on the user's live ones. The time is the session's
    /// `created_at`.
    ///
    /// MUST be one atomic statement or transaction that a caller who goes away cannot leave half
    /// done.
    ///
    /// # Errors
    /// [`PortError::Conflict`] if the id is taken; [`PortError::Unavailable`] if nothing was
    /// stored, because the store could not be asked or refused; [`PortError::OutcomeUnknown`] if it
    /// was asked and did not respond, in which case all of it has happened or nothing.
    async fn insert(
        &self,
        session: &Session,
        limit: Option<SessionLimit>,
    ) -> Result<Insertion, PortError>;

    /// Returns a page of a user's sessions.
    ///
    /// # Errors
    /// As for [`find_by_id`](Self::find_by_id).
    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError>;

    /// Returns the session that this user's sign-in with this idempotency key made.
    ///
    /// # Errors
    /// As for [`find_by_id`](Self::find_by_id).
    async fn find_by_idempotency_key(
        &self,
        user_id: UserId,
        key: &str,
    ) -> Result<Option<Session>, PortError>;

    /// Changes what people keep with a session, and returns it as it is then; `None` if there is
    /// none, or if it does not have what [`SessionEdit::only_if`] expects.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn edit(
        &self,
        session_id: SessionId,
        edit: &SessionEdit,
    ) -> Result<Option<Session>, PortError>;

    /// Records activity of sessions: [`Session::touch`] for each. At most one touch a
    /// session.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn touch(&self, touches: &[Touch]) -> Result<(), PortError>;

    /// Stores sessions of another system, of any age and state, and returns how many were not
    /// here yet.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn import(&self, sessions: &[Session]) -> Result<u64, PortError>;

    /// Revokes those of these sessions that are not revoked yet, and returns them. Unknown ids are
    /// ignored.
    ///
    /// # Errors [`PortError::Unavailable`] if none was revoked, because the store could not be
    /// asked or refused; [`PortError::OutcomeUnknown`] if it was asked and did not respond, in
    /// which case all of it has happened or nothing; doing it again is safe.
    async fn revoke(
        &self,
        session_ids: &[SessionId],
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError>;

    /// Revokes at most `limit` sessions of the user that are not revoked yet, but `except`, and
    /// returns them.
    ///
    /// MUST write an entry about the user to the revocation log, also if there is no such
    /// session.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError>;

    /// Revokes at most `limit` sessions that are not revoked yet, of those whose ids are greater
    /// than `after`, and returns them by ascending id.
    ///
    /// MUST write an entry about all users to the revocation log where `after` is `None`, also
    /// if there is no session.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn revoke_all_sessions(
        &self,
        after: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError>;
}
