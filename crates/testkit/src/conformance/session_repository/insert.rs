//! Inserting a session, and finding it.

use chrono::TimeDelta;
use domain::ports::{PortError, SessionRepository};
use domain::{Actor, IdempotencyKey, OnLimit, Revocation, Session};

use super::{insert_all, limit};
use crate::fixtures;

async fn assert_round_trip(repo: &dyn SessionRepository, session: Session) {
    repo.insert(&session, None).await.unwrap();
    assert_eq!(crate::find_session(repo, session.id).await, Some(session));
}

/// What was inserted is found equal in every field, to the microsecond.
pub async fn inserted_session_is_found(repo: &dyn SessionRepository) {
    assert_round_trip(repo, fixtures::session()).await;
    assert_round_trip(repo, fixtures::session_number(2)).await;
}

/// An unknown id is `None`, not an error.
pub async fn unknown_session_is_none(repo: &dyn SessionRepository) {
    repo.insert(&fixtures::session(), None).await.unwrap();
    assert_eq!(crate::find_session(repo, fixtures::session_number(404).id).await, None);
}

/// An id is taken once, and the first row stays as it was.
pub async fn second_insert_of_an_id_is_a_conflict(repo: &dyn SessionRepository) {
    let first = fixtures::session();
    repo.insert(&first, None).await.unwrap();
    let second = Session { user_id: fixtures::another_user(), ..fixtures::bare_session() };
    assert!(matches!(repo.insert(&second, None).await, Err(PortError::Conflict(_))));
    assert_eq!(crate::find_session(repo, first.id).await, Some(first));
}

/// What is absent is found absent.
pub async fn absent_fields_stay_absent(repo: &dyn SessionRepository) {
    assert_round_trip(repo, fixtures::bare_session()).await;
}

/// A revoked session is found, with its time and reason.
pub async fn revoked_session_is_found_revoked(repo: &dyn SessionRepository) {
    let at = fixtures::now() + TimeDelta::microseconds(1);
    let user = Some(Actor::User(fixtures::another_user()));
    let revocations = [
        (None, None),
        (Some("lost phone".to_owned()), user),
        (Some(String::new()), Some(Actor::Service)),
    ];
    for (n, (reason, actor)) in revocations.into_iter().enumerate() {
        let revocation = Some(Revocation { at, reason, actor }.into());
        assert_round_trip(repo, Session { revocation, ..fixtures::session_number(n as u64 + 1) })
            .await;
    }
}

/// Quotes, emoji, line breaks and the empty text are data.
pub async fn text_is_kept_verbatim(repo: &dyn SessionRepository) {
    for (n, text) in
        ["'; DROP TABLE sessions; --", "📱 Anaïs' phone", "two\r\nlines", "$1 ? %s {}", ""]
            .iter()
            .enumerate()
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

/// Of many concurrent insertions of one id, exactly one succeeds and the others report the
/// conflict.
pub async fn parallel_inserts_of_one_id_leave_one_row(repo: &dyn SessionRepository) {
    let session = fixtures::session();
    let insert = || repo.insert(&session, None);
    let results = tokio::join!(insert(), insert(), insert(), insert(), insert(), insert());
    let results = [results.0, results.1, results.2, results.3, results.4, results.5];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results.iter().all(|result| matches!(result, Ok(_) | Err(PortError::Conflict(_)))),
        "{results:?}"
    );
}

/// Once by each user; the first session with it is found by it.
pub async fn an_idempotency_key_is_taken_once_by_a_user(repo: &dyn SessionRepository) {
    let with_key = |n, key: &str| Session {
        idempotency_key: Some(IdempotencyKey { text: key.into(), request_hash: [n as u8; 32] }),
        ..fixtures::session_number(n)
    };
    let first = with_key(1, "a key");
    let strangers = Session { user_id: fixtures::another_user(), ..with_key(2, "a key") };
    insert_all(repo, &[first.clone(), strangers.clone(), with_key(3, "another")]).await;

    // Even where the limit has evicted the session that the key made.
    let again = repo.insert(&with_key(4, "a key"), limit(1, OnLimit::EvictOldest)).await;
    assert!(matches!(again, Err(PortError::Conflict(_))), "{again:?}");
    assert_eq!(
        crate::find_session(repo, first.id).await.as_ref(),
        Some(&first),
        "a conflict changes nothing"
    );
    let found = repo.find_by_idempotency_key(first.user_id, "a key").await.unwrap();
    assert_eq!(found, Some(first));
    let found = repo.find_by_idempotency_key(strangers.user_id, "a key").await.unwrap();
    assert_eq!(found, Some(strangers));
    assert_eq!(
        repo.find_by_idempotency_key(fixtures::another_user(), "another").await.unwrap(),
        None
    );
}
