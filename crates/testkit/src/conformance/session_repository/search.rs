//! The operators' search.

use chrono::TimeDelta;
use domain::ports::{ListPosition, SearchPage, SessionFilter, SessionRepository, SessionSearch};
use domain::{Device, DeviceKind, Revocation, Session, SessionId, SessionStatus, UserId};

use super::insert_all;
use crate::fixtures;

fn search(filter: SessionFilter) -> SessionSearch {
    SessionSearch { filter, now: fixtures::now(), limit: 100, after: None, max_examined: 1000 }
}

fn ids(page: &SearchPage) -> Vec<SessionId> {
    page.sessions.iter().map(|session| session.id).collect()
}

/// Sessions that differ in every field that a search goes by, and two of the same time.
fn sessions() -> Vec<Session> {
    let now = fixtures::now();
    let minute = TimeDelta::minutes(1);
    let mut sessions: Vec<_> = (1..=12).map(fixtures::session_number).collect();
    for (age, session) in (0..).zip(&mut sessions) {
        session.created_at = now - minute * (age / 2);
        session.last_activity_at = now - minute * (age / 3);
    }
    let phone = Device {
        browser: Some("Safari".into()),
        system: Some("iOS".into()),
        kind: DeviceKind::Mobile,
    };
    let another = UserId(uuid::Uuid::from_u128(7));
    for session in &mut sessions[3..6] {
        session.device_info = phone.describe();
        session.device = Some(phone.clone());
        session.ip_address = Some([198, 51, 100, 7].into());
    }
    sessions[4].last_ip_address = sessions[4].ip_address;
    sessions[5].user_id = another;
    sessions[6].user_id = another;
    sessions[6].device_info = None;
    sessions[6].device = None;
    sessions[7].ip_address = None;
    sessions[7].last_ip_address = Some([198, 51, 100, 7].into());
    sessions[8].revocation = Some(Revocation { at: now, reason: None, actor: None }.into());
    sessions[9].expires_at = now;
    sessions[10].idle_timeout = Some(TimeDelta::minutes(2));
    sessions[10].last_activity_at = now - TimeDelta::minutes(2);
    sessions[11].user_id = another;
    sessions[11].last_ip_address = None;
    sessions
}

/// What the domain says of the same search, newest first.
fn expected(sessions: &[Session], filter: &SessionFilter) -> Vec<SessionId> {
    let mut found: Vec<_> =
        sessions.iter().filter(|session| filter.matches(session, fixtures::now())).collect();
    found.sort_by_key(|session| std::cmp::Reverse((session.created_at, session.id)));
    found.into_iter().map(|session| session.id).collect()
}

/// Pages that go on from the last session of the one before show each session once.
pub async fn search_finds_what_matches_newest_first_page_by_page(repo: &dyn SessionRepository) {
    let empty = repo.search(&search(SessionFilter::default())).await.unwrap();
    assert_eq!(empty, SearchPage::default());
    let sessions = sessions();
    insert_all(repo, &sessions).await;
    let all = expected(&sessions, &SessionFilter::default());
    assert_eq!(ids(&repo.search(&search(SessionFilter::default())).await.unwrap()), all);
    for limit in [1, 5] {
        let mut found = Vec::new();
        let mut after = None;
        while found.len() < all.len() {
            let search = SessionSearch { limit, after, ..search(SessionFilter::default()) };
            let page = repo.search(&search).await.unwrap();
            let last = page.sessions.last().expect("a page is empty before the end");
            after = Some(ListPosition { created_at: last.created_at, id: last.id });
            found.extend(ids(&page));
        }
        assert_eq!(found, all, "in pages of {limit}");
    }
    let page = repo.search(&search(SessionFilter::default())).await.unwrap();
    let found = page.sessions.iter().find(|session| session.id == sessions[0].id);
    assert_eq!(found, Some(&sessions[0]), "every field is read");
}

/// Each field alone, and several together.
pub async fn search_filters_by_each_field_as_the_domain_does(repo: &dyn SessionRepository) {
    let sessions = sessions();
    insert_all(repo, &sessions).await;
    let none = SessionFilter::default();
    let user_id = Some(sessions[5].user_id);
    let ip_address = Some([198, 51, 100, 7].into());
    let at = Some(fixtures::now() - TimeDelta::minutes(2));
    let device = |text: &str| SessionFilter { device: Some(text.into()), ..none.clone() };
    let status = |status| SessionFilter { status: Some(status), ..none.clone() };
    let filters = [
        (SessionFilter { user_id, ..none.clone() }, 3),
        (SessionFilter { ip_address, ..none.clone() }, 4),
        (SessionFilter { created_after: at, ..none.clone() }, 6),
        (SessionFilter { created_before: at, ..none.clone() }, 6),
        (SessionFilter { active_after: at, ..none.clone() }, 10),
        (device("SAFARI on"), 3),
        (device("mobile"), 3),
        (device("mob"), 0),
        (device("%"), 0),
        (device("chrome"), 8),
        (status(SessionStatus::Live), 9),
        (status(SessionStatus::Revoked), 1),
        (status(SessionStatus::Expired), 1),
        (status(SessionStatus::Idle), 1),
        (
            SessionFilter {
                user_id,
                ip_address,
                status: Some(SessionStatus::Live),
                created_after: Some(fixtures::now() - TimeDelta::hours(1)),
                device: Some("ios".into()),
                ..none.clone()
            },
            1,
        ),
    ];
    for (filter, count) in filters {
        let page = repo.search(&search(filter.clone())).await.unwrap();
        assert_eq!(ids(&page), expected(&sessions, &filter), "{filter:?}");
        assert_eq!((page.sessions.len(), page.examined_until), (count, None), "{filter:?}");
    }
}

/// A page may be short, or empty, and says where to go on.
pub async fn search_stops_at_its_bound_and_goes_on_from_there(repo: &dyn SessionRepository) {
    let sessions = sessions();
    insert_all(repo, &sessions).await;
    let filter = SessionFilter { status: Some(SessionStatus::Revoked), ..Default::default() };
    let mut found = Vec::new();
    let mut pages = 0;
    let mut after = None;
    loop {
        let bounded = SessionSearch { after, max_examined: 4, ..search(filter.clone()) };
        let page = repo.search(&bounded).await.unwrap();
        found.extend(ids(&page));
        pages += 1;
        assert!(pages < 10, "the search does not end");
        after = page.examined_until;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, expected(&sessions, &filter));
    assert!(pages >= 3, "{pages} pages of four of twelve sessions");
    // What an index finds is examined alone.
    let ip_address = Some([198, 51, 100, 7].into());
    let filter = SessionFilter { ip_address, ..Default::default() };
    let bounded = SessionSearch { max_examined: 5, ..search(filter.clone()) };
    let page = repo.search(&bounded).await.unwrap();
    assert_eq!((ids(&page), page.examined_until), (expected(&sessions, &filter), None));
}
