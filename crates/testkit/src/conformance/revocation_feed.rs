//! What every [`RevocationFeed`] does.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use domain::coherence::{RevocationEntry, Scope};
use domain::ports::{LogPosition, Poll, RevocationFeed, SessionEdit, TokenRotation};
use domain::{Actor, OnLimit, Revocation, Session, SessionId, SessionLimit, TokenHash, UserId};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{Stores, Turns};
use crate::fixtures;

/// Runs the suite against the store that the expression makes.
#[macro_export]
macro_rules! revocation_feed_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            revocation_feed,
            $fixture,
            $($must_fail,)?
            [
                revocation_is_in_the_next_poll,
                revocation_that_matches_no_session_is_in_the_next_poll,
                poll_goes_on_from_the_one_before,
                first_poll_brings_what_the_log_still_has,
                read_version_says_which_revocations_it_saw,
                node_alone_has_no_peers,
            ]
        );
    };
}

pub(super) const MAX_STALENESS: Duration = Duration::from_millis(500);

/// Polls until a row of pages is complete. Returns all entries as one page, and where the node is
/// then.
pub(super) async fn poll(feed: &dyn RevocationFeed, position: Option<&LogPosition>) -> Poll {
    let turns = Turns::until_done("reading the revocation log");
    let mut whole: Option<Poll> = None;
    loop {
        let from = whole.as_ref().map(|poll| &poll.position).or(position);
        let poll = feed.poll(from, true).await.unwrap().expect("a registered node");
        let is_last = poll.page.is_last;
        whole = Some(match whole {
            None => poll,
            Some(mut whole) => {
                assert_eq!(
                    poll.page.snapshot, whole.page.snapshot,
                    "the snapshot of the first page of the row"
                );
                whole.page.entries.extend(poll.page.entries);
                whole.page.is_last = is_last;
                whole.position = poll.position;
                whole
            }
        });
        if let Some(whole) = whole.take_if(|_| is_last) {
            return whole;
        }
        turns.next(&"one more page").await;
    }
}

pub(super) fn revocation() -> Revocation {
    Revocation {
        at: fixtures::now() + TimeDelta::seconds(1),
        reason: None,
        actor: Some(Actor::Service),
    }
}

/// Whether these entries are about the session.
pub(super) fn is_covered(entries: &[RevocationEntry], id: SessionId, user_id: UserId) -> bool {
    let covers = |scope| {
        scope == Scope::Session(id) || scope == Scope::User(user_id) || scope == Scope::AllUsers
    };
    entries.iter().any(|entry| covers(entry.scope))
}

