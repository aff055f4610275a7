//! What happens while a demo runs: users sign in, are active, and are signed out.

use std::sync::Arc;
use std::time::Duration;

use application::Application;
use application::coherence::Acknowledge;
use application::commands::{CreateSession, RecordActivity, RevokeSession};
use chrono::{DateTime, Utc};
use domain::ports::Clock;
use domain::{Actor, SessionId, UserId};
use fastrand::Rng;

use super::population::{Population, reason, sign_in};
use crate::system::SystemClock;

/// The pause between two things that happen, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 300..2_500;
/// Live sessions that the demo uses, at most: the oldest are left alone.
const MAX_USED: usize = 200;

/// Goes on until it is dropped. What a node refuses is not tried again.
pub(super) fn run(
    application: Arc<Application>,
    rng: Rng,
    population: &Population,
) -> impl Future<Output = ()> + use<> {
    let now = SystemClock.now();
    // Those of the owner are on the devices page: only the person in front of it signs them out.
    let others = population.sessions.iter().filter(|it| it.user_id != population.owner);
    let live = others.filter(|it| it.is_live(now)).map(|it| (it.id, it.user_id)).collect();
    let users = population.users.clone();
    Traffic { application, rng, live, users, owner: population.owner, owner_signed_in_at: now }
        .go_on()
}

struct Traffic {
    application: Arc<Application>,
    rng: Rng,
    live: Vec<(SessionId, UserId)>,
    users: Vec<UserId>,
    owner: UserId,
    owner_signed_in_at: DateTime<Utc>,
}

impl Traffic {
    async fn go_on(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.rng.u64(PAUSE_MS))).await;
            match self.rng.u8(0..10) {
                0..4 => self.sign_in().await,
                4..8 => self.use_session().await,
                _ => self.sign_out().await,
            }
        }
    }

    async fn sign_in(&mut self) {
        let user_id = self.next_user();
        let (user_agent, address) = sign_in(&mut self.rng);
        let command = CreateSession {
            user_agent: Some(user_agent.to_owned()),
            ip_address: address.parse().ok(),
            max_sessions: std::num::NonZeroU32::new(10),
            ..CreateSession::of(user_id)
        };
        let Ok(created) = self.application.create_session.handle(command).await else { return };
        if user_id != self.owner {
            self.live.push((created.session.id, user_id));
        }
        if self.live.len() > MAX_USED {
            self.live.remove(0);
        }
    }

    /// Returns who signs in next: once a minute the owner of the devices page.
    fn next_user(&mut self) -> UserId {
        let now = SystemClock.now();
        if (now - self.owner_signed_in_at).num_seconds() >= 60 {
            self.owner_signed_in_at = now;
            return self.owner;
        }
        self.users[self.rng.usize(..self.users.len())]
    }

    async fn use_session(&mut self) {
        let Some(&(session_id, _)) = self.rng.choice(&self.live) else { return };
        let ip_address = sign_in(&mut self.rng).1.parse().ok();
        let command = RecordActivity { session_id, ip_address };
        // The session may have been revoked meanwhile.
        let _ = self.application.record_activity.handle(command).await;
    }

    async fn sign_out(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let (session_id, user_id) = self.live.swap_remove(self.rng.usize(..self.live.len()));
        let actor = match self.rng.bool() {
            true => Actor::User(user_id),
            false => Actor::NamedService("demo".into()),
        };
        let reason = Some(reason(&mut self.rng).to_owned());
        let acknowledge = Acknowledge::Effective;
        let command = RevokeSession { session_id, owner: None, reason, actor, acknowledge };
        let _ = self.application.revoke_session.handle(command).await;
    }
}
