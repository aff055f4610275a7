//! Where sessions are stored.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{PortError, SearchPage, SessionSearch};
use crate::activity::Touch;
use crate::coherence::SessionRead;
use crate::ids::{SessionId, UserId};
use crate::metadata::Metadata;
use crate::policy::SessionLimit;
use crate::session::{Revocation, Session};
use crate::session_token::TokenHash;

/// The last session of a page; the next page starts after it. Sessions are listed newest first,
/// those of the same time by descending id.
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
    /// Their owner.
    pub user_id: UserId,
    /// The time at which a session counts as live.
    pub now: DateTime<Utc>,
    /// Only those that are live then.
    pub active_only: bool,
    /// The size of the page.
    pub limit: u32,
    /// Only those after this position; from the newest, if absent.
    pub after: Option<ListPosition>,
}

/// The largest count that is returned; it means "this many or more", and bounds the cost of
/// counting.
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

/// The outcome of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Insertion {
    /// It is stored, after evicting `evicted`.
    Stored {
        /// The oldest ones first.
        evicted: Vec<SessionKey>,
    },
    /// The user is at the limit, and the policy refuses new sessions.
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
    /// Returns the editable fields of a session.
    pub fn of(session: &Session) -> Self {
        Self {
            name: session.name.as_deref().map(str::to_owned),
            metadata: session.metadata.as_deref().cloned(),
        }
    }
}

/// A change of the editable fields of a session; a field that is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionEdit {
    /// The user's own name for the device; `Some(None)` removes it.
    pub name: Option<Option<String>>,
    /// The backend's metadata, as a whole; `Some(None)` removes it.
    pub metadata: Option<Option<Metadata>>,
    /// Applies the edit only if the current fields equal these (optimistic locking).
    pub only_if: Option<EditableFields>,
}

/// A new session token in place of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRotation {
    /// The hash of the new token.
    pub hash: TokenHash,
    /// When it is issued.
    pub at: DateTime<Utc>,
    /// Changes nothing unless this is the current token: of parallel rotations, one wins.
    pub only_if: Option<TokenHash>,
}

/// Stores sessions: the system of record. Caches hold copies of what is here.
///
/// A new adapter needs three things: this trait, `testkit::conformance::session_repository` in its
/// tests, and a [`RevocationFeed`](super::RevocationFeed) over the same data. Each list item in the
/// comment of a method names a test of that suite.
/// `random_commands_do_what_a_small_model_does` compares the common methods with a model.
///
/// Every write is one atomic statement or transaction: a cancelled call cannot leave it half
/// done. On an error of a write, [`PortError::Unavailable`] means that nothing was changed, and
/// [`PortError::OutcomeUnknown`] that either everything was changed or nothing.
#[async_trait]
pub trait SessionRepository: Send + Sync {
    /// Returns the session with this id, in any state, with the read version; `None` if there is
    /// no such row.
    ///
    /// - `inserted_session_is_found`: it MUST be equal in every field, to the microsecond.
    /// - `absent_fields_stay_absent`
    /// - `text_is_kept_verbatim`: quotes, emoji and line breaks are data.
    /// - `unknown_session_is_none`
    /// - `revoked_session_is_found_revoked`: with its time and reason; it MUST NOT be hidden.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time; [`PortError::Corrupt`] if
    /// the row makes no sense.
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<SessionRead>, PortError>;

    /// Stores a new session and evicts those that exceed `limit`, as of the session's `created_at`.
    ///
    /// - `second_insert_of_an_id_is_a_conflict`: ids are never used again, and the first row MUST
    ///   stay as it was.
    /// - `parallel_inserts_of_one_id_leave_one_row`
    /// - `an_idempotency_key_is_taken_once_by_a_user`: a second insert with it MUST be a conflict.
    /// - `limit_evicts_the_oldest_live_sessions`: no more than necessary, with
    ///   [`Revocation::eviction`].
    /// - `limit_that_denies_stores_nothing`
    /// - `parallel_sign_ins_never_exceed_the_limit`: at no time that a reader can observe.
    /// - `idle_session_is_neither_active_nor_counted_against_a_limit`
    ///
    /// # Errors
    /// [`PortError::Conflict`] if the id or the idempotency key is taken; else as for
    /// [`revoke`](Self::revoke).
    async fn insert(
        &self,
        session: &Session,
        limit: Option<SessionLimit>,
    ) -> Result<Insertion, PortError>;

    /// Returns a page of a user's sessions, and how many there are.
    ///
    /// - `sessions_are_listed_newest_first_page_by_page`: each exactly once, also those of the
    ///   same time.
    /// - `list_has_no_session_of_another_user`
    /// - `counts_and_active_only_leave_out_terminated_sessions`: revoked and expired sessions are
    ///   not active.
    /// - `counts_stop_at_the_bound`
    ///
    /// # Errors
    /// As for [`find_by_id`](Self::find_by_id).
    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError>;

