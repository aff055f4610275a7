//! What every [`SessionCache`] does.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::coherence::{Incarnation, ReadVersion, Snapshot};
use domain::ports::{SessionCache, SessionKey};
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
                set_then_get_returns_the_session,
                set_then_get_returns_the_read_version,
                unknown_session_is_a_miss,
                another_user_is_a_miss,
                later_set_replaces_earlier,
                revoked_session_is_never_cached,
                removed_session_is_a_miss,
                expired_session_is_a_miss,
            ]
        );
    };
}

async fn get(cache: &dyn SessionCache, session: &Session) -> Option<Session> {
    cache.get(session.id, session.user_id).await.map(|cached| Session::clone(&cached.session))
}

async fn set(cache: &dyn SessionCache, session: &Session) {
    cache.set(&Arc::new(session.clone()), &fixtures::read_version()).await;
}

/// Every field comes back, but those that caches leave out.
pub async fn set_then_get_returns_the_session(cache: &dyn SessionCache) {
    for (n, template) in
        [fixtures::session(), fixtures::bare_session(), fixtures::session()].into_iter().enumerate()
    {
        let renewal = (n == 1).then_some(TimeDelta::hours(1));
        let session =
            Session { id: fixtures::session_number(n as u64 + 1).id, renewal, ..template };
        set(cache, &session).await;
        assert_eq!(get(cache, &session).await, Some(session.for_cache()));
    }
}

/// The read version comes back as it was set: every field, and every transaction
/// in progress.
pub async fn set_then_get_returns_the_read_version(cache: &dyn SessionCache) {
    let Incarnation { system, database, life } = fixtures::read_version().incarnation;
    let snapshots = [
        Snapshot::below(200_000_000_000),
        Snapshot::new(123_456_789_012, [123_456_789_001]),
        Snapshot::new(u64::MAX, (0..Snapshot::MAX_IN_PROGRESS as u64).map(|n| u64::MAX - 2 * n)),
    ];
    for (n, snapshot) in snapshots.into_iter().enumerate() {
        let version = ReadVersion { incarnation: Incarnation { system, database, life }, snapshot };
        let session = fixtures::session_number(n as u64 + 1);
        cache.set(&Arc::new(session.clone()), &version).await;
        let cached =
            cache.get(session.id, session.user_id).await.expect("the session that was set");
        assert_eq!(cached.version, version, "the read version that was set");
    }
}

/// What was never set is a miss.
pub async fn unknown_session_is_a_miss(cache: &dyn SessionCache) {
    set(cache, &fixtures::session()).await;
    assert_eq!(get(cache, &fixtures::session_number(404)).await, None);
}

/// A stranger sees a miss, and the owner's entry stays.
pub async fn another_user_is_a_miss(cache: &dyn SessionCache) {
    let session = fixtures::session();
    set(cache, &session).await;
    assert!(cache.get(session.id, fixtures::another_user()).await.is_none());
    assert!(get(cache, &session).await.is_some());
}

/// The last word counts.
pub async fn later_set_replaces_earlier(cache: &dyn SessionCache) {
    let first = fixtures::session();
    let second = Session { name: Some("renamed".into()), ..first.clone() };
    set(cache, &first).await;
    set(cache, &second).await;
    assert_eq!(
        get(cache, &first).await.and_then(|session| session.name).as_deref(),
        Some("renamed")
    );
}

/// A revoked session is not cached.
pub async fn revoked_session_is_never_cached(cache: &dyn SessionCache) {
    let revocation = Some(Revocation { at: fixtures::now(), reason: None, actor: None }.into());
    let session = Session { revocation, ..fixtures::session() };
    set(cache, &session).await;
    assert_eq!(get(cache, &session).await, None);
}

/// What was removed is gone, and nothing else; removing what is not there has no effect.
pub async fn removed_session_is_a_miss(cache: &dyn SessionCache) {
    let sessions: Vec<_> = (1..=20).map(fixtures::session_number).collect();
    for session in &sessions {
        set(cache, session).await;
    }
    let ended = |session: &Session| SessionKey { id: session.id, user_id: session.user_id };
    let mut removed: Vec<_> = sessions[1..].iter().map(ended).collect();
    removed.push(ended(&fixtures::session_number(404)));
    cache.remove(&removed).await;
    cache.remove(&[]).await;
    assert!(get(cache, &sessions[0]).await.is_some());
    for session in &sessions[1..] {
        assert_eq!(get(cache, session).await, None);
    }
}

/// What seems to have expired or to be idle is not returned: the database may have later activity.
pub async fn expired_session_is_a_miss(cache: &dyn SessionCache) {
    let now = fixtures::now();
    let idle_since = |since| Session {
        last_activity_at: since,
        idle_timeout: Some(TimeDelta::hours(1)),
        ..fixtures::session_number(2)
    };
    let an_hour_ago = now - TimeDelta::hours(1);
    for (session, is_served) in [
        (Session { expires_at: now, ..fixtures::session_number(1) }, false),
        (Session { expires_at: now + TimeDelta::hours(1), ..fixtures::session_number(1) }, true),
        (idle_since(an_hour_ago), false),
        (idle_since(an_hour_ago + TimeDelta::minutes(1)), true),
    ] {
        set(cache, &session).await;
        assert_eq!(get(cache, &session).await.is_some(), is_served, "{session:?}");
    }
}
