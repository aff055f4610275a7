//! What every [`SessionRepository`] does.

use chrono::TimeDelta;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::ports::{
    EditableFields, Insertion, ListPosition, MAX_COUNTED, PortError, SessionEdit, SessionKey,
    SessionListing, SessionRepository,
};
use domain::{
    Actor, IdempotencyKey, Metadata, OnLimit, Revocation, Session, SessionId, SessionLimit, Touch,
};

use futures_util::future::join_all;

use super::Turns;
use crate::fixtures;

/// Runs the suite against the adapter that the expression makes.
#[macro_export]
macro_rules! session_repository_contract {
    ($fixture:expr $(, $must_fail:ident)?) => {
        $crate::contract_tests!(
            session_repository,
            $fixture,
            $($must_fail,)?
            [
                inserted_session_is_found,
                unknown_session_is_none,
                second_insert_of_an_id_is_a_conflict,
                absent_fields_stay_absent,
                revoked_session_is_found_revoked,
                text_is_kept_verbatim,
                parallel_inserts_of_one_id_leave_one_row,
                limit_evicts_the_oldest_live_sessions,
                limit_that_denies_stores_nothing,
                parallel_sign_ins_never_exceed_the_limit,
                sessions_are_listed_newest_first_page_by_page,
                counts_and_active_only_leave_out_what_is_over,
                list_has_no_session_of_another_user,
                revoked_sessions_are_answered_once,
                first_revocation_is_kept,
                revoke_all_spares_exactly_the_excepted_session,
                all_sessions_are_revoked_batch_by_batch,
                idle_session_is_neither_active_nor_counted_against_a_limit,
                touches_move_activity_and_never_back,
                touches_do_not_wake_what_is_over,
                a_sliding_session_is_renewed_by_touches,
                edits_change_what_they_name,
                conditional_edits_change_what_they_expect_and_nothing_else,
                counts_stop_at_the_bound,
                an_idempotency_key_is_taken_once_by_a_user,
                imports_add_missing_sessions_and_their_revocations,
                random_commands_do_what_a_small_model_does,
            ]
        );
    };
}

async fn assert_round_trip(repo: &dyn SessionRepository, session: Session) {
    repo.insert(&session, None).await.unwrap();
    assert_eq!(crate::find_session(repo, session.id).await, Some(session));
}

/// What was inserted is found equal in every field, to the microsecond.
pub async fn inserted_session_is_found(repo: &dyn SessionRepository) {
    assert_round_trip(repo, fixtures::session()).await;
    assert_round_trip(repo, fixtures::session_number(2)).await;
}

/// An unknown id is `None`, not an error.
pub async fn unknown_session_is_none(repo: &dyn SessionRepository) {
    repo.insert(&fixtures::session(), None).await.unwrap();
    assert_eq!(crate::find_session(repo, fixtures::session_number(404).id).await, None);
}

/// An id is taken once, and the first row stays as it was.
pub async fn second_insert_of_an_id_is_a_conflict(repo: &dyn SessionRepository) {
    let first = fixtures::session();
    repo.insert(&first, None).await.unwrap();
    let second = Session { user_id: fixtures::another_user(), ..fixtures::bare_session() };
    assert!(matches!(repo.insert(&second, None).await, Err(PortError::Conflict(_))));
    assert_eq!(crate::find_session(repo, first.id).await, Some(first));
}

/// What is absent is found absent.
pub async fn absent_fields_stay_absent(repo: &dyn SessionRepository) {
    assert_round_trip(repo, fixtures::bare_session()).await;
}

/// An ended session is found, with its time and reason.
pub async fn revoked_session_is_found_revoked(repo: &dyn SessionRepository) {
    let at = fixtures::now() + TimeDelta::microseconds(1);
    let user = Some(Actor::User(fixtures::another_user()));
    let ends = [
        (None, None),
        (Some("lost phone".to_owned()), user),
        (Some(String::new()), Some(Actor::Service)),
    ];
    for (n, (reason, actor)) in ends.into_iter().enumerate() {
        let revocation = Some(Revocation { at, reason, actor }.into());
        assert_round_trip(repo, Session { revocation, ..fixtures::session_number(n as u64 + 1) })
            .await;
    }
}

