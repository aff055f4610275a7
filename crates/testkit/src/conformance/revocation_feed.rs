//! What every [`RevocationFeed`] does.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::TimeDelta;
use domain::coherence::{LoggedEnd, Scope};
use domain::ports::{Look, RevocationFeed, SessionEdit};
use domain::{Actor, OnLimit, Revocation, Session, SessionId, SessionLimit, UserId};
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
                an_end_is_seen_by_the_next_look,
                a_look_goes_on_from_the_one_before,
                a_read_is_stamped_with_what_it_has_seen,
                a_node_alone_waits_for_nobody,
            ]
        );
    };
}

pub(super) const DELTA: Duration = Duration::from_millis(500);

pub(super) async fn look(feed: &dyn RevocationFeed, from: Option<u64>) -> Look {
    feed.look(from, None).await.unwrap().unwrap()
}

pub(super) fn revocation() -> Revocation {
    Revocation { at: fixtures::now() + TimeDelta::seconds(1), reason: None, actor: Some(Actor::Service) }
}

/// Whether these entries say that the session may have ended.
pub(super) fn is_covered(ends: &[LoggedEnd], id: SessionId, user_id: UserId) -> bool {
    let covers = |scope| scope == Scope::Session(id) || scope == Scope::User(user_id) || scope == Scope::Everybody;
    ends.iter().any(|end| covers(end.scope))
}

/// However a session ends before its time, and nothing else that happens to it. (Rows that are deleted or shortened by direct SQL
/// have tests of their own, in the adapters that have SQL.)
pub async fn an_end_is_seen_by_the_next_look(stores: &Stores) {
    stores.feed.register(DELTA).await.unwrap();
    let user = |n: u128| UserId(Uuid::from_u128(n));
    let sessions: Vec<_> =
        (1..=6).map(|n| Session { user_id: user(u128::from(n)), ..fixtures::session_number(n) }).collect();
    for session in &sessions {
        stores.sessions.insert(session, None).await.unwrap();
    }
    let many: Vec<_> = (10..30).map(|n| Session { user_id: user(99), ..fixtures::session_number(n) }).collect();
    for session in &many {
        stores.sessions.insert(session, None).await.unwrap();
    }
    let from = look(&*stores.feed, None).await.page.next;

    let use_at = fixtures::now() + TimeDelta::seconds(1);
    let touch = domain::Touch { session_id: sessions[0].id, first_at: use_at, last_at: use_at, ip_address: None };
    stores.sessions.touch(&[touch]).await.unwrap();
    stores.sessions.edit(sessions[0].id, &SessionEdit { name: Some(None), metadata: None }).await.unwrap();
    stores.sessions.revoke(&[sessions[1].id], &revocation()).await.unwrap();
    stores.sessions.revoke(&[sessions[1].id], &revocation()).await.unwrap();
    stores.sessions.revoke_all_of_user(user(99), Some(many[0].id), 1000, &revocation()).await.unwrap();
    let imported = Session { revocation: Some(revocation().into()), ..sessions[2].clone() };
    stores.sessions.import(&[imported]).await.unwrap();
    let newest = Session { user_id: sessions[4].user_id, ..fixtures::session_number(40) };
    let one = SessionLimit { max: NonZeroU32::MIN, on_limit: OnLimit::EvictOldest };
    stores.sessions.insert(&newest, Some(one)).await.unwrap();

    let page = look(&*stores.feed, Some(from)).await.page;
    assert!(page.complete && page.next >= from);
    assert!(page.ends.iter().all(|end| end.change >= from), "{page:?}");
    let covered = |session: &Session| is_covered(&page.ends, session.id, session.user_id);
    assert!(covered(&sessions[1]), "revoked");
    assert!(covered(&sessions[2]), "imported as revoked");
    assert!(covered(&sessions[4]), "evicted");
    assert!(many[1..].iter().all(covered), "all of a user's were revoked");
    assert!(!covered(&sessions[0]) && !covered(&sessions[3]), "used, edited, or left alone");
    // Found again for as long as anybody else's transaction from before is under way, and then no more.
    soon(
        async || look(&*stores.feed, Some(page.next)).await.page,
        |again| {
            assert!(again.ends.iter().all(|end| page.ends.contains(end)), "{again:?}");
            page.ends.iter().all(|end| end.change < again.next)
        },
    )
    .await;

    let from = look(&*stores.feed, None).await.page.next;
    stores.sessions.revoke_everybody(None, 1000, &revocation()).await.unwrap();
    let page = look(&*stores.feed, Some(from)).await.page;
    assert!(is_covered(&page.ends, sessions[3].id, sessions[3].user_id), "everybody's were revoked");
}