/// Every way in which a session is revoked, and no other change. (Rows that are
/// deleted or shortened by direct SQL have tests of their own, in the adapters that have SQL.)
pub async fn revocation_is_in_the_next_poll(stores: &Stores) {
    stores.feed.register(MAX_STALENESS).await.unwrap();
    let user = |n: u128| UserId(Uuid::from_u128(n));
    let sessions: Vec<_> = (1..=6)
        .map(|n| Session { user_id: user(u128::from(n)), ..fixtures::session_number(n) })
        .collect();
    for session in &sessions {
        stores.sessions.insert(session, None).await.unwrap();
    }
    let many: Vec<_> =
        (10..30).map(|n| Session { user_id: user(99), ..fixtures::session_number(n) }).collect();
    for session in &many {
        stores.sessions.insert(session, None).await.unwrap();
    }
    let before = poll(&*stores.feed, None).await;

    let active_at = fixtures::now() + TimeDelta::seconds(1);
    let touch = domain::Touch {
        session_id: sessions[0].id,
        first_at: active_at,
        last_at: active_at,
        ip_address: None,
    };
    stores.sessions.touch(&[touch]).await.unwrap();
    stores
        .sessions
        .edit(sessions[0].id, &SessionEdit { name: Some(None), metadata: None, only_if: None })
        .await
        .unwrap();
    stores.sessions.revoke(&[sessions[1].id], &revocation()).await.unwrap();
    stores.sessions.revoke(&[sessions[1].id], &revocation()).await.unwrap();
    stores
        .sessions
        .revoke_all_of_user(user(99), Some(many[0].id), 1000, &revocation())
        .await
        .unwrap();
    let imported = Session { revocation: Some(revocation().into()), ..sessions[2].clone() };
    stores.sessions.import(&[imported]).await.unwrap();
    let rotation = TokenRotation { hash: TokenHash([9; 32]), at: active_at, only_if: None };
    assert!(stores.sessions.rotate_token(sessions[5].id, &rotation).await.unwrap());
    let newest = Session { user_id: sessions[4].user_id, ..fixtures::session_number(40) };
    let one = SessionLimit { max: NonZeroU32::MIN, on_limit: OnLimit::EvictOldest };
    stores.sessions.insert(&newest, Some(one)).await.unwrap();

    let Poll { page, position } = poll(&*stores.feed, Some(&before.position)).await;
    assert_eq!((page.incarnation, page.starts_over), (before.page.incarnation, None), "it goes on");
    assert!(
        page.entries.iter().all(|entry| !before.page.snapshot.sees(entry.sequence)),
        "{:?}",
        page.entries
    );
    assert!(
        page.entries.iter().all(|entry| page.snapshot.sees(entry.sequence)),
        "{:?}",
        page.entries
    );
    let covered = |session: &Session| is_covered(&page.entries, session.id, session.user_id);
    assert!(covered(&sessions[1]), "revoked");
    assert!(covered(&sessions[2]), "imported as revoked");
    assert!(covered(&sessions[4]), "evicted");
    assert!(covered(&sessions[5]), "its token was rotated");
    assert!(many[1..].iter().all(covered), "all of a user's were revoked");
    assert!(!covered(&sessions[0]) && !covered(&sessions[3]), "active, edited, or left alone");
    let again = poll(&*stores.feed, Some(&position)).await;
    assert_eq!(again.page.entries, [], "what was returned is not returned again");

    stores.sessions.revoke_all_sessions(None, 1000, &revocation()).await.unwrap();
    let page = poll(&*stores.feed, Some(&again.position)).await.page;
    assert!(
        is_covered(&page.entries, sessions[3].id, sessions[3].user_id),
        "all users' were revoked"
    );
}

/// Caches may hold sessions that the store does not have, after a restore.
pub async fn revocation_that_matches_no_session_is_in_the_next_poll(stores: &Stores) {
    stores.feed.register(MAX_STALENESS).await.unwrap();
    let user = fixtures::session().user_id;
    let other = fixtures::another_user();
    let gone = fixtures::session_number(404).id;
    let before = poll(&*stores.feed, None).await;
    let revoked =
        stores.sessions.revoke_all_of_user(user, None, 1000, &revocation()).await.unwrap();
    assert_eq!(revoked, []);
    let one = poll(&*stores.feed, Some(&before.position)).await;
    assert!(is_covered(&one.page.entries, gone, user), "all of a user's: {:?}", one.page.entries);
    assert!(
        !is_covered(&one.page.entries, gone, other),
        "all of a user's only: {:?}",
        one.page.entries
    );
    let revoked = stores.sessions.revoke_all_sessions(None, 1000, &revocation()).await.unwrap();
    assert_eq!(revoked, []);
    let all = poll(&*stores.feed, Some(&one.position)).await.page.entries;
    assert!(is_covered(&all, gone, other), "all users': {all:?}");
}