/// Quotes, emoji, line breaks and the empty text are data.
pub async fn text_is_kept_verbatim(repo: &dyn SessionRepository) {
    for (n, text) in
        ["'; DROP TABLE sessions; --", "📱 Anaïs' phone", "two\r\nlines", "$1 ? %s {}", ""]
            .iter()
            .enumerate()
    {
        let session = Session {
            name: Some((*text).into()),
            user_agent: Some((*text).into()),
            device_info: Some((*text).into()),
            location: Some((*text).into()),
            ..fixtures::session_number(n as u64 + 1)
        };
        assert_round_trip(repo, session).await;
    }
}

/// Of many concurrent insertions of one id, exactly one succeeds and the others report the
/// conflict.
pub async fn parallel_inserts_of_one_id_leave_one_row(repo: &dyn SessionRepository) {
    let session = fixtures::session();
    let insert = || repo.insert(&session, None);
    let results = tokio::join!(insert(), insert(), insert(), insert(), insert(), insert());
    let results = [results.0, results.1, results.2, results.3, results.4, results.5];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        results.iter().all(|result| matches!(result, Ok(_) | Err(PortError::Conflict(_)))),
        "{results:?}"
    );
}

fn listing() -> SessionListing {
    let (user_id, now) = (fixtures::session().user_id, fixtures::now());
    SessionListing { user_id, now, active_only: false, limit: 100, after: None }
}

fn revocation(reason: &str) -> Revocation {
    Revocation {
        at: fixtures::now() + TimeDelta::seconds(1),
        reason: Some(reason.to_owned()),
        actor: Some(Actor::Service),
    }
}

fn ended(session: &Session) -> SessionKey {
    SessionKey { id: session.id, user_id: session.user_id }
}

fn sorted(mut sessions: Vec<SessionKey>) -> Vec<SessionKey> {
    sessions.sort();
    sessions
}

async fn insert_all(repo: &dyn SessionRepository, sessions: &[Session]) {
    for session in sessions {
        repo.insert(session, None).await.unwrap();
    }
}

/// Newest first, page by page, each session exactly once; those of one moment by descending id.
pub async fn sessions_are_listed_newest_first_page_by_page(repo: &dyn SessionRepository) {
    // Three moments, with three sessions each.
    let session = |n: u64| Session {
        created_at: fixtures::now() - TimeDelta::microseconds(n as i64 / 3),
        ..fixtures::session_number(100 - n)
    };
    let newest_first: Vec<_> = (0..9).map(session).collect();
    let mut shuffled = newest_first.clone();
    shuffled.rotate_left(4);
    insert_all(repo, &shuffled).await;

    let whole = repo.list_by_user(&listing()).await.unwrap();
    assert_eq!(whole.sessions, newest_first);
    for limit in [1, 2, 4, 9] {
        let mut seen = Vec::new();
        let mut after = None;
        let turns = Turns::at_most(10, "reading a list of nine page by page");
        loop {
            turns.next(&after).await;
            let page =
                repo.list_by_user(&SessionListing { limit, after, ..listing() }).await.unwrap();
            assert_eq!(
                (page.total_count, page.active_count),
                (9, 9),
                "the counts are not the page's"
            );
            let Some(last) = page.sessions.last() else { break };
            after = Some(ListPosition { created_at: last.created_at, id: last.id });
            assert!(page.sessions.len() <= limit as usize);
            seen.extend(page.sessions);
        }
        assert_eq!(seen, newest_first, "by {limit}");
    }
}

