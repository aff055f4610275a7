use chrono::{DateTime, TimeDelta, Utc};

use crate::SessionError;

/// The rules that a new session is made under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// How long a session lives after its creation, at most (NIST SP 800-63B-4 section 2.2.3: the overall time-out).
    pub lifetime: TimeDelta,
}

impl SessionPolicy {
    /// When a session created at `now` ends: the moment asked for, or the end of the lifetime where none is asked for.
    ///
    /// A caller can shorten a session, never lengthen it: a later moment is cut to the end of the lifetime.
    ///
    /// # Errors
    /// [`SessionError::ExpiresInThePast`] if the moment asked for is not after `now`.
    pub fn expires_at(
        &self,
        requested: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<DateTime<Utc>, SessionError> {
        let latest = now + self.lifetime;
        match requested {
            None => Ok(latest),
            Some(at) if at <= now => Err(SessionError::ExpiresInThePast),
            Some(at) => Ok(at.min(latest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: SessionPolicy = SessionPolicy { lifetime: TimeDelta::days(30) };

    #[test]
    fn without_a_wish_a_session_lives_its_lifetime() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(POLICY.expires_at(None, now), Ok(now + TimeDelta::days(30)));
    }

    #[test]
    fn a_wish_shortens_and_never_lengthens() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(POLICY.expires_at(Some(now + TimeDelta::days(1)), now), Ok(now + TimeDelta::days(1)));
        assert_eq!(POLICY.expires_at(Some(now + TimeDelta::days(31)), now), Ok(now + TimeDelta::days(30)));
    }

    #[test]
    fn a_wish_that_is_not_in_the_future_is_refused() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(POLICY.expires_at(Some(now), now), Err(SessionError::ExpiresInThePast));
        assert!(POLICY.expires_at(Some(now + TimeDelta::microseconds(1)), now).is_ok());
    }
}