/// Concurrent writers, and a reader that goes on from poll to poll: nothing is missed.
pub async fn poll_goes_on_from_the_one_before(stores: &Stores) {
    stores.feed.register(MAX_STALENESS).await.unwrap();
    let session = |n: u64| Session {
        user_id: UserId(Uuid::from_u128(u128::from(n))),
        ..fixtures::session_number(n)
    };
    for n in 1..=100 {
        stores.sessions.insert(&session(n), None).await.unwrap();
    }
    let first = poll(&*stores.feed, None).await;
    let done = AtomicBool::new(false);
    let writers = async {
        let revoke = async |n| {
            let (session, turns) =
                (session(n), Turns::until_done("revoking 100 sessions concurrently"));
            while let Err(error) = stores.sessions.revoke(&[session.id], &revocation()).await {
                turns.next(&error).await;
            }
        };
        join_all((1..=100).map(revoke)).await;
        done.store(true, Ordering::SeqCst);
    };
    let reader = async {
        let mut seen = Vec::new();
        let mut last = first;
        let turns = Turns::until_done("polling the revocations of 100 sessions");
        loop {
            let was_done = done.load(Ordering::SeqCst);
            let polled = stores.feed.poll(Some(&last.position), true).await;
            turns.next(&polled).await;
            if let Ok(next) = polled {
                let next = next.expect("a registered node");
                assert!(next.page.snapshot.covers(&last.page.snapshot), "{next:?} after {last:?}");
                seen.extend(next.page.entries.iter().copied());
                let is_last = next.page.is_last;
                last = next;
                if was_done && is_last {
                    return seen;
                }
            }
        }
    };
    let ((), seen) = tokio::join!(writers, reader);
    for n in 1..=100 {
        assert!(is_covered(&seen, session(n).id, session(n).user_id), "{n}");
    }
}

/// So a node that starts can serve what is in the shared cache. A store whose life begins with each
/// process may have nothing to bring; it then has to say that everything before is missing.
pub async fn first_poll_brings_what_the_log_still_has(stores: &Stores) {
    stores.feed.register(MAX_STALENESS).await.unwrap();
    let session = fixtures::session();
    stores.sessions.insert(&session, None).await.unwrap();
    let read = stores.sessions.find_by_id(session.id).await.unwrap().unwrap();
    let version = read.version.expect("what the read had seen");
    stores.sessions.revoke(&[session.id], &revocation()).await.unwrap();
    let page = poll(&*stores.feed, None).await.page;
    let horizon = page.starts_over.expect("a first poll starts over");
    let has_entry = is_covered(&page.entries, session.id, session.user_id);
    assert!(
        has_entry || !version.snapshot.covers(&horizon),
        "a read from before the revocation could be served"
    );
    let unknown = LogPosition("of another store".to_owned());
    let page = poll(&*stores.feed, Some(&unknown)).await.page;
    assert!(page.starts_over.is_some(), "a position that means nothing");
}

/// What was read before a revocation is distinguished from what was read after it.
pub async fn read_version_says_which_revocations_it_saw(stores: &Stores) {
    stores.feed.register(MAX_STALENESS).await.unwrap();
    let [a, b] = [1, 2].map(fixtures::session_number);
    stores.sessions.insert(&a, None).await.unwrap();
    stores.sessions.insert(&b, None).await.unwrap();
    let first = poll(&*stores.feed, None).await;
    let version = async || {
        let read = stores.sessions.find_by_id(a.id).await.unwrap();
        read.and_then(|read| read.version).expect("what the read had seen")
    };
    let before = version().await;
    stores.sessions.revoke(&[b.id], &revocation()).await.unwrap();
    let page = poll(&*stores.feed, Some(&first.position)).await.page;
    let sequence = page.entries.iter().map(|entry| entry.sequence).max().expect("the revocation");
    assert!(!before.snapshot.sees(sequence), "{before:?} {page:?}");
    let after = version().await;
    assert!(after.snapshot.sees(sequence), "while another transaction is open: {after:?} {page:?}");
    assert!(after.snapshot.covers(&before.snapshot));
    assert_eq!((before.incarnation, after.incarnation), (page.incarnation, page.incarnation));
}

/// A node that is alone has no peers, and so does not wait.
pub async fn node_alone_has_no_peers(stores: &Stores) {
    stores.feed.register(MAX_STALENESS).await.unwrap();
    poll(&*stores.feed, None).await;
    let started = Instant::now();
    let peers = stores.feed.peers(Duration::from_secs(5)).await.unwrap();
    assert_eq!(peers.peers, []);
    assert!(started.elapsed() < Duration::from_secs(2), "it waits for no peers");
}
