//! Lists of a user's sessions.

use chrono::TimeDelta;
use domain::Session;
use domain::ports::{ListPosition, MAX_COUNTED, SessionListing, SessionRepository};

use super::{insert_all, listing, revocation};
use crate::conformance::Turns;
use crate::fixtures;

/// Newest first, page by page, each session exactly once; those of the same time by descending id.
pub async fn sessions_are_listed_newest_first_page_by_page(repo: &dyn SessionRepository) {
    // Three times, with three sessions each.
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
pub async fn counts_and_active_only_leave_out_terminated_sessions(repo: &dyn SessionRepository) {
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
