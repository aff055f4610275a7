//! The limit of live sessions of a user.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use domain::ports::{Insertion, PortError, SessionListing, SessionRepository};
use domain::{OnLimit, Revocation, Session};
use futures_util::future::join_all;

use super::{insert_all, key_of, limit, listing, revocation};
use crate::conformance::Turns;
use crate::fixtures;

/// Sessions of one user, made a second apart, of which the first is revoked and the second has
/// expired by then.
async fn two_over_and_three_live(repo: &dyn SessionRepository) -> Vec<Session> {
    let session = |n: u64| Session {
        created_at: fixtures::now() - TimeDelta::seconds(100 - n as i64),
        ..fixtures::session_number(n)
    };
    let mut sessions: Vec<_> = (1..=5).map(session).collect();
    sessions[0].revocation = Some(revocation("over").into());
    sessions[1].expires_at = fixtures::now();
    insert_all(repo, &sessions).await;
    let strangers = Session { user_id: fixtures::another_user(), ..fixtures::session_number(6) };
    repo.insert(&strangers, None).await.unwrap();
    sessions
}

/// The oldest live ones are evicted, exactly as many as it takes; terminated ones do not count.
pub async fn limit_evicts_the_oldest_live_sessions(repo: &dyn SessionRepository) {
    let sessions = two_over_and_three_live(repo).await;
    let insert = async |n, max| {
        repo.insert(&fixtures::session_number(n), limit(max, OnLimit::EvictOldest)).await.unwrap()
    };

    assert_eq!(insert(10, 4).await, Insertion::Stored { evicted: Vec::new() });
    assert_eq!(
        insert(11, 3).await,
        Insertion::Stored { evicted: vec![key_of(&sessions[2]), key_of(&sessions[3])] }
    );
    let evicted = crate::find_session(repo, sessions[2].id).await.unwrap().revocation;
    assert_eq!(evicted, Some(Revocation::eviction(fixtures::now()).into()));
    assert_eq!(crate::find_session(repo, sessions[1].id).await.unwrap().revocation, None);
    let page = repo.list_by_user(&listing()).await.unwrap();
    assert_eq!((page.total_count, page.active_count), (7, 3));
    assert!(!crate::find_session(repo, fixtures::session_number(6).id).await.unwrap().is_revoked());
    // A lower limit later evicts all the more.
    let Insertion::Stored { evicted } = insert(12, 1).await else { panic!("not stored") };
    assert_eq!(evicted.len(), 3);
}

/// At the limit nothing is stored and nothing is evicted; below it, all is as without.
pub async fn limit_that_denies_stores_nothing(repo: &dyn SessionRepository) {
    two_over_and_three_live(repo).await;
    let insert = async |n, max| {
        repo.insert(&fixtures::session_number(n), limit(max, OnLimit::Deny)).await.unwrap()
    };

    assert_eq!(insert(10, 3).await, Insertion::LimitReached);
    assert_eq!(insert(10, 1).await, Insertion::LimitReached);
    assert_eq!(crate::find_session(repo, fixtures::session_number(10).id).await, None);
    assert_eq!(insert(10, 4).await, Insertion::Stored { evicted: Vec::new() });
    assert_eq!(repo.list_by_user(&listing()).await.unwrap().active_count, 4);
}

/// Sixty sign-ins at once at a limit of two: no reader ever sees more than two live ones,
/// and two are left.
pub async fn parallel_sign_ins_never_exceed_the_limit(repo: &dyn SessionRepository) {
    let done = AtomicBool::new(false);
    let sign_in = async |n: u64| {
        let turns = Turns::until_done("signing in sixty times concurrently");
        loop {
            match repo.insert(&fixtures::session_number(n), limit(2, OnLimit::EvictOldest)).await {
                Ok(Insertion::Stored { evicted }) => return evicted.len(),
                // So many at once may have to wait for longer than a call may take; then nothing
                // has happened, or all.
                Err(error @ (PortError::Unavailable(_) | PortError::OutcomeUnknown(_))) => {
                    turns.next(&error).await;
                }
                Err(PortError::Conflict(_)) => return 0,
                other => panic!("{other:?}"),
            }
        }
    };
    let sign_ins = async {
        let evicted = join_all((1..=60).map(&sign_in)).await;
        done.store(true, Ordering::SeqCst);
        evicted
    };
    let watch = async {
        let mut observations = 0;
        while !done.load(Ordering::SeqCst) {
            if let Ok(page) = repo.list_by_user(&listing()).await {
                assert!(page.active_count <= 2, "{} live sessions", page.active_count);
                observations += 1;
            }
            tokio::task::yield_now().await;
        }
        observations
    };
    let (observations, evicted) = tokio::join!(watch, sign_ins);
    assert!(evicted.len() == 60 && observations > 0);
    let page = repo.list_by_user(&listing()).await.unwrap();
    assert_eq!((page.total_count, page.active_count), (60, 2));
}

/// The idle time-out terminates a session as its lifetime does, to the microsecond.
pub async fn idle_session_is_neither_active_nor_counted_against_a_limit(
    repo: &dyn SessionRepository,
) {
    let now = fixtures::now();
    let hour = Some(TimeDelta::hours(1));
    let rested = |n, since| Session {
        created_at: now - TimeDelta::hours(2),
        last_activity_at: since,
        idle_timeout: hour,
        ..fixtures::session_number(n)
    };
    let idle = rested(1, now - TimeDelta::hours(1));
    let just_live = rested(2, now - TimeDelta::hours(1) + TimeDelta::microseconds(1));
    insert_all(repo, &[idle.clone(), just_live.clone()]).await;
    let page = repo.list_by_user(&SessionListing { active_only: true, ..listing() }).await.unwrap();
    assert_eq!((page.total_count, page.active_count), (2, 1));
    assert_eq!(page.sessions, std::slice::from_ref(&just_live));

    let insert = async |n| {
        repo.insert(&fixtures::session_number(n), limit(2, OnLimit::EvictOldest)).await.unwrap()
    };
    assert_eq!(insert(3).await, Insertion::Stored { evicted: Vec::new() });
    assert_eq!(insert(4).await, Insertion::Stored { evicted: vec![key_of(&just_live)] });
    assert!(!crate::find_session(repo, idle.id).await.unwrap().is_revoked());
}
