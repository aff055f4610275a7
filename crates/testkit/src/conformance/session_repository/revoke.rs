//! Revocations: of a list, of a user's sessions, of all.

use chrono::TimeDelta;
use domain::ports::{SessionKey, SessionRepository};
use domain::{Actor, Revocation, Session, SessionId};

use super::{insert_all, key_of, revocation};
use crate::conformance::Turns;
use crate::fixtures;

fn sorted(mut sessions: Vec<SessionKey>) -> Vec<SessionKey> {
    sessions.sort();
    sessions
}

/// Those that were revoked are returned, once; unknown ones and an empty list have no effect.
pub async fn revoked_sessions_are_returned_once(repo: &dyn SessionRepository) {
    let sessions: Vec<_> = (1..=4).map(fixtures::session_number).collect();
    insert_all(repo, &sessions).await;
    let unknown = fixtures::session_number(404).id;
    let ids: Vec<SessionId> =
        sessions[..2].iter().map(|session| session.id).chain([unknown]).collect();

    let first = repo.revoke(&ids, &revocation("first")).await.unwrap();
    assert_eq!(sorted(first), [key_of(&sessions[0]), key_of(&sessions[1])]);
    let ids = [ids[0], ids[1], sessions[2].id, sessions[2].id];
    assert_eq!(repo.revoke(&ids, &revocation("second")).await.unwrap(), [key_of(&sessions[2])]);
    assert_eq!(repo.revoke(&[], &revocation("third")).await.unwrap(), []);
    assert!(!crate::find_session(repo, sessions[3].id).await.unwrap().is_revoked());
}

/// Time, reason and actor of a revocation never change when the session is revoked again.
pub async fn first_revocation_is_kept(repo: &dyn SessionRepository) {
    let session = fixtures::session();
    repo.insert(&session, None).await.unwrap();
    let first =
        Revocation { actor: Some(Actor::User(session.user_id)), ..revocation("lost phone") };
    repo.revoke(&[session.id], &first).await.unwrap();

    let again = Revocation { at: first.at + TimeDelta::hours(1), ..revocation("again") };
    assert_eq!(repo.revoke(&[session.id], &again).await.unwrap(), []);
    assert_eq!(repo.revoke_all_of_user(session.user_id, None, 10, &again).await.unwrap(), []);
    assert_eq!(crate::find_session(repo, session.id).await.unwrap().revocation, Some(first.into()));
}

/// All of the user's but one, and no other user's.
pub async fn revoke_all_spares_exactly_the_excepted_session(repo: &dyn SessionRepository) {
    let own: Vec<_> = (1..=5).map(fixtures::session_number).collect();
    let strangers = Session { user_id: fixtures::another_user(), ..fixtures::session_number(6) };
    insert_all(repo, &own).await;
    repo.insert(&strangers, None).await.unwrap();
    let user_id = own[0].user_id;

    // In batches, until one is not full.
    let mut ended_now =
        repo.revoke_all_of_user(user_id, Some(own[2].id), 3, &revocation("others")).await.unwrap();
    assert_eq!(ended_now.len(), 3);
    ended_now.extend(
        repo.revoke_all_of_user(user_id, Some(own[2].id), 3, &revocation("others")).await.unwrap(),
    );
    let expected: Vec<_> =
        own.iter().filter(|session| session.id != own[2].id).map(key_of).collect();
    assert_eq!(sorted(ended_now), expected);
    // Another user's session as the exception spares nothing.
    let rest =
        repo.revoke_all_of_user(user_id, Some(strangers.id), 10, &revocation("all")).await.unwrap();
    assert_eq!(rest, [key_of(&own[2])]);
    assert!(!crate::find_session(repo, strangers.id).await.unwrap().is_revoked());
}

/// By ascending id, each once; what was revoked before is left out.
pub async fn all_sessions_are_revoked_batch_by_batch(repo: &dyn SessionRepository) {
    let mut sessions: Vec<_> = (1..=7).map(fixtures::session_number).collect();
    sessions[2].revocation = Some(revocation("before").into());
    sessions[4].user_id = fixtures::another_user();
    sessions[5].expires_at = fixtures::now() + TimeDelta::microseconds(1);
    insert_all(repo, &sessions).await;
    let all_users = Box::new(revocation("all_users"));
    let mut after = None;
    let mut batches = Vec::new();
    let turns = Turns::at_most(3, "revoking all_users's sessions in two batches");
    loop {
        turns.next(&batches.last()).await;
        let batch = repo.revoke_all_sessions(after, 4, &all_users).await.unwrap();
        let Some(last) = batch.last() else { break };
        after = Some(last.id);
        batches.push(batch);
    }
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [4, 2]);
    let expected: Vec<_> =
        sessions.iter().filter(|session| !session.is_revoked()).map(key_of).collect();
    assert_eq!(batches.concat(), expected);
    for session in &sessions {
        let expected = session.revocation.clone().unwrap_or(all_users.clone());
        assert_eq!(crate::find_session(repo, session.id).await.unwrap().revocation, Some(expected));
    }
}