/// Asks until the answer is as wished, for some seconds: a store may have to wait for strangers' transactions.
async fn soon<T: std::fmt::Debug>(ask: impl AsyncFn() -> T, wished: impl Fn(&T) -> bool) -> T {
    let turns = Turns::until_done("waiting for other transactions to end");
    loop {
        let answer = ask().await;
        if wished(&answer) {
            return answer;
        }
        turns.next(&answer).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writers at once, a reader that goes on from look to look: nothing is missed.
pub async fn a_look_goes_on_from_the_one_before(stores: &Stores) {
    stores.feed.register(DELTA).await.unwrap();
    let session = |n: u64| Session { user_id: UserId(Uuid::from_u128(u128::from(n))), ..fixtures::session_number(n) };
    for n in 1..=100 {
        stores.sessions.insert(&session(n), None).await.unwrap();
    }
    let mut from = look(&*stores.feed, None).await.page.next;
    let done = std::sync::atomic::AtomicBool::new(false);
    let writers = async {
        let revoke = async |n| {
            let (session, turns) = (session(n), Turns::until_done("revoking 100 sessions concurrently"));
            while let Err(error) = stores.sessions.revoke(&[session.id], &revocation()).await {
                turns.next(&error).await;
            }
        };
        join_all((1..=100).map(revoke)).await;
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let reader = async {
        let (mut seen, turns) = (Vec::new(), Turns::until_done("looking at the ends of 100 sessions"));
        loop {
            let was_done = done.load(std::sync::atomic::Ordering::SeqCst);
            let look = stores.feed.look(Some(from), None).await;
            turns.next(&look).await;
            if let Ok(look) = look {
                let page = look.unwrap().page;
                assert!(page.next >= from);
                from = page.next;
                seen.extend(page.ends);
                if was_done {
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

/// Before an end below it, after it above it, so that what was read before is told from what was read after.
pub async fn a_read_is_stamped_with_what_it_has_seen(stores: &Stores) {
    stores.feed.register(DELTA).await.unwrap();
    let [a, b] = [1, 2].map(fixtures::session_number);
    stores.sessions.insert(&a, None).await.unwrap();
    stores.sessions.insert(&b, None).await.unwrap();
    let from = look(&*stores.feed, None).await.page.next;
    let stamp =
        async |session: &Session| stores.sessions.find_by_id(session.id).await.unwrap().unwrap().stamp.0.unwrap();
    let before = stamp(&a).await;
    stores.sessions.revoke(&[b.id], &revocation()).await.unwrap();
    let page = look(&*stores.feed, Some(from)).await.page;
    let change = page.ends.iter().map(|end| end.change).max().unwrap();
    assert!(before.seen_below <= change, "{before:?} {page:?}");
    let after = soon(async || stamp(&a).await, |after| after.seen_below > change).await;
    assert_eq!((before.incarnation, after.incarnation), (page.incarnation, page.incarnation));
}

/// A node that is alone has no peers.
pub async fn a_node_alone_waits_for_nobody(stores: &Stores) {
    stores.feed.register(DELTA).await.unwrap();
    let mark = stores.feed.mark().await.unwrap();
    assert_eq!((mark.others, stores.feed.behind(mark.change).await.unwrap()), (Vec::new(), Vec::new()));
}
