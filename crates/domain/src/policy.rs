//! How long sessions live, and how many a user may have.

use std::num::NonZeroU32;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

/// The rules that a new session is made under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// How long a session lives after its creation, at most (NIST SP 800-63B-4 section 2.2.3: the
    /// overall time-out).
    pub lifetime: TimeDelta,
    /// The idle time-out (the same section: the inactivity time-out); none, if absent.
    pub idle_timeout: Option<TimeDelta>,
    /// Whether activity extends the lifetime: see
    /// [`Session::renewal`](crate::Session::renewal).
    pub sliding: bool,
    /// How many live sessions a user may have, where the caller names no number; no limit, if
    /// absent.
    pub max_per_user: Option<NonZeroU32>,
    /// What happens at the limit.
    pub on_limit: OnLimit,
}

/// The rules for session tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenPolicy {
    /// How long a token is still good after a rotation has replaced it.
    pub rotation_grace: TimeDelta,
    /// What happens when it is used after that.
    pub on_reuse: OnTokenReuse,
}

/// What happens when a replaced token is used after its grace, beside the event that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTokenReuse {
    /// Nothing: the application decides.
    Report,
    /// The session is revoked: its token may have been stolen (RFC 9700 section 4.14.2).
    Revoke,
}

/// What happens when a user who has all the live sessions that are allowed signs in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLimit {
    /// The oldest sessions are evicted.
    EvictOldest,
    /// The sign-in is refused.
    Deny,
}

/// The session limit of a user (`max_sessions`), within which a new session is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimit {
    /// How many live sessions the user may have, the new one included.
    pub max: NonZeroU32,
    /// What happens at the limit.
    pub on_limit: OnLimit,
}

/// The requested session would expire at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must be in the future")]
pub struct ExpiryNotInTheFuture;

impl SessionPolicy {
    /// Returns the limit of a sign-in: the caller's number (a tier's, a user's), or the policy's.
    pub fn limit(&self, requested: Option<NonZeroU32>) -> Option<SessionLimit> {
        let max = requested.or(self.max_per_user)?;
        Some(SessionLimit { max, on_limit: self.on_limit })
    }

    /// Returns the lifetime that activity extends a session to. `None` if the caller requested an
    /// expiry: activity does not extend it then.
    pub fn renewal(&self, requested_end: Option<DateTime<Utc>>) -> Option<TimeDelta> {
        (self.sliding && requested_end.is_none()).then_some(self.lifetime)
    }

    /// Returns when a session created at `now` expires: when requested, or after the lifetime where
    /// none is requested.
    ///
    /// A caller can shorten a session, never lengthen it: a later time is cut to the end of the
    /// lifetime.
    ///
    /// # Errors
    /// [`ExpiryNotInTheFuture`] if the requested time is not after `now`.
    pub fn expires_at(
        &self,
        requested: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, ExpiryNotInTheFuture> {
        let latest = now + self.lifetime;
        match requested {
            None => Ok(latest),
            Some(at) if at <= now => Err(ExpiryNotInTheFuture),
            Some(at) => Ok(at.min(latest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: SessionPolicy = SessionPolicy {
        lifetime: TimeDelta::days(30),
        idle_timeout: None,
        sliding: true,
        max_per_user: NonZeroU32::new(5),
        on_limit: OnLimit::Deny,
    };

    #[test]
    fn only_a_sliding_session_without_an_expiry_of_its_own_is_renewed() {
        assert_eq!(POLICY.renewal(None), Some(POLICY.lifetime));
        assert_eq!(POLICY.renewal(Some(DateTime::UNIX_EPOCH)), None);
        assert_eq!(SessionPolicy { sliding: false, ..POLICY }.renewal(None), None);
    }

    #[test]
    fn a_callers_limit_outweighs_the_policys() {
        let max = |requested| POLICY.limit(NonZeroU32::new(requested)).map(|limit| limit.max.get());
        assert_eq!((max(0), max(2), max(50)), (Some(5), Some(2), Some(50)));
        let unlimited = SessionPolicy { max_per_user: None, ..POLICY };
        assert_eq!(unlimited.limit(None), None);
        assert_eq!(
            unlimited.limit(NonZeroU32::new(2)).map(|limit| limit.on_limit),
            Some(OnLimit::Deny)
        );
    }

    #[test]
    fn without_a_wish_a_session_lives_its_lifetime() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(POLICY.expires_at(None, now), Ok(now + TimeDelta::days(30)));
    }

    #[test]
    fn a_wish_shortens_and_never_lengthens() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(
            POLICY.expires_at(Some(now + TimeDelta::days(1)), now),
            Ok(now + TimeDelta::days(1))
        );
        assert_eq!(
            POLICY.expires_at(Some(now + TimeDelta::days(31)), now),
            Ok(now + TimeDelta::days(30))
        );
    }

    #[test]
    fn a_wish_that_is_not_in_the_future_is_refused() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(POLICY.expires_at(Some(now), now), Err(ExpiryNotInTheFuture));
        assert!(POLICY.expires_at(Some(now + TimeDelta::microseconds(1)), now).is_ok());
    }
}
