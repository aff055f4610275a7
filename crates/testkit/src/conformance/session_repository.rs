//! What every [`SessionRepository`] does.

use chrono::TimeDelta;
use domain::ports::{PortError, SessionRepository};
use domain::{Revocation, Session};

use crate::fixtures;

/// Runs the suite against the adapter that the expression makes.
#[macro_export]
macro_rules! session_repository_contract {
    ($fixture:expr) => {
        $crate::contract_tests!(
            session_repository,
            $fixture,
            [
                inserted_session_is_found,
                unknown_session_is_none,
                second_insert_of_an_id_is_a_conflict,
                absent_fields_stay_absent,
                revoked_session_is_found_revoked,
                text_is_kept_verbatim,
                parallel_inserts_of_one_id_leave_one_row,
            ]
        );
    };
}

async fn assert_round_trip(repo: &dyn SessionRepository, session: Session) {
    repo.insert(&session).await.unwrap();
    assert_eq!(repo.find_by_id(session.id).await.unwrap(), Some(session));
}

/// What was inserted is found equal in every field, to the microsecond.
pub async fn inserted_session_is_found(repo: &dyn SessionRepository) {
    assert_round_trip(repo, fixtures::session()).await;
    assert_round_trip(repo, fixtures::session_number(2)).await;
}

/// An unknown id is `None`, not an error.
pub async fn unknown_session_is_none(repo: &dyn SessionRepository) {
    repo.insert(&fixtures::session()).await.unwrap();
    assert_eq!(repo.find_by_id(fixtures::session_number(404).id).await.unwrap(), None);
}

/// An id is taken once, and the first row stays as it was.
pub async fn second_insert_of_an_id_is_a_conflict(repo: &dyn SessionRepository) {
    let first = fixtures::session();
    repo.insert(&first).await.unwrap();
    let second = Session { user_id: fixtures::another_user(), ..fixtures::bare_session() };
    assert!(matches!(repo.insert(&second).await, Err(PortError::Conflict(_))));
    assert_eq!(repo.find_by_id(first.id).await.unwrap(), Some(first));
}

/// What is absent is found absent.
pub async fn absent_fields_stay_absent(repo: &dyn SessionRepository) {
    assert_round_trip(repo, fixtures::bare_session()).await;
}

/// An ended session is found, with its time and reason.
pub async fn revoked_session_is_found_revoked(repo: &dyn SessionRepository) {
    let at = fixtures::now() + TimeDelta::microseconds(1);
    for (n, reason) in [None, Some("lost phone".to_owned())].into_iter().enumerate() {
        let revocation = Some(Revocation { at, reason });
        assert_round_trip(repo, Session { revocation, ..fixtures::session_number(n as u64 + 1) }).await;
    }
}

/// Quotes, emoji, line breaks and the empty text are data.
pub async fn text_is_kept_verbatim(repo: &dyn SessionRepository) {
    for (n, text) in
        ["'; DROP TABLE sessions; --", "📱 Anaïs' phone", "two\r\nlines", "$1 ? %s {}", ""].iter().enumerate()
    {
        let session = Session {
            name: Some((*text).into()),
            user_agent: Some((*text).into()),
            device_info: Some((*text).into()),
            location: Some((*text).into()),
            ..fixtures::session_number(n as u64 + 1)
        };
        assert_round_trip(repo, session).await;
    }
}

/// Of many who insert one id at once, exactly one succeeds and the others are told.
pub async fn parallel_inserts_of_one_id_leave_one_row(repo: &dyn SessionRepository) {
    let session = fixtures::session();
    let insert = || repo.insert(&session);
    let results = tokio::join!(insert(), insert(), insert(), insert(), insert(), insert());
    let results = [results.0, results.1, results.2, results.3, results.4, results.5];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(()) | Err(PortError::Conflict(_)))), "{results:?}");
}
