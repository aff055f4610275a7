//! What every [`SessionCache`] does.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::coherence::{Incarnation, ReadStamp, Stamp};
use domain::ports::{EndedSession, SessionCache};
use domain::{Revocation, Session};

use crate::fixtures;

/// Runs the suite against the adapter that the expression makes.
#[macro_export]
macro_rules! session_cache_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            session_cache,
            $fixture,
            $($must_fail,)?
            [
                set_then_get_answers_the_session,
                unknown_session_is_a_miss,
                another_user_is_a_miss,
                later_set_replaces_earlier,
                revoked_session_is_never_cached,
                removed_session_is_a_miss,
                session_over_by_time_is_a_miss,
            ]
        );
    };
}

async fn get(cache: &dyn SessionCache, session: &Session) -> Option<Session> {
    cache.get(session.id, session.user_id).await.map(|cached| Session::clone(&cached.session))
}

/// Every field comes back, but those that caches leave out; and so does the stamp, without which no node serves the value.
pub async fn set_then_get_answers_the_session(cache: &dyn SessionCache) {
    let stamps = [0, u64::MAX].map(|seen_below| {
        let incarnation = Incarnation { system: seen_below, timeline: 7 };
        Some(ReadStamp { incarnation, seen_below })
    });
    let templates = [fixtures::session(), fixtures::bare_session(), fixtures::session()];
    for (n, (template, stamp)) in templates.into_iter().zip([stamps[0], stamps[1], None]).enumerate() {
        let renewal = (n == 1).then_some(TimeDelta::hours(1));
        let id = fixtures::session_number(n as u64 + 1).id;
        let session = Session { id, renewal, stamp: Stamp(stamp), ..template };
        cache.set(&Arc::new(session.clone())).await;
        let cached = get(cache, &session).await.expect("the session that was set");
        assert_eq!(cached, session.for_cache());
        // All stamps are equal to the sessions they belong to.
        assert_eq!(cached.stamp.0, stamp, "a cache returns the stamp of the value that was set");
    }
}

/// What was never set is a miss.
pub async fn unknown_session_is_a_miss(cache: &dyn SessionCache) {
    cache.set(&Arc::new(fixtures::session())).await;
    assert_eq!(get(cache, &fixtures::session_number(404)).await, None);
}

/// A stranger sees a miss, and the owner's entry stays.
pub async fn another_user_is_a_miss(cache: &dyn SessionCache) {
    let session = fixtures::session();
    cache.set(&Arc::new(session.clone())).await;
    assert!(cache.get(session.id, fixtures::another_user()).await.is_none());
    assert!(get(cache, &session).await.is_some());
}

/// The last word counts.
pub async fn later_set_replaces_earlier(cache: &dyn SessionCache) {
    let first = fixtures::session();
    let second = Session { name: Some("renamed".into()), ..first.clone() };
    cache.set(&Arc::new(first.clone())).await;
    cache.set(&Arc::new(second)).await;
    assert_eq!(get(cache, &first).await.and_then(|session| session.name).as_deref(), Some("renamed"));
}

/// A revoked session is not remembered.
pub async fn revoked_session_is_never_cached(cache: &dyn SessionCache) {
    let revocation = Some(Revocation { at: fixtures::now(), reason: None, actor: None }.into());
    let session = Session { revocation, ..fixtures::session() };
    cache.set(&Arc::new(session.clone())).await;
    assert_eq!(get(cache, &session).await, None);
}

/// What was removed is forgotten, and nothing else; removing what is not there is no matter.
pub async fn removed_session_is_a_miss(cache: &dyn SessionCache) {
    let sessions: Vec<_> = (1..=20).map(fixtures::session_number).collect();
    for session in &sessions {
        cache.set(&Arc::new(session.clone())).await;
    }
    let ended = |session: &Session| EndedSession { id: session.id, user_id: session.user_id };
    let mut removed: Vec<_> = sessions[1..].iter().map(ended).collect();
    removed.push(ended(&fixtures::session_number(404)));
    cache.remove(&removed).await;
    cache.remove(&[]).await;
    assert!(get(cache, &sessions[0]).await.is_some());
    for session in &sessions[1..] {
        assert_eq!(get(cache, session).await, None);
    }
}

/// What seems to be over, by its lifetime or by rest, is not answered: the database may know of later use.
pub async fn session_over_by_time_is_a_miss(cache: &dyn SessionCache) {
    let now = fixtures::now();
    let resting = |since| Session {
        last_activity_at: since,
        idle_timeout: Some(TimeDelta::hours(1)),
        ..fixtures::session_number(2)
    };
    let an_hour_ago = now - TimeDelta::hours(1);
    for (session, answered) in [
        (Session { expires_at: now, ..fixtures::session_number(1) }, false),
        (Session { expires_at: now + TimeDelta::hours(1), ..fixtures::session_number(1) }, true),
        (resting(an_hour_ago), false),
        (resting(an_hour_ago + TimeDelta::minutes(1)), true),
    ] {
        cache.set(&Arc::new(session.clone())).await;
        assert_eq!(get(cache, &session).await.is_some(), answered, "{session:?}");
    }
}
