//! Activity that is written.

use chrono::TimeDelta;
use domain::ports::SessionRepository;
use domain::{Session, Touch};

use super::{insert_all, revocation};
use crate::fixtures;

fn touch(session: &Session, first: i64, last: i64, address: Option<&str>) -> Touch {
    let at = |seconds| fixtures::now() + TimeDelta::seconds(seconds);
    let ip_address = address.map(|text| text.parse().expect("an address"));
    Touch { session_id: session.id, first_at: at(first), last_at: at(last), ip_address }
}

/// What the entity's own rule makes of a touch, each store makes of it.
async fn assert_touched(repo: &dyn SessionRepository, sessions: &mut [Session], touches: &[Touch]) {
    repo.touch(touches).await.unwrap();
    for session in sessions {
        if let Some(touch) = touches.iter().find(|touch| touch.session_id == session.id) {
            session.touch(touch);
        }
        assert_eq!(crate::find_session(repo, session.id).await.as_ref(), Some(&*session));
    }
}

/// Later use counts, earlier use that arrives late does not, and an address stays until there is
/// another.
pub async fn touches_move_activity_and_never_back(repo: &dyn SessionRepository) {
    let mut sessions: Vec<_> = (1..=3).map(fixtures::session_number).collect();
    sessions[2] = Session { id: sessions[2].id, ..fixtures::bare_session() };
    insert_all(repo, &sessions).await;
    let [a, b, c] = [sessions[0].clone(), sessions[1].clone(), sessions[2].clone()];
    for touches in [
        vec![
            touch(&a, 10, 20, Some("198.51.100.1")),
            touch(&b, 5, 5, None),
            touch(&c, 7, 7, Some("2001:db8::9")),
        ],
        vec![touch(&a, 15, 15, Some("198.51.100.2")), touch(&b, 30, 30, Some("198.51.100.3"))],
        vec![touch(&a, 20, 20, Some("198.51.100.4"))],
        vec![touch(&fixtures::session_number(404), 40, 40, None), touch(&c, 40, 50, None)],
        vec![],
    ] {
        assert_touched(repo, &mut sessions, &touches).await;
    }
    assert_eq!(sessions[0].last_activity_at, fixtures::now() + TimeDelta::seconds(20));
}

/// Neither revoked nor expired nor idle sessions are used any more; what was used in time goes on,
/// however late the news.
pub async fn touches_do_not_wake_terminated_sessions(repo: &dyn SessionRepository) {
    let minute = Some(TimeDelta::minutes(1));
    let mut sessions: Vec<_> = (1..=5).map(fixtures::session_number).collect();
    sessions[0].revocation = Some(revocation("over").into());
    sessions[1].expires_at = fixtures::now() + TimeDelta::seconds(60);
    sessions[2].idle_timeout = minute;
    sessions[3].idle_timeout = minute;
    sessions[4].expires_at = fixtures::now() + TimeDelta::seconds(60);
    insert_all(repo, &sessions).await;
    let touches = [
        touch(&sessions[0], 30, 30, None),
        touch(&sessions[1], 60, 60, None),
        touch(&sessions[2], 60, 61, None),
        touch(&sessions[3], 59, 110, None),
        touch(&sessions[4], 59, 59, None),
    ];
    let before = sessions.clone();
    assert_touched(repo, &mut sessions, &touches).await;
    assert_eq!(sessions[..3], before[..3]);
    assert_eq!(sessions[3].last_activity_at, touches[3].last_at);
}

/// `expires_at` moves once less than half of the lifetime is left, and only then.
pub async fn a_sliding_session_is_renewed_by_touches(repo: &dyn SessionRepository) {
    let hour = TimeDelta::hours(1);
    let mut sessions: Vec<_> = (1..=3).map(fixtures::session_number).collect();
    for session in &mut sessions {
        session.expires_at = fixtures::now() + hour;
        session.renewal = Some(hour);
    }
    sessions[2].renewal = None;
    insert_all(repo, &sessions).await;
    let touches = [
        touch(&sessions[0], 1800, 1800, None),
        touch(&sessions[1], 1801, 1801, None),
        touch(&sessions[2], 3599, 3599, None),
    ];
    let before = sessions.clone();
    assert_touched(repo, &mut sessions, &touches).await;
    assert_eq!(sessions[0].expires_at, before[0].expires_at);
    assert_eq!(sessions[1].expires_at, touches[1].last_at + hour);
    assert_eq!(sessions[2].expires_at, before[2].expires_at);
}
