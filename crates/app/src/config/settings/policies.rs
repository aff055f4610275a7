//! Policies: of sessions, of their tokens, and how stale caches may be.

use std::num::NonZeroU32;
use std::time::Duration;

use application::Policies;
use chrono::TimeDelta;
use domain::{OnLimit, OnTokenReuse, SessionPolicy, TokenPolicy};

use super::Reader;
use crate::config::keys::PRESETS;

const LIFETIME: &str = "sessions.lifetime";
const IDLE_TIMEOUT: &str = "sessions.idle_timeout";
const SLIDING: &str = "sessions.sliding";

impl Reader<'_> {
    pub(super) fn policies(&self) -> Option<Policies> {
        let sessions = self.session_policy();
        let tokens = self.token_policy();
        let activity_window = self.time_delta("activity.window", "0s", "1h");
        let retention = self.time_delta("cleanup.retention", "0s", "3650d");
        let max_staleness = self.max_staleness_ms();
        Some(Policies {
            sessions: sessions?,
            tokens: tokens?,
            activity_window: activity_window?,
            retention: retention?,
            max_staleness: Duration::from_millis(max_staleness?),
        })
    }

    fn session_policy(&self) -> Option<SessionPolicy> {
        let max_per_user = self.optional("sessions.max_per_user", 1, 1000);
        let on_limit = self.one_of(
            "sessions.on_limit",
            &[("evict-oldest", OnLimit::EvictOldest), ("deny", OnLimit::Deny)],
        );
        let lifetime = self.time_delta(LIFETIME, "1s", "3650d");
        let idle_timeout = match self.text(IDLE_TIMEOUT).as_deref() {
            None | Some("none") => Some(None),
            Some(_) => self.time_delta(IDLE_TIMEOUT, "1s", "3650d").map(Some),
        };
        let sliding = self.flag(SLIDING);
        let policy = SessionPolicy {
            lifetime: lifetime?,
            idle_timeout: idle_timeout?,
            sliding: sliding?,
            max_per_user: max_per_user?.and_then(NonZeroU32::new),
            on_limit: on_limit?,
        };
        self.check_preset(&policy)?;
        Some(policy)
    }

    fn token_policy(&self) -> Option<TokenPolicy> {
        let rotation_grace = self.time_delta("auth.rotation_grace", "0s", "1h");
        let on_reuse = self.one_of(
            "auth.on_token_reuse",
            &[("report", OnTokenReuse::Report), ("revoke", OnTokenReuse::Revoke)],
        );
        Some(TokenPolicy { rotation_grace: rotation_grace?, on_reuse: on_reuse? })
    }

    /// Refuses time-outs that are laxer than the preset: an operator may be stricter than it asks
    /// for.
    fn check_preset(&self, policy: &SessionPolicy) -> Option<()> {
        let Some(name) = self.text("sessions.preset") else { return Some(()) };
        let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) else {
            return self.fail("sessions.preset", "must be aal1, aal2 or aal3");
        };
        let at_most = |limit: &str| {
            let limit = humantime::parse_duration(limit).ok();
            limit.and_then(|limit| TimeDelta::from_std(limit).ok()).unwrap_or_default()
        };
        let too_long = |key, limit| {
            self.fail(key, format!("must be at most {limit} with sessions.preset = {name}"))
        };
        if policy.lifetime > at_most(preset.lifetime) {
            return too_long(LIFETIME, preset.lifetime);
        }
        if let Some(limit) = preset.idle_timeout
            && policy.idle_timeout.is_none_or(|timeout| timeout > at_most(limit))
        {
            return too_long(IDLE_TIMEOUT, limit);
        }
        if policy.sliding {
            let problem =
                format!("must be false with sessions.preset = {name}: its lifetime is absolute");
            return self.fail(SLIDING, problem);
        }
        Some(())
    }

    fn max_staleness_ms(&self) -> Option<u64> {
        self.bounded("coherence.max_staleness_ms", 50, 10_000)
    }

    pub(super) fn poll(&self) -> Option<Duration> {
        // What is wrong with the other key is said once, by `policies`.
        let max_staleness: u64 = self.text("coherence.max_staleness_ms")?.parse().ok()?;
        Some(Duration::from_millis(self.bounded(
            "coherence.poll_ms",
            10,
            (max_staleness / 2).max(10),
        )?))
    }
}
