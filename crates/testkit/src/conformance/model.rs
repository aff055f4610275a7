//! A store reduced to a vector, and random commands that compare the two.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use domain::ports::{Insertion, SessionEdit, SessionListing, SessionRepository};
use domain::{
    Actor, OnLimit, Revocation, Session, SessionId, SessionLimit, SessionStatus, Touch, UserId,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::fixtures;

/// Something that is done to a store. Users and sessions are numbers: users of two, sessions in the
/// order of their creation.
#[derive(Clone, Debug)]
enum Command {
    Create {
        user: usize,
        lifetime: i64,
        idle: Option<i64>,
        sliding: bool,
        limit: Option<(u32, bool)>,
    },
    Revoke {
        session: usize,
    },
    RevokeAll {
        user: usize,
        except: Option<usize>,
    },
    Touch {
        session: usize,
        since: i64,
    },
    Rename {
        session: usize,
        name: Option<String>,
    },
    /// Time passes, in seconds.
    Wait(i64),
}

fn command() -> impl Strategy<Value = Command> {
    let session = 0..8_usize;
    let user = 0..2_usize;
    let limit = proptest::option::of((1..4_u32, any::<bool>()));
    prop_oneof![
        4 => (user.clone(), 1..100_i64, proptest::option::of(1..40_i64), any::<bool>(), limit)
            .prop_map(|(user, lifetime, idle, sliding, limit)| {
                Command::Create { user, lifetime, idle, sliding, limit }
            }),
        2 => session.clone().prop_map(|session| Command::Revoke { session }),
        1 => (user, proptest::option::of(session.clone()))
            .prop_map(|(user, except)| Command::RevokeAll { user, except }),
        4 => (session.clone(), 0..10_i64)
            .prop_map(|(session, since)| Command::Touch { session, since }),
        1 => (session, proptest::option::of(".{0,64}"))
            .prop_map(|(session, name)| {
                let name = name.map(|name| name.replace('\0', ""));
                Command::Rename { session, name }
            }),
        3 => (0..50_i64).prop_map(Command::Wait),
    ]
}

/// A session as the model sees it: times are seconds.
#[derive(Clone, Debug)]
struct ModelSession {
    id: SessionId,
    user: usize,
    created: i64,
    used: i64,
    expires: i64,
    idle: Option<i64>,
    renewal: Option<i64>,
    revoked: Option<(i64, &'static str)>,
    name: Option<String>,
}

impl ModelSession {
    fn status(&self, now: i64) -> SessionStatus {
        match self {
            Self { revoked: Some(_), .. } => SessionStatus::Revoked,
            Self { expires, .. } if *expires <= now => SessionStatus::Expired,
            Self { idle: Some(idle), used, .. } if used + idle <= now => SessionStatus::Idle,
            _ => SessionStatus::Live,
        }
    }
}

struct Model<'a> {
    repo: &'a dyn SessionRepository,
    users: [UserId; 2],
    sessions: Vec<ModelSession>,
    now: i64,
}

fn time(seconds: i64) -> DateTime<Utc> {
    fixtures::now() + TimeDelta::seconds(seconds)
}

fn revocation(now: i64, reason: &str) -> Revocation {
    Revocation { at: time(now), reason: Some(reason.to_owned()), actor: Some(Actor::Service) }
}

impl Model<'_> {
    /// Does the same to both.
    async fn run(&mut self, command: Command) {
        let now = self.now;
        match command {
            Command::Wait(seconds) => self.now += seconds,
            Command::Create { user, lifetime, idle, sliding, limit } => {
                let renewal = sliding.then_some(lifetime);
                // Ascending, as a server's are.
                let id = SessionId(Uuid::from_u128(
                    self.users[0].0.as_u128() + self.sessions.len() as u128,
                ));
                let session = Session {
                    id,
                    user_id: self.users[user],
                    created_at: time(now),
                    last_activity_at: time(now),
                    expires_at: time(now + lifetime),
                    idle_timeout: idle.map(TimeDelta::seconds),
                    renewal: renewal.map(TimeDelta::seconds),
                    ..fixtures::bare_session()
                };
                let is_live = |other: &&mut ModelSession| {
                    other.user == user && other.status(now) == SessionStatus::Live
                };
                let mut live: Vec<_> = self.sessions.iter_mut().filter(is_live).collect();
                let too_many =
                    limit.map_or(0, |(max, _)| (live.len() + 1).saturating_sub(max as usize));
                let port_limit = limit.map(|(max, deny)| SessionLimit {
                    max: NonZeroU32::new(max).expect("at least one"),
                    on_limit: if deny { OnLimit::Deny } else { OnLimit::EvictOldest },
                });
                let inserted = self.repo.insert(&session, port_limit).await.unwrap();
                if too_many > 0 && limit.is_some_and(|(_, deny)| deny) {
                    assert_eq!(inserted, Insertion::LimitReached);
                    return;
                }
                for oldest in &mut live[..too_many] {
                    oldest.revoked = Some((now, "session_limit"));
                }
                let expected: Vec<_> = live[..too_many].iter().map(|session| session.id).collect();
                let Insertion::Stored { evicted } = inserted else { panic!("not stored") };
                assert_eq!(evicted.iter().map(|ended| ended.id).collect::<Vec<_>>(), expected);
                let created = now;
                let used = now;
                let expires = now + lifetime;
                self.sessions.push(ModelSession {
                    id,
                    user,
                    created,
                    used,
                    expires,
                    idle,
                    renewal,
                    revoked: None,
                    name: None,
                });
            }
            Command::Revoke { session } => {
                let Some(session) = self.sessions.get_mut(session) else { return };
                let ended = self.repo.revoke(&[session.id], &revocation(now, "one")).await.unwrap();
                assert_eq!(ended.len(), usize::from(session.revoked.is_none()));
                session.revoked = session.revoked.or(Some((now, "one")));
            }
            Command::RevokeAll { user, except } => {
                let except = except.and_then(|n| self.sessions.get(n)).map(|session| session.id);
                let ended = self
                    .repo
                    .revoke_all_of_user(self.users[user], except, 1000, &revocation(now, "all"))
                    .await
                    .unwrap();
                let fits = |session: &&mut ModelSession| {
                    session.user == user && Some(session.id) != except && session.revoked.is_none()
                };
                let mut fitting: Vec<_> = self.sessions.iter_mut().filter(fits).collect();
                assert_eq!(ended.len(), fitting.len());
                fitting.iter_mut().for_each(|session| session.revoked = Some((now, "all")));
            }
            Command::Touch { session, since } => {
                let Some(session) = self.sessions.get_mut(session) else { return };
                // The first use was a while ago, but not before the session was.
                let first = (now - since).max(session.created);
                let first_at = time(first);
                let last_at = time(now);
                self.repo
                    .touch(&[Touch { session_id: session.id, first_at, last_at, ip_address: None }])
                    .await
                    .unwrap();
                if session.status(first) == SessionStatus::Live {
                    session.used = session.used.max(now);
                    if let Some(renewal) = session.renewal
                        && 2 * (session.expires - now) < renewal
                    {
                        session.expires = now + renewal;
                    }
                }
            }
            Command::Rename { session, name } => {
                let Some(session) = self.sessions.get_mut(session) else { return };
                session.name.clone_from(&name);
                let edit = SessionEdit { name: Some(name), metadata: None, only_if: None };
                assert!(self.repo.edit(session.id, &edit).await.unwrap().is_some());
            }
        }
    }

    /// Whether the store says what the model says.
    async fn check(&self) {
        for expected in &self.sessions {
            let found = crate::find_session(self.repo, expected.id).await.unwrap();
            assert_eq!(
                found.status(time(self.now)),
                expected.status(self.now),
                "{expected:?} {found:?}"
            );
            assert_eq!(
                (found.last_activity_at, found.expires_at),
                (time(expected.used), time(expected.expires))
            );
            assert_eq!(found.name.as_deref(), expected.name.as_deref());
            let why = found
                .revocation
                .map(|revocation| (revocation.at, revocation.reason.unwrap_or_default()));
            assert_eq!(why, expected.revoked.map(|(at, why)| (time(at), why.to_owned())));
        }
        for (user, user_id) in self.users.into_iter().enumerate() {
            let listing = SessionListing {
                user_id,
                now: time(self.now),
                active_only: true,
                limit: 100,
                after: None,
            };
            let page = self.repo.list_by_user(&listing).await.unwrap();
            let own = || self.sessions.iter().filter(|session| session.user == user);
            let live = own().filter(|session| session.status(self.now) == SessionStatus::Live);
            let mut expected: Vec<_> = live.map(|session| (session.created, session.id)).collect();
            expected.sort();
            expected.reverse();
            let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
            assert_eq!(
                page.sessions.iter().map(|session| session.id).collect::<Vec<_>>(),
                expected
            );
            assert_eq!(
                (page.total_count, page.active_count),
                (own().count() as u64, expected.len() as u64)
            );
        }
    }
}

/// Runs random commands on the store and on the model. Needs a runtime of several threads.
pub(super) fn compare(repo: &dyn SessionRepository) {
    // A failure is made smaller for seconds, not for as long as it takes.
    let config =
        Config { cases: 40, failure_persistence: None, max_shrink_time: 5000, ..Config::default() };
    let commands = proptest::collection::vec(command(), 1..25);
    let cases = AtomicU64::new(0);
    let run = |commands: Vec<Command>| {
        // Users and ids of its own, so that each case starts from nothing.
        let case = u128::from(cases.fetch_add(1, Ordering::Relaxed));
        let users = [1, 2].map(|user| UserId(Uuid::from_u128((case << 64) + user)));
        tokio::task::block_in_place(|| {
            Handle::current().block_on(async {
                let mut model = Model { repo, users, sessions: Vec::new(), now: 0 };
                for command in commands {
                    model.run(command).await;
                    model.check().await;
                }
            });
        });
        Ok(())
    };
    if let Err(error) = TestRunner::new(config).run(&commands, run) {
        panic!("{error}");
    }
}
