//! What every [`EventOutbox`] does.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use domain::ports::{EventOutbox, EventQuery, SessionEdit, TokenRotation};
use domain::{
    Actor, OnLimit, Revocation, Session, SessionEvent, SessionEventKind, SessionId, SessionLimit,
    TokenHash, Touch,
};
use futures_util::future::join_all;

use super::{Stores, Turns};
use crate::fixtures;

/// Runs the suite against the store that the expression makes.
#[macro_export]
macro_rules! event_outbox_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            event_outbox,
            $fixture,
            $($must_fail,)?
            [
                every_change_writes_its_event,
                events_are_read_in_order_page_by_page,
                no_event_is_lost_between_parallel_writers,
                events_are_filtered_by_session_and_user,
                newest_position_is_where_a_reader_of_later_events_begins,
            ]
        );
    };
}

async fn all(outbox: &dyn EventOutbox) -> Vec<SessionEvent> {
    outbox.events(&EventQuery { limit: 1000, ..EventQuery::default() }).await.unwrap()
}

type Recorded = (SessionEventKind, SessionId, Option<String>, Option<Actor>);

fn recorded(event: &SessionEvent) -> Recorded {
    (event.kind, event.session_id, event.reason.clone(), event.actor.clone())
}

/// Each change that matters, once, with when, why and by whom.
pub async fn every_change_writes_its_event(stores: &Stores) {
    let now = fixtures::now();
    let hour = TimeDelta::hours(1);
    let sessions = &stores.sessions;
    let [mut a, b, mut c, mut d] = [1, 2, 3, 4].map(fixtures::session_number);
    a.expires_at = now + hour;
    a.renewal = Some(hour);
    c.idle_timeout = Some(hour);
    d.expires_at = now + hour;
    sessions.insert(&a, None).await.unwrap();
    let two = SessionLimit { max: NonZeroU32::MIN, on_limit: OnLimit::EvictOldest };
    sessions.insert(&b, Some(two)).await.unwrap();
    sessions.import(&[c.clone(), d.clone()]).await.unwrap();

    let user = Some(Actor::User(b.user_id));
    let lost = Revocation {
        at: now + TimeDelta::seconds(5),
        reason: Some("lost".into()),
        actor: user.clone(),
    };
    for _ in 0..2 {
        sessions.revoke(&[b.id], &lost).await.unwrap();
        sessions
            .revoke_all_of_user(
                b.user_id,
                Some(d.id),
                1000,
                &Revocation { reason: None, ..lost.clone() },
            )
            .await
            .unwrap();
        sessions
            .edit(d.id, &SessionEdit { name: Some(None), metadata: None, only_if: None })
            .await
            .unwrap();
        let at = now + TimeDelta::seconds(6);
        let touch = Touch { session_id: d.id, first_at: at, last_at: at, ip_address: None };
        sessions.touch(&[touch]).await.unwrap();
    }
    let [mut e, mut f] = [5, 6].map(fixtures::session_number);
    e.expires_at = now + hour;
    e.renewal = Some(hour);
    f.idle_timeout = Some(hour);
    sessions.insert(&e, None).await.unwrap();
    sessions.insert(&f, None).await.unwrap();
    let used = now + TimeDelta::minutes(31);
    let touch = Touch { session_id: e.id, first_at: used, last_at: used, ip_address: None };
    sessions.touch(&[touch]).await.unwrap();
    let rotation = TokenRotation { hash: TokenHash([9; 32]), at: now + hour / 2, only_if: None };
    let replaced = f.tokens.as_ref().unwrap().current;
    assert!(sessions.rotate_token(f.id, &rotation).await.unwrap());
    let reused_at = now + hour * 3 / 4;
    for _ in 0..2 {
        sessions.mark_token_reused(f.id, &replaced, reused_at).await.unwrap();
        stores.retention.mark_expired(now + hour, 100).await.unwrap();
    }

    let events = all(&*stores.events).await;
    let of = |id| {
        events.iter().filter(move |event| event.session_id == id).map(recorded).collect::<Vec<_>>()
    };
    let created = |session: &Session| (SessionEventKind::Created, session.id, None, None);
    let text = |text: &str| Some(text.to_owned());
    let system = Some(Actor::System);
    assert_eq!(
        of(a.id),
        [created(&a), (SessionEventKind::Evicted, a.id, text("session_limit"), system.clone())]
    );
    assert_eq!(
        of(b.id),
        [created(&b), (SessionEventKind::Revoked, b.id, text("lost"), user.clone())]
    );
    assert_eq!(of(c.id), [created(&c), (SessionEventKind::Revoked, c.id, None, user)]);
    assert_eq!(
        of(d.id),
        [created(&d), (SessionEventKind::Expired, d.id, text("lifetime"), system.clone())]
    );
    assert_eq!(of(e.id), [created(&e), (SessionEventKind::Renewed, e.id, None, None)]);
    assert_eq!(
        of(f.id),
        [
            created(&f),
            (SessionEventKind::TokenReused, f.id, None, None),
            (SessionEventKind::Expired, f.id, text("idle_timeout"), system)
        ]
    );
    let at = |id, kind| {
        events.iter().find(|event| event.session_id == id && event.kind == kind).unwrap().at
    };
    assert_eq!(at(b.id, SessionEventKind::Created), now);
    assert_eq!(at(b.id, SessionEventKind::Revoked), lost.at);
    assert_eq!(at(d.id, SessionEventKind::Expired), d.expires_at);
    assert_eq!(at(f.id, SessionEventKind::Expired), now + hour);
    assert_eq!(at(f.id, SessionEventKind::TokenReused), reused_at);
    assert_eq!(at(e.id, SessionEventKind::Renewed), used);
    assert!(events.iter().all(|event| event.user_id == a.user_id));
}

