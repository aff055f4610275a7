//! Session tokens: issued, rotated, and used after a rotation.

use chrono::TimeDelta;
use domain::ports::{SessionRepository, TokenRotation};
use domain::{ReplacedToken, Session, SessionTokens, TokenHash};

use super::{insert_all, revocation};
use crate::fixtures;

fn rotation(n: u8) -> TokenRotation {
    let at = fixtures::now() + TimeDelta::seconds(i64::from(n));
    TokenRotation { hash: TokenHash([n; 32]), at, only_if: None }
}

/// The first token replaces none; each later one keeps the hash of the one before, and when it was
/// replaced. Nothing else of the session changes, and no other session.
pub async fn rotation_replaces_the_token(repo: &dyn SessionRepository) {
    let session = Session { tokens: None, ..fixtures::session() };
    let other = fixtures::session_number(2);
    insert_all(repo, &[session.clone(), other.clone()]).await;
    let with = |current: u8, replaced: Option<(u8, u8)>| {
        let of = |(hash, at)| ReplacedToken { hash: TokenHash([hash; 32]), at: rotation(at).at };
        let current = TokenHash([current; 32]);
        let tokens = SessionTokens { current, replaced: replaced.map(of) };
        Session { tokens: Some(tokens.into()), ..session.clone() }
    };
    for (n, expected) in [(1, None), (2, Some((1, 2))), (3, Some((2, 3)))] {
        assert!(repo.rotate_token(session.id, &rotation(n)).await.unwrap());
        let stored = crate::find_session(repo, session.id).await;
        assert_eq!(stored, Some(with(n, expected)), "after rotation {n}");
    }
    assert_eq!(crate::find_session(repo, other.id).await, Some(other));
    assert!(!repo.rotate_token(fixtures::session_number(404).id, &rotation(1)).await.unwrap());
}

/// Neither a revoked nor an expired nor an idle session gets a token.
pub async fn terminated_session_gets_no_token(repo: &dyn SessionRepository) {
    let now = rotation(1).at;
    let revoked = fixtures::session_number(1);
    let created_at = now - TimeDelta::days(1);
    let bare = Session { created_at, last_activity_at: created_at, ..fixtures::bare_session() };
    let expired = Session { id: fixtures::session_number(2).id, expires_at: now, ..bare.clone() };
    let idle_timeout = Some(TimeDelta::days(1));
    let idle = Session { id: fixtures::session_number(3).id, idle_timeout, ..bare };
    insert_all(repo, &[revoked.clone(), expired.clone(), idle.clone()]).await;
    repo.revoke(&[revoked.id], &revocation("first")).await.unwrap();
    for session in [&revoked, &expired, &idle] {
        assert!(!repo.rotate_token(session.id, &rotation(1)).await.unwrap(), "{session:?}");
        let stored = crate::find_session(repo, session.id).await.unwrap();
        assert_eq!(stored.tokens, session.tokens);
    }
}

/// A rotation that expects another token changes nothing, and of parallel ones one wins.
pub async fn conditional_rotation_replaces_the_expected_token_only(repo: &dyn SessionRepository) {
    let session = Session {
        tokens: Some(SessionTokens::issued(TokenHash([1; 32])).into()),
        ..fixtures::session()
    };
    let without = Session { id: fixtures::session_number(2).id, ..fixtures::bare_session() };
    insert_all(repo, &[session.clone(), without.clone()]).await;
    let expecting =
        |expected: u8, n| TokenRotation { only_if: Some(TokenHash([expected; 32])), ..rotation(n) };
    assert!(!repo.rotate_token(session.id, &expecting(7, 2)).await.unwrap());
    assert!(!repo.rotate_token(without.id, &expecting(7, 2)).await.unwrap());
    assert_eq!(crate::find_session(repo, session.id).await.unwrap().tokens, session.tokens);
    let rotations = [expecting(1, 2), expecting(1, 3)];
    let (first, second) = futures_util::future::join(
        repo.rotate_token(session.id, &rotations[0]),
        repo.rotate_token(session.id, &rotations[1]),
    )
    .await;
    let first = first.unwrap();
    let second = second.unwrap();
    assert!(first != second, "one of two wins: {first} {second}");
    let winner = if first { rotations[0].hash } else { rotations[1].hash };
    let stored = crate::find_session(repo, session.id).await.unwrap();
    assert_eq!(stored.tokens.map(|tokens| tokens.current), Some(winner));
}

/// Once per rotation, and only the token that was replaced, of a session that is not revoked.
pub async fn token_reuse_is_marked_once_per_rotation(repo: &dyn SessionRepository) {
    let tokens = SessionTokens::issued(TokenHash([1; 32]));
    let session = Session { tokens: Some(tokens.into()), ..fixtures::session() };
    repo.insert(&session, None).await.unwrap();
    let mark = async |hash: u8| {
        let at = fixtures::now() + TimeDelta::minutes(1);
        repo.mark_token_reused(session.id, &TokenHash([hash; 32]), at).await.unwrap()
    };
    assert!(!mark(1).await, "it is the current token");
    repo.rotate_token(session.id, &rotation(2)).await.unwrap();
    assert!(!mark(2).await && !mark(7).await, "only the replaced token is reused");
    assert!(mark(1).await, "the first use");
    assert!(!mark(1).await, "the second use");
    repo.rotate_token(session.id, &rotation(3)).await.unwrap();
    assert!(!mark(1).await, "it was replaced before the last rotation");
    repo.revoke(&[session.id], &revocation("lost")).await.unwrap();
    assert!(!mark(2).await, "the session is revoked");
}
