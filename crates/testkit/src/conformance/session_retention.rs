//! What every [`SessionRetention`](domain::ports::SessionRetention) does.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ports::EventQuery;
use domain::{Actor, Revocation, Session};

use super::{Stores, Turns};
use crate::fixtures;

/// Runs the suite against the store that the expression makes.
#[macro_export]
macro_rules! session_retention_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            session_retention,
            $fixture,
            $($must_fail,)?
            [
                expired_sessions_are_marked_once,
                terminated_sessions_are_deleted_after_their_retention,
                revoked_and_deleted_session_is_not_imported_again,
                old_events_are_deleted_and_positions_are_not_used_again,
                batches_are_bounded_and_the_backlog_is_counted,
                parallel_cleaners_share_the_work,
            ]
        );
    };
}

fn at(seconds: i64) -> DateTime<Utc> {
    fixtures::now() + TimeDelta::seconds(seconds)
}

/// A live one, one that is revoked at 10 s, one that expires at 20 s, and one that is idle at 30 s.
async fn four(stores: &Stores) -> [Session; 4] {
    let [live, mut revoked, mut expired, mut idle] = [1, 2, 3, 4].map(fixtures::session_number);
    revoked.revocation =
        Some(Revocation { at: at(10), reason: None, actor: Some(Actor::Service) }.into());
    revoked.expires_at = at(15);
    expired.expires_at = at(20);
    idle.idle_timeout = Some(TimeDelta::seconds(30));
    for session in [&live, &revoked, &expired, &idle] {
        stores.sessions.insert(session, None).await.unwrap();
    }
    [live, revoked, expired, idle]
}

async fn are_there(stores: &Stores, sessions: &[Session]) -> Vec<bool> {
    let mut there = Vec::new();
    for session in sessions {
        let found = crate::find_session(&*stores.sessions, session.id).await;
        assert!(found.is_none() || found.as_ref() == Some(session), "{found:?}");
        there.push(found.is_some());
    }
    there
}

/// A session of another system that was revoked here, and deleted before its lifetime had passed:
/// importing it again must not bring it back to life.
pub async fn revoked_and_deleted_session_is_not_imported_again(stores: &Stores) {
    let far = fixtures::now() + TimeDelta::days(36_500);
    let [revoked, live] =
        [1, 2].map(|n| Session { expires_at: far, ..fixtures::session_number(n) });
    let both = [revoked.clone(), live.clone()];
    assert_eq!(stores.sessions.import(&both).await.unwrap(), 2);
    let revocation = Revocation { at: at(10), reason: None, actor: Some(Actor::Service) };
    stores.sessions.revoke(&[revoked.id], &revocation).await.unwrap();
    assert_eq!(stores.retention.delete_terminated(at(10), 100).await.unwrap(), 1);
    for _ in 0..2 {
        assert_eq!(stores.sessions.import(&both).await.unwrap(), 0);
    }
    assert_eq!(crate::find_session(&*stores.sessions, revoked.id).await, None);
    assert_eq!(crate::find_session(&*stores.sessions, live.id).await, Some(live));
}

/// At the time that they expire, to the microsecond, and not again.
pub async fn expired_sessions_are_marked_once(stores: &Stores) {
    let sessions = four(stores).await;
    let note = async |now| stores.retention.mark_expired(now, 100).await.unwrap();
    let instant = TimeDelta::microseconds(1);
    assert_eq!(note(at(20) - instant).await, 0);
    assert_eq!(note(at(20)).await, 1);
    assert_eq!(note(at(30) - instant).await, 0);
    assert_eq!(note(at(30)).await, 1);
    assert_eq!(note(at(40)).await, 0);
    assert_eq!(are_there(stores, &sessions).await, [true; 4]);
}

