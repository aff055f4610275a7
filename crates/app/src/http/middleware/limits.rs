//! What one caller may ask of a node: requests per user, failed authentications per address, and
//! work in flight.

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::UserId;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use metrics::Counter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::auth::Refusal;
use crate::config::LimitSettings;
use crate::http::wire::client_address::network;
use crate::http::wire::problem::Problem;

/// How often buckets that are full again are dropped, which is what bounds their number.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);
/// Addresses that are blocked at a time, at most.
const MAX_BLOCKED: usize = 10_000;
/// Log lines about failed authentication, a second, at most. Metrics count all.
const LOG_RATE: NonZeroU32 = NonZeroU32::new(5).unwrap();

/// The limits of a node, and how far they are used up.
pub struct Limits {
    users: Option<DefaultKeyedRateLimiter<UserId>>,
    peers: Option<DefaultKeyedRateLimiter<IpAddr>>,
    /// Until when an address that failed too often is refused.
    blocked: Cache<IpAddr, Instant>,
    in_flight: u32,
    log: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Limits {
    /// Limits of which nothing is used up.
    pub fn new(settings: &LimitSettings) -> Self {
        Self {
            users: quota(settings.user_rate, settings.user_burst).map(RateLimiter::keyed),
            peers: quota(settings.peer_failure_rate, settings.peer_failure_burst)
                .map(RateLimiter::keyed),
            blocked: Cache::new(MAX_BLOCKED),
            in_flight: settings.in_flight,
            log: RateLimiter::direct(Quota::per_second(LOG_RATE)),
            clock: DefaultClock::default(),
        }
    }

    /// Returns permits for the work of one listener; `None`: there is no limit.
    pub(crate) fn permits(&self) -> Option<Arc<Semaphore>> {
        (self.in_flight > 0).then(|| Arc::new(Semaphore::new(self.in_flight as usize)))
    }

    /// Counts a request against the rate limit of its user.
    ///
    /// # Errors
    /// 429 with `Retry-After` if the user has made too many.
    pub(crate) fn admit_user(&self, user_id: UserId) -> Result<(), Problem> {
        let Some(wait) = self.users.as_ref().and_then(|users| self.wait(users, &user_id)) else {
            return Ok(());
        };
        metrics::counter!("sessiond_rate_limited_total", "limit" => "user").increment(1);
        Err(Problem::too_many_requests(wait))
    }

    /// Refuses an address that has failed to authenticate too often.
    ///
    /// # Errors
    /// 429 with `Retry-After`.
    pub(crate) fn admit_peer(&self, peer: Option<IpAddr>) -> Result<(), Problem> {
        let until = peer.and_then(|peer| self.blocked.get(&network(peer)));
        let wait = until.and_then(|until| until.checked_duration_since(Instant::now()));
        wait.map_or(Ok(()), |wait| Err(Problem::too_many_requests(wait)))
    }

    /// Counts and logs a failed authentication, and returns the response: `problem`, or 429 if
    /// there were too many from this address.
    pub(crate) fn record_failure(&self, failure: &AuthFailure<'_>, problem: Problem) -> Problem {
        let AuthFailure { listener, reason, peer, route } = *failure;
        auth_failures(listener, reason).increment(1);
        // Expired tokens and terminated sessions are everyday events; the others are errors or
        // attacks.
        let is_everyday =
            [MISSING_CREDENTIALS, SESSION_ENDED, Refusal::Expired.as_str()].contains(&reason);
        if !is_everyday && self.log.check().is_ok() {
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            tracing::warn!(listener, reason, peer, route, "authentication failed");
        }
        let Some(peer) = peer.map(network) else { return problem };
        let Some(wait) = self.peers.as_ref().and_then(|peers| self.wait(peers, &peer)) else {
            return problem;
        };
        self.blocked.insert(peer, Instant::now() + wait);
        metrics::counter!("sessiond_rate_limited_total", "limit" => "peer").increment(1);
        Problem::too_many_requests(wait)
    }

    /// Drops what is known of callers who have been quiet. Runs for as long as the node.
    pub async fn keep_small(self: Arc<Self>) {
        loop {
            tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
            if let Some(users) = &self.users {
                users.retain_recent();
                users.shrink_to_fit();
            }
            if let Some(peers) = &self.peers {
                peers.retain_recent();
                peers.shrink_to_fit();
            }
        }
    }

    /// Takes from a bucket; returns how long to wait if it is empty.
    fn wait<K: Hash + Eq + Clone>(
        &self,
        buckets: &DefaultKeyedRateLimiter<K>,
        key: &K,
    ) -> Option<Duration> {
        buckets.check_key(key).err().map(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// An authentication that failed.
pub(crate) struct AuthFailure<'a> {
    /// `public` or `service`
    pub(crate) listener: &'static str,
    /// Why, in a word.
    pub(crate) reason: &'static str,
    /// The client's address.
    pub(crate) peer: Option<IpAddr>,
    /// The route, not the path: paths hold ids.
    pub(crate) route: &'a str,
}

/// The reasons of failures that are not about a token, by listener.
pub(crate) const MISSING_CREDENTIALS: &str = "missing";
/// See [`MISSING_CREDENTIALS`].
pub(crate) const UNKNOWN_KEY: &str = "unknown_service_key";
/// See [`MISSING_CREDENTIALS`].
pub(crate) const MISSING_SCOPE: &str = "missing_scope";
/// See [`MISSING_CREDENTIALS`].
pub(crate) const SESSION_ENDED: &str = "session_ended";

/// A session token that is not that of its session.
pub(crate) const TOKEN_UNKNOWN: &str = "token_unknown";
/// A session token that was replaced longer ago than the grace.
pub(crate) const TOKEN_REUSED: &str = "token_reused";
/// A change by the session cookie, from another site.
pub(crate) const CROSS_SITE: &str = "cross_site_request";

/// A session that is unknown or another user's: which of the two, the caller must not learn from
/// how long the response takes either.
pub(crate) const NOT_OWN_SESSION: &str = "not_own_session";

/// Makes the metrics of this file appear before anything has happened: alerts on rates see nothing
/// else.
pub(crate) fn initialise_metrics() {
    for limit in ["user", "peer", "in_flight"] {
        metrics::counter!("sessiond_rate_limited_total", "limit" => limit).increment(0);
    }
    let public = Refusal::ALL.map(Refusal::as_str).into_iter().chain([
        MISSING_CREDENTIALS,
        SESSION_ENDED,
        NOT_OWN_SESSION,
        TOKEN_UNKNOWN,
        TOKEN_REUSED,
        CROSS_SITE,
    ]);
    let service = [MISSING_CREDENTIALS, UNKNOWN_KEY, MISSING_SCOPE];
    let all =
        public.map(|reason| ("public", reason)).chain(service.map(|reason| ("service", reason)));
    for (listener, reason) in all {
        auth_failures(listener, reason).increment(0);
    }
}

fn auth_failures(listener: &'static str, reason: &'static str) -> Counter {
    metrics::counter!(
        "sessiond_auth_failures_total",
        "listener" => listener,
        "reason" => reason
    )
}

fn quota(rate: u32, burst: u32) -> Option<Quota> {
    let rate = NonZeroU32::new(rate)?;
    Some(Quota::per_second(rate).allow_burst(NonZeroU32::new(burst).unwrap_or(rate)))
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use testkit::fixtures;

    use super::*;

    const SETTINGS: LimitSettings = LimitSettings {
        user_rate: 1,
        user_burst: 3,
        peer_failure_rate: 1,
        peer_failure_burst: 2,
        in_flight: 1,
        connections_per_address: None,
    };

    #[test]
    fn user_with_too_many_requests_waits_and_no_other() {
        let limits = Limits::new(&SETTINGS);
        let user = fixtures::session().user_id;
        let admitted = (0..10).filter(|_| limits.admit_user(user).is_ok()).count();
        assert_eq!(admitted, 3);
        assert!(limits.admit_user(fixtures::another_user()).is_ok());
        let unlimited = Limits::new(&LimitSettings { user_rate: 0, ..SETTINGS });
        assert!((0..10_000).all(|_| unlimited.admit_user(user).is_ok()));
    }

    #[test]
    fn address_that_fails_too_often_is_blocked_with_its_network_and_no_other() {
        let limits = Limits::new(&SETTINGS);
        let peer = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        let fail = |text: &str| {
            let failure = AuthFailure {
                listener: "public",
                reason: "signature",
                peer: peer(text),
                route: "/",
            };
            limits.record_failure(&failure, Problem::unauthenticated()).status().as_u16()
        };
        assert_eq!([1, 2, 3].map(|n| fail(&format!("2001:db8:1:1::{n}"))), [401, 401, 429]);
        assert!(limits.admit_peer(peer("2001:db8:1:1:ffff::1")).is_err());
        assert!(limits.admit_peer(peer("2001:db8:1:2::1")).is_ok());
        assert_eq!([1, 2, 3].map(|_| fail("192.0.2.1")), [401, 401, 429]);
        assert!(limits.admit_peer(peer("::ffff:192.0.2.1")).is_err());
        assert!(limits.admit_peer(peer("192.0.2.2")).is_ok() && limits.admit_peer(None).is_ok());
    }
}