    /// Returns a page of the sessions that an operator searches for, of all users. The time that it
    /// takes is bounded by [`SessionSearch::max_examined`], however many sessions there are.
    ///
    /// - `search_finds_what_matches_newest_first_page_by_page`: each exactly once.
    /// - `search_filters_by_each_field_as_the_domain_does`: see
    ///   [`SessionFilter::matches`](super::SessionFilter::matches).
    /// - `search_stops_at_its_bound_and_goes_on_from_there`
    ///
    /// # Errors
    /// As for [`find_by_id`](Self::find_by_id).
    async fn search(&self, search: &SessionSearch) -> Result<SearchPage, PortError>;

    /// Returns the session that this user's sign-in with this idempotency key made; `None` if there
    /// was no such sign-in.
    ///
    /// # Errors
    /// As for [`find_by_id`](Self::find_by_id).
    async fn find_by_idempotency_key(
        &self,
        user_id: UserId,
        key: &str,
    ) -> Result<Option<Session>, PortError>;

    /// Changes the name or the metadata of a session, and returns the session as it is then; `None`
    /// if there is no such session, or if it does not have what [`SessionEdit::only_if`] expects.
    ///
    /// - `edits_change_what_they_name`: and nothing else.
    /// - `conditional_edits_change_what_they_expect_and_nothing_else`: of parallel ones that expect
    ///   the same, one MUST win.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn edit(
        &self,
        session_id: SessionId,
        edit: &SessionEdit,
    ) -> Result<Option<Session>, PortError>;

    /// Gives a live session a new token: see [`SessionTokens`](crate::SessionTokens). Returns
    /// whether it did: a session that is unknown or terminated at [`TokenRotation::at`] gets none,
    /// and neither does one whose token is not [`TokenRotation::only_if`].
    ///
    /// MUST write an entry about the session to the revocation log: caches hold the token before.
    ///
    /// - `rotation_replaces_the_token`: the first token of a session replaces none.
    /// - `terminated_session_gets_no_token`
    /// - `conditional_rotation_replaces_the_expected_token_only`: of parallel ones that expect the
    ///   same token, one MUST win.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn rotate_token(
        &self,
        session_id: SessionId,
        rotation: &TokenRotation,
    ) -> Result<bool, PortError>;

    /// Marks that the replaced token with this hash was used at `at`, after its grace. Returns
    /// whether this is the first such use since the rotation, and of a session that is not revoked.
    ///
    /// - `token_reuse_is_marked_once_per_rotation`: with its event.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn mark_token_reused(
        &self,
        session_id: SessionId,
        hash: &TokenHash,
        at: DateTime<Utc>,
    ) -> Result<bool, PortError>;

    /// Applies [`Session::touch`] to each of these sessions. At most one touch per session.
    ///
    /// - `touches_move_activity_and_never_back`: each session by itself.
    /// - `touches_do_not_wake_terminated_sessions`: sessions that were revoked, expired or idle at
    ///   the first activity stay so; unknown ids are ignored.
    /// - `a_sliding_session_is_renewed_by_touches`
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn touch(&self, touches: &[Touch]) -> Result<(), PortError>;

    /// Stores sessions of another system, of any age and state. Returns how many are new here.
    ///
    /// - `imports_add_missing_sessions_and_their_revocations`: an existing session MUST NOT
    ///   change, except that a revocation that only the import has is applied.
    ///
    /// # Errors
    /// As for [`revoke`](Self::revoke).
    async fn import(&self, sessions: &[Session]) -> Result<u64, PortError>;

    /// Revokes those of these sessions that are not revoked yet, and returns them. Unknown ids are
    /// ignored.
    ///
    /// - `revoked_sessions_are_returned_once`: those that were revoked before MUST NOT be returned.
    /// - `first_revocation_is_kept`: time, reason and actor of a revocation MUST never change.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store could not be asked, or refused: nothing was changed.
    /// [`PortError::OutcomeUnknown`] if it was asked and did not respond; doing it again is safe.
    async fn revoke(
        &self,
        session_ids: &[SessionId],
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError>;

    /// Revokes up to `limit` unrevoked sessions of the user, other than `except`, and returns them.
    ///
    /// MUST write an entry about the user to the revocation log, even if no session matches.
    ///
    /// - `revoke_all_spares_exactly_the_excepted_session`
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
    /// If `after` is `None` (the first batch), MUST write an entry about all users to the
    /// revocation log, even if no session matches.
    ///
    /// - `all_sessions_are_revoked_batch_by_batch`: each session once, by ascending id.
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