/// By when they were terminated, in whichever way.
pub async fn terminated_sessions_are_deleted_after_their_retention(stores: &Stores) {
    let sessions = four(stores).await;
    let delete = async |by| stores.retention.delete_terminated(by, 100).await.unwrap();
    let instant = TimeDelta::microseconds(1);
    assert_eq!(delete(at(10) - instant).await, 0);
    assert_eq!(delete(at(10)).await, 1);
    assert_eq!(delete(at(100)).await, 0, "what was not marked expired is not deleted");
    stores.retention.mark_expired(at(30), 100).await.unwrap();
    assert_eq!(delete(at(20)).await, 1);
    assert_eq!(delete(at(30) - instant).await, 0);
    assert_eq!(delete(at(30)).await, 1);
    assert_eq!(are_there(stores, &sessions).await, [true, false, false, false]);
    // Their events are still in the feed.
    let events =
        stores.events.events(&EventQuery { limit: 100, ..EventQuery::default() }).await.unwrap();
    assert_eq!(events.len(), 7);
}

/// The oldest first, no more than are asked for; and a reader goes on where it was.
pub async fn old_events_are_deleted_and_positions_are_not_used_again(stores: &Stores) {
    four(stores).await;
    let long_ago = at(-1_000_000_000);
    let later = at(1_000_000_000);
    let read = async |after| {
        stores
            .events
            .events(&EventQuery { after, limit: 100, ..EventQuery::default() })
            .await
            .unwrap()
    };
    let before = read(0).await;
    assert_eq!(stores.retention.delete_events(long_ago, 100).await.unwrap(), 0);
    assert_eq!(stores.retention.delete_events(later, 2).await.unwrap(), 2);
    assert_eq!(read(0).await, before[2..]);
    assert_eq!(stores.retention.delete_events(later, 100).await.unwrap(), 3);
    assert_eq!(read(0).await, []);

    let last = before.last().unwrap().position;
    stores.sessions.insert(&fixtures::session_number(9), None).await.unwrap();
    assert_eq!(read(last).await.len(), 1);
}

/// No call does more than it was asked for, and what is left is counted, up to a bound.
pub async fn batches_are_bounded_and_the_backlog_is_counted(stores: &Stores) {
    for n in 1..=10 {
        let session = Session { expires_at: at(1), ..fixtures::session_number(n) };
        stores.sessions.insert(&session, None).await.unwrap();
    }
    let backlog = async |limit| stores.retention.backlog(at(1), at(1), limit).await.unwrap();
    assert_eq!(stores.retention.backlog(at(0), at(0), 100).await.unwrap(), 0);
    assert_eq!((backlog(100).await, backlog(7).await), (10, 7));
    assert_eq!(stores.retention.mark_expired(at(1), 4).await.unwrap(), 4);
    assert_eq!(backlog(100).await, 10);
    assert_eq!(stores.retention.delete_terminated(at(1), 3).await.unwrap(), 3);
    assert_eq!(backlog(100).await, 7);
    assert_eq!(stores.retention.mark_expired(at(1), 100).await.unwrap(), 6);
    assert_eq!(stores.retention.delete_terminated(at(1), 100).await.unwrap(), 7);
    assert_eq!(backlog(100).await, 0);
}

/// Concurrent cleanup does everything once.
pub async fn parallel_cleaners_share_the_work(stores: &Stores) {
    for n in 1..=200 {
        let session = Session { expires_at: at(1), ..fixtures::session_number(n) };
        stores.sessions.insert(&session, None).await.unwrap();
    }
    let clean = async || {
        let mut noted = 0;
        let mut deleted = 0;
        let turns = Turns::until_done("cleaning up until nothing is left");
        while stores.retention.backlog(at(1), at(1), 1).await.unwrap() > 0 {
            turns.next(&format!("{deleted} are deleted")).await;
            noted += stores.retention.mark_expired(at(1), 9).await.unwrap();
            deleted += stores.retention.delete_terminated(at(1), 9).await.unwrap();
        }
        (noted, deleted)
    };
    let (a, b, c) = tokio::join!(clean(), clean(), clean());
    assert_eq!((a.0 + b.0 + c.0, a.1 + b.1 + c.1), (200, 200));
    let events =
        stores.events.events(&EventQuery { limit: 1000, ..EventQuery::default() }).await.unwrap();
    assert_eq!(events.len(), 400);
}