/// Pages of any size make up the whole, and reading changes nothing.
pub async fn events_are_read_in_order_page_by_page(stores: &Stores) {
    for n in 1..=10 {
        stores.sessions.insert(&fixtures::session_number(n), None).await.unwrap();
    }
    let whole = all(&*stores.events).await;
    let ids: Vec<_> = whole.iter().map(|event| event.session_id).collect();
    assert_eq!(ids, (1..=10).map(|n| fixtures::session_number(n).id).collect::<Vec<_>>());
    assert!(whole.is_sorted_by(|a, b| a.position < b.position) && whole[0].position > 0);
    for limit in [1, 3, 10] {
        let mut seen = Vec::new();
        let mut after = 0;
        let turns = Turns::at_most(11, "reading ten events page by page");
        loop {
            turns.next(&after).await;
            let page = stores
                .events
                .events(&EventQuery { after, limit, ..EventQuery::default() })
                .await
                .unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= limit as usize);
            after = last.position;
            seen.extend(page);
        }
        assert_eq!(seen, whole, "by {limit}");
    }
}

/// A reader that goes on from what it saw last misses nothing, however the writers' commits
/// interleave.
pub async fn no_event_is_lost_between_parallel_writers(stores: &Stores) {
    let done = AtomicBool::new(false);
    let writers = async {
        let insert = async |n| {
            let session = fixtures::session_number(n);
            let turns = Turns::until_done("inserting 100 sessions concurrently");
            while let Err(error) = stores.sessions.insert(&session, None).await {
                if stores.sessions.find_by_id(session.id).await.is_ok_and(|found| found.is_some()) {
                    break;
                }
                turns.next(&error).await;
            }
        };
        join_all((1..=100).map(insert)).await;
        done.store(true, Ordering::SeqCst);
    };
    let reader = async {
        let (mut seen, turns) =
            (Vec::new(), Turns::until_done("reading the events of 100 sessions"));
        loop {
            let was_done = done.load(Ordering::SeqCst);
            let after = seen.last().map_or(0, |event: &SessionEvent| event.position);
            let page = stores
                .events
                .events(&EventQuery { after, limit: 7, ..EventQuery::default() })
                .await;
            turns.next(&page).await;
            let Ok(page) = page else { continue };
            if page.is_empty() && was_done {
                return seen;
            }
            seen.extend(page);
            assert!(seen.len() <= 100, "an event is read again: {:?}", seen.last());
        }
    };
    let ((), seen) = tokio::join!(writers, reader);
    let mut ids: Vec<_> = seen.iter().map(|event| event.session_id).collect();
    ids.sort();
    assert_eq!(ids, (1..=100).map(|n| fixtures::session_number(n).id).collect::<Vec<_>>());
}

/// The history of one session, of one user, or of all users.
pub async fn events_are_filtered_by_session_and_user(stores: &Stores) {
    let [a, b] = [1, 2].map(fixtures::session_number);
    let c = Session { user_id: fixtures::another_user(), ..fixtures::session_number(3) };
    for session in [&a, &b, &c] {
        stores.sessions.insert(session, None).await.unwrap();
    }
    let revocation = Revocation { at: fixtures::now(), reason: None, actor: Some(Actor::Service) };
    stores.sessions.revoke(&[a.id, c.id], &revocation).await.unwrap();

    let count = async |session_id, user_id| {
        let query = EventQuery { limit: 10, session_id, user_id, ..EventQuery::default() };
        stores.events.events(&query).await.unwrap().len()
    };
    assert_eq!(count(None, None).await, 5);
    assert_eq!(count(Some(a.id), None).await, 2);
    assert_eq!(count(Some(b.id), None).await, 1);
    assert_eq!(count(None, Some(a.user_id)).await, 3);
    assert_eq!(count(Some(a.id), Some(c.user_id)).await, 0);
    assert_eq!(count(Some(fixtures::session_number(404).id), None).await, 0);
}

/// A reader that begins now sees what comes, and nothing before it.
pub async fn newest_position_is_where_a_reader_of_later_events_begins(stores: &Stores) {
    assert_eq!(stores.events.newest_position().await.unwrap(), 0, "there are no events");
    let [first, second] = [1, 2].map(fixtures::session_number);
    stores.sessions.insert(&first, None).await.unwrap();
    let after = stores.events.newest_position().await.unwrap();
    assert_eq!(Some(after), all(&*stores.events).await.last().map(|event| event.position));
    stores.sessions.insert(&second, None).await.unwrap();
    let query = EventQuery { after, limit: 10, ..EventQuery::default() };
    let later = stores.events.events(&query).await.unwrap();
    assert_eq!(later.iter().map(|event| event.session_id).collect::<Vec<_>>(), [second.id]);
}