/// What is revoked or expired is counted and listed, but not as active; to the microsecond.
pub async fn counts_and_active_only_leave_out_what_is_over(repo: &dyn SessionRepository) {
    let now = fixtures::now();
    let created_at = now - TimeDelta::days(1);
    let template = |n| Session { created_at, ..fixtures::session_number(n) };
    let live = Session { expires_at: now + TimeDelta::microseconds(1), ..template(1) };
    let expired = Session { expires_at: now, ..template(2) };
    let revoked = Session { revocation: Some(revocation("over").into()), ..template(3) };
    insert_all(repo, &[live.clone(), expired, revoked]).await;

    let all = repo.list_by_user(&listing()).await.unwrap();
    assert_eq!((all.sessions.len(), all.total_count, all.active_count), (3, 3, 1));
    let active =
        repo.list_by_user(&SessionListing { active_only: true, ..listing() }).await.unwrap();
    assert_eq!((active.sessions, active.total_count, active.active_count), (vec![live], 3, 1));
}

/// A list is one user's.
pub async fn list_has_no_session_of_another_user(repo: &dyn SessionRepository) {
    repo.insert(&fixtures::session(), None).await.unwrap();
    let another = SessionListing { user_id: fixtures::another_user(), ..listing() };
    let page = repo.list_by_user(&another).await.unwrap();
    assert_eq!((page.sessions, page.total_count, page.active_count), (Vec::new(), 0, 0));
}

/// Those that were ended are answered, once; unknown ones and no ones are no matter.
pub async fn revoked_sessions_are_answered_once(repo: &dyn SessionRepository) {
    let sessions: Vec<_> = (1..=4).map(fixtures::session_number).collect();
    insert_all(repo, &sessions).await;
    let unknown = fixtures::session_number(404).id;
    let ids: Vec<SessionId> =
        sessions[..2].iter().map(|session| session.id).chain([unknown]).collect();

    let first = repo.revoke(&ids, &revocation("first")).await.unwrap();
    assert_eq!(sorted(first), [ended(&sessions[0]), ended(&sessions[1])]);
    let ids = [ids[0], ids[1], sessions[2].id, sessions[2].id];
    assert_eq!(repo.revoke(&ids, &revocation("second")).await.unwrap(), [ended(&sessions[2])]);
    assert_eq!(repo.revoke(&[], &revocation("third")).await.unwrap(), []);
    assert!(!crate::find_session(repo, sessions[3].id).await.unwrap().is_revoked());
}

/// Time, reason and actor of a revocation never change, whatever revokes the session again.
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
        own.iter().filter(|session| session.id != own[2].id).map(ended).collect();
    assert_eq!(sorted(ended_now), expected);
    // Another user's session as the exception spares nothing.
    let rest =
        repo.revoke_all_of_user(user_id, Some(strangers.id), 10, &revocation("all")).await.unwrap();
    assert_eq!(rest, [ended(&own[2])]);
    assert!(!crate::find_session(repo, strangers.id).await.unwrap().is_revoked());
}

fn limit(max: u32, on_limit: OnLimit) -> Option<SessionLimit> {
    Some(SessionLimit { max: NonZeroU32::new(max).expect("a limit of at least one"), on_limit })
}

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

