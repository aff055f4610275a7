//! What every [`SessionRepository`] does, by subject.

mod edit;
mod import;
mod insert;
mod limits;
mod list;
mod model_test;
mod revoke;
mod search;
mod tokens;
mod touch;

use std::num::NonZeroU32;

use chrono::TimeDelta;
use domain::ports::{SessionKey, SessionListing, SessionRepository};
use domain::{Actor, OnLimit, Revocation, Session, SessionLimit};

use crate::fixtures;

pub use self::edit::*;
pub use self::import::*;
pub use self::insert::*;
pub use self::limits::*;
pub use self::list::*;
pub use self::model_test::*;
pub use self::revoke::*;
pub use self::search::*;
pub use self::tokens::*;
pub use self::touch::*;

/// Runs the suite against the adapter that the expression makes.
#[macro_export]
macro_rules! session_repository_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            session_repository,
            $fixture,
            $($must_fail,)?
            [
                inserted_session_is_found,
                unknown_session_is_none,
                second_insert_of_an_id_is_a_conflict,
                absent_fields_stay_absent,
                revoked_session_is_found_revoked,
                text_is_kept_verbatim,
                parallel_inserts_of_one_id_leave_one_row,
                limit_evicts_the_oldest_live_sessions,
                limit_that_denies_stores_nothing,
                parallel_sign_ins_never_exceed_the_limit,
                sessions_are_listed_newest_first_page_by_page,
                counts_and_active_only_leave_out_terminated_sessions,
                list_has_no_session_of_another_user,
                revoked_sessions_are_returned_once,
                first_revocation_is_kept,
                revoke_all_spares_exactly_the_excepted_session,
                all_sessions_are_revoked_batch_by_batch,
                idle_session_is_neither_active_nor_counted_against_a_limit,
                touches_move_activity_and_never_back,
                touches_do_not_wake_terminated_sessions,
                a_sliding_session_is_renewed_by_touches,
                edits_change_what_they_name,
                conditional_edits_change_what_they_expect_and_nothing_else,
                counts_stop_at_the_bound,
                an_idempotency_key_is_taken_once_by_a_user,
                imports_add_missing_sessions_and_their_revocations,
                rotation_replaces_the_token,
                terminated_session_gets_no_token,
                conditional_rotation_replaces_the_expected_token_only,
                token_reuse_is_marked_once_per_rotation,
                search_finds_what_matches_newest_first_page_by_page,
                search_filters_by_each_field_as_the_domain_does,
                search_stops_at_its_bound_and_goes_on_from_there,
                random_commands_do_what_a_small_model_does,
            ]
        );
    };
}

fn listing() -> SessionListing {
    let user_id = fixtures::session().user_id;
    let now = fixtures::now();
    SessionListing { user_id, now, active_only: false, limit: 100, after: None }
}

fn revocation(reason: &str) -> Revocation {
    Revocation {
        at: fixtures::now() + TimeDelta::seconds(1),
        reason: Some(reason.to_owned()),
        actor: Some(Actor::Service),
    }
}

async fn insert_all(repo: &dyn SessionRepository, sessions: &[Session]) {
    for session in sessions {
        repo.insert(session, None).await.unwrap();
    }
}

fn limit(max: u32, on_limit: OnLimit) -> Option<SessionLimit> {
    Some(SessionLimit { max: NonZeroU32::new(max).expect("a limit of at least one"), on_limit })
}

fn key_of(session: &Session) -> SessionKey {
    SessionKey { id: session.id, user_id: session.user_id }
}
