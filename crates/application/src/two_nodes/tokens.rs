//! The promise for session tokens: a token that was rotated or revoked is accepted by no node, from
//! no cache, once that is acknowledged.

use chrono::TimeDelta;
use domain::coherence::ReadVersion;
use domain::ports::{Clock, SessionCache, TokenGenerator};
use domain::{Session, TokenHash};
use testkit::{SequentialTokens, fixtures};

use super::{Node, TwoNodes, activity, layer, revoke};
use crate::commands::{CreateSession, RotateToken};
use crate::queries::handlers::VerifyTokenError;
use crate::queries::{GetSession, VerifyToken};
use crate::test_support::TOKEN_POLICY;

/// The hash of the nth token that the nodes issue.
fn nth_token(n: usize) -> TokenHash {
    let hashes = SequentialTokens::default();
    let mut all = std::iter::repeat_with(|| hashes.next_token().1);
    all.nth(n - 1).unwrap()
}

fn verify(session: &Session, hash: TokenHash) -> VerifyToken {
    VerifyToken { session_id: session.id, user_id: session.user_id, hash }
}

async fn accepts(node: &Node, session: &Session, hash: TokenHash) -> bool {
    let found = node.verify_token.handle(verify(session, hash)).await;
    found.is_ok_and(|found| found.session.is_live(fixtures::now()))
}

/// A session with a token, in the caches of both nodes.
async fn session_with_token(two: &TwoNodes) -> Session {
    let sign_in =
        CreateSession { issue_token: true, ..CreateSession::of(fixtures::session().user_id) };
    let session = two.a.create_session.handle(sign_in).await.unwrap().session;
    for node in [&two.a, &two.b] {
        layer(node, &session).await;
    }
    session
}

#[tokio::test]
async fn rotated_token_is_accepted_nowhere_after_its_grace_and_the_new_one_everywhere_at_once() {
    let two = TwoNodes::start().await;
    let session = session_with_token(&two).await;
    assert!(accepts(&two.b, &session, nth_token(1)).await);
    let rotate = RotateToken { session_id: session.id, presented: Some(nth_token(1)) };
    two.a.rotate_token.handle(rotate).await.unwrap();
    for node in [&two.a, &two.b] {
        assert!(accepts(node, &session, nth_token(2)).await, "the new token");
        assert!(accepts(node, &session, nth_token(1)).await, "within the grace");
    }
    two.clock.advance(TOKEN_POLICY.rotation_grace);
    for node in [&two.a, &two.b] {
        let reused = node.verify_token.handle(verify(&session, nth_token(1))).await;
        assert!(matches!(reused, Err(VerifyTokenError::TokenReused)), "{reused:?}");
        assert!(accepts(node, &session, nth_token(2)).await, "the session goes on");
    }
}

/// A node was paused between its read and its write to the shared cache, and writes the token
/// before the rotation.
#[tokio::test]
async fn token_that_is_cached_after_its_rotation_is_not_accepted() {
    let mut two = TwoNodes::start().await;
    let session = session_with_token(&two).await;
    let before = two.b.verify_token.handle(verify(&session, nth_token(1))).await.unwrap();
    let version: ReadVersion = before.version.unwrap();
    let rotate = RotateToken { session_id: session.id, presented: None };
    two.a.rotate_token.handle(rotate).await.unwrap();
    two.shared.set(&before.session, &version).await;
    two.clock.advance(TOKEN_POLICY.rotation_grace + TimeDelta::seconds(1));
    two.poll().await;
    for node in [&two.a, &two.b] {
        assert!(!accepts(node, &session, nth_token(1)).await, "the token before");
        assert!(accepts(node, &session, nth_token(2)).await, "the new token");
    }
}

#[tokio::test]
async fn token_of_a_revoked_session_is_accepted_nowhere() {
    let two = TwoNodes::start().await;
    let session = session_with_token(&two).await;
    two.a.revoke_session.handle(revoke(&session)).await.unwrap();
    for node in [&two.a, &two.b] {
        assert!(!accepts(node, &session, nth_token(1)).await);
    }
}

/// The session is live, so what its buffer holds is still to be written.
#[tokio::test]
async fn rotation_keeps_activity_that_is_not_written_yet() {
    let two = TwoNodes::start().await;
    let sign_in = CreateSession {
        issue_token: true,
        idempotency_key: Some(fixtures::idempotency_key("key")),
        ..CreateSession::of(fixtures::session().user_id)
    };
    let session = two.a.create_session.handle(sign_in.clone()).await.unwrap().session;
    for rotates_by_repetition in [false, true] {
        two.clock.advance(TimeDelta::seconds(5));
        two.a.record_activity.handle(activity(session.id)).await.unwrap();
        if rotates_by_repetition {
            two.a.create_session.handle(sign_in.clone()).await.unwrap();
        } else {
            let rotate = RotateToken { session_id: session.id, presented: None };
            two.a.rotate_token.handle(rotate).await.unwrap();
        }
        let query = GetSession { session_id: session.id, user_id: session.user_id };
        let found = two.a.get_session.find(query).await.unwrap().session;
        assert_eq!(found.last_activity_at, two.clock.now(), "{rotates_by_repetition}");
    }
}