/// The oldest live ones are ended, exactly as many as it takes; what is over counts for nothing.
pub async fn limit_evicts_the_oldest_live_sessions(repo: &dyn SessionRepository) {
    let sessions = two_over_and_three_live(repo).await;
    let insert = async |n, max| {
        repo.insert(&fixtures::session_number(n), limit(max, OnLimit::EvictOldest)).await.unwrap()
    };

    assert_eq!(insert(10, 4).await, Insertion::Stored { evicted: Vec::new() });
    assert_eq!(
        insert(11, 3).await,
        Insertion::Stored { evicted: vec![ended(&sessions[2]), ended(&sessions[3])] }
    );
    let evicted = crate::find_session(repo, sessions[2].id).await.unwrap().revocation;
    assert_eq!(evicted, Some(SessionLimit::eviction(fixtures::now()).into()));
    assert_eq!(crate::find_session(repo, sessions[1].id).await.unwrap().revocation, None);
    let page = repo.list_by_user(&listing()).await.unwrap();
    assert_eq!((page.total_count, page.active_count), (7, 3));
    assert!(!crate::find_session(repo, fixtures::session_number(6).id).await.unwrap().is_revoked());
    // A lower limit later ends all the more.
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
                Err(error @ PortError::Unavailable(_)) => turns.next(&error).await,
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

/// By ascending id, each once; what was ended before is passed over.
pub async fn all_sessions_are_revoked_batch_by_batch(repo: &dyn SessionRepository) {
    let mut sessions: Vec<_> = (1..=7).map(fixtures::session_number).collect();
    sessions[2].revocation = Some(revocation("before").into());
    sessions[4].user_id = fixtures::another_user();
    sessions[5].expires_at = fixtures::now() + TimeDelta::microseconds(1);
    insert_all(repo, &sessions).await;
    let all_users = Box::new(revocation("all_users"));
    let (mut after, mut batches) = (None, Vec::new());
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
        sessions.iter().filter(|session| !session.is_revoked()).map(ended).collect();
    assert_eq!(batches.concat(), expected);
    for session in &sessions {
        let expected = session.revocation.clone().unwrap_or(all_users.clone());
        assert_eq!(crate::find_session(repo, session.id).await.unwrap().revocation, Some(expected));
    }
}

/// Rest ends a session as its lifetime does, to the microsecond.
pub async fn idle_session_is_neither_active_nor_counted_against_a_limit(
    repo: &dyn SessionRepository,
) {
    let (now, hour) = (fixtures::now(), Some(TimeDelta::hours(1)));
    let rested = |n, since| Session {
        created_at: now - TimeDelta::hours(2),
        last_activity_at: since,
        idle_timeout: hour,
        ..fixtures::session_number(n)
    };
    let over = rested(1, now - TimeDelta::hours(1));
    let last_moment = rested(2, now - TimeDelta::hours(1) + TimeDelta::microseconds(1));
    insert_all(repo, &[over.clone(), last_moment.clone()]).await;
    let page = repo.list_by_user(&SessionListing { active_only: true, ..listing() }).await.unwrap();
    assert_eq!((page.total_count, page.active_count), (2, 1));
    assert_eq!(page.sessions, std::slice::from_ref(&last_moment));

    let insert = async |n| {
        repo.insert(&fixtures::session_number(n), limit(2, OnLimit::EvictOldest)).await.unwrap()
    };
    assert_eq!(insert(3).await, Insertion::Stored { evicted: Vec::new() });
    assert_eq!(insert(4).await, Insertion::Stored { evicted: vec![ended(&last_moment)] });
    assert!(!crate::find_session(repo, over.id).await.unwrap().is_revoked());
}

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
pub async fn touches_do_not_wake_what_is_over(repo: &dyn SessionRepository) {
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

/// The end moves once less than half of the lifetime is left, and only then.
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

/// What is named changes, what is not stays, and the answer is what is stored.
pub async fn edits_change_what_they_name(repo: &dyn SessionRepository) {
    let mut session = fixtures::session();
    let other = fixtures::session_number(2);
    insert_all(repo, &[session.clone(), other.clone()]).await;
    let metadata = |key: &str| Metadata::from_iter([(key.to_owned(), "'; DROP -- 📱".into())]);
    for (name, data) in [
        (Some(Some("Anaïs' 📱")), None),
        (None, Some(Some(metadata("first")))),
        (None, None),
        (Some(Some("both")), Some(Some(Metadata::new()))),
        (Some(None), Some(None)),
    ] {
        let edit = SessionEdit {
            name: name.map(|name| name.map(str::to_owned)),
            metadata: data,
            only_if: None,
        };
        session.name = name.map_or(session.name, |name| name.map(Into::into));
        session.metadata =
            edit.metadata.clone().map_or(session.metadata, |metadata| metadata.map(Into::into));
        assert_eq!(repo.edit(session.id, &edit).await.unwrap().as_ref(), Some(&session));
        assert_eq!(crate::find_session(repo, session.id).await.as_ref(), Some(&session));
    }
    let without_key =
        repo.edit(fixtures::session_number(404).id, &SessionEdit::default()).await.unwrap();
    assert_eq!(without_key, None);
    assert_eq!(crate::find_session(repo, other.id).await, Some(other));
}

/// An edit that expects what is no longer there changes nothing, and of parallel ones one wins.
pub async fn conditional_edits_change_what_they_expect_and_nothing_else(
    repo: &dyn SessionRepository,
) {
    let session = fixtures::session();
    let metadata = Metadata::from_iter([("n".to_owned(), 1.into()), ("a".to_owned(), "é".into())]);
    repo.insert(&Session { metadata: Some(metadata.clone().into()), ..session.clone() }, None)
        .await
        .unwrap();
    let present = EditableFields {
        name: session.name.as_deref().map(str::to_owned),
        metadata: Some(metadata),
    };
    let rename = |to: &str, only_if: &EditableFields| SessionEdit {
        name: Some(Some(to.to_owned())),
        metadata: None,
        only_if: Some(only_if.clone()),
    };
    for other in [
        EditableFields { name: Some("another".to_owned()), ..present.clone() },
        EditableFields { name: None, ..present.clone() },
        EditableFields { metadata: None, ..present.clone() },
        EditableFields { metadata: Some(Metadata::new()), ..present.clone() },
    ] {
        assert_eq!(repo.edit(session.id, &rename("x", &other)).await.unwrap(), None, "{other:?}");
    }
    let edits = [rename("first", &present), rename("second", &present)];
    let (first, second) = futures_util::future::join(
        repo.edit(session.id, &edits[0]),
        repo.edit(session.id, &edits[1]),
    )
    .await;
    let winners: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(crate::find_session(repo, session.id).await.as_ref(), Some(&winners[0]));
    let bare = Session { id: fixtures::session_number(7).id, ..fixtures::bare_session() };
    repo.insert(&bare, None).await.unwrap();
    assert!(repo.edit(bare.id, &rename("x", &EditableFields::default())).await.unwrap().is_some());
}

/// A user with very many sessions is counted to the bound, and paged through all the same.
pub async fn counts_stop_at_the_bound(repo: &dyn SessionRepository) {
    let user_id = fixtures::another_user();
    let numbers: Vec<_> = (0..MAX_COUNTED + 3).collect();
    for chunk in numbers.chunks(1000) {
        let sessions = chunk.iter().map(|n| {
            let revocation = (n % 2 == 0).then(|| revocation("even").into());
            Session {
                user_id,
                revocation,
                ..Session { id: fixtures::session_number(*n).id, ..fixtures::bare_session() }
            }
        });
        repo.import(&sessions.collect::<Vec<_>>()).await.unwrap();
    }
    let page = repo.list_by_user(&SessionListing { user_id, limit: 1, ..listing() }).await.unwrap();
    assert_eq!((page.total_count, page.active_count), (MAX_COUNTED, MAX_COUNTED / 2 + 1));
}

/// Once by each user; the first session with it is found by it.
pub async fn an_idempotency_key_is_taken_once_by_a_user(repo: &dyn SessionRepository) {
    let with_key = |n, key: &str| Session {
        idempotency_key: Some(IdempotencyKey { text: key.into(), request_hash: [n as u8; 32] }),
        ..fixtures::session_number(n)
    };
    let first = with_key(1, "a key");
    let strangers = Session { user_id: fixtures::another_user(), ..with_key(2, "a key") };
    insert_all(repo, &[first.clone(), strangers.clone(), with_key(3, "another")]).await;

    // Even where the limit has ended the session that the key made.
    let again = repo.insert(&with_key(4, "a key"), limit(1, OnLimit::EvictOldest)).await;
    assert!(matches!(again, Err(PortError::Conflict(_))), "{again:?}");
    assert_eq!(
        crate::find_session(repo, first.id).await.as_ref(),
        Some(&first),
        "a conflict changes nothing"
    );
    let found = repo.find_by_idempotency_key(first.user_id, "a key").await.unwrap();
    assert_eq!(found, Some(first));
    let found = repo.find_by_idempotency_key(strangers.user_id, "a key").await.unwrap();
    assert_eq!(found, Some(strangers));
    assert_eq!(
        repo.find_by_idempotency_key(fixtures::another_user(), "another").await.unwrap(),
        None
    );
}

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

/// Whatever is done in whatever order, the store says what the small model says.
pub async fn random_commands_do_what_a_small_model_does(repo: &dyn SessionRepository) {
    super::model::compare(repo);
}
