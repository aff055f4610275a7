//! Imports of another system's sessions.

use domain::Session;
use domain::ports::SessionRepository;

use super::revocation;
use crate::fixtures;

/// Once and again: what is here stays, but for a revocation that is news.
pub async fn imports_add_missing_sessions_and_their_revocations(repo: &dyn SessionRepository) {
    let mut sessions: Vec<_> = (1..=4).map(fixtures::session_number).collect();
    sessions[1].revocation = Some(revocation("there").into());
    sessions[3] = Session { id: sessions[3].id, ..fixtures::bare_session() };
    assert_eq!(repo.import(&sessions[..2]).await.unwrap(), 2);
    assert_eq!(repo.import(&sessions).await.unwrap(), 2);
    assert_eq!(repo.import(&sessions).await.unwrap(), 0);
    assert_eq!(repo.import(&[]).await.unwrap(), 0);
    for session in &sessions {
        assert_eq!(crate::find_session(repo, session.id).await.as_ref(), Some(session));
    }

    let renamed = Session { name: Some("there".into()), ..sessions[0].clone() };
    let revoked = Session {
        revocation: Some(revocation("meanwhile").into()),
        name: None,
        ..sessions[2].clone()
    };
    let again = Session { revocation: Some(revocation("again").into()), ..sessions[1].clone() };
    assert_eq!(repo.import(&[renamed, revoked.clone(), again]).await.unwrap(), 0);
    let find = async |n: usize| crate::find_session(repo, sessions[n].id).await.unwrap();
    assert_eq!(find(0).await, sessions[0]);
    assert_eq!(find(1).await, sessions[1]);
    assert_eq!(find(2).await, Session { revocation: revoked.revocation, ..sessions[2].clone() });
}
