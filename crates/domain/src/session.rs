//! A session: its fields, its status at a given time, activity, and revocation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::activity::Touch;
use crate::device::Device;
use crate::ids::{SessionId, UserId};
use crate::metadata::Metadata;
use crate::session_token::SessionTokens;

/// The longest user agent that is kept, in bytes; what is longer is cut, because browsers send what
/// they like.
pub const USER_AGENT_MAX_BYTES: usize = 512;

/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 255;

/// The longest name of a service key, in bytes.
pub const SERVICE_NAME_MAX_BYTES: usize = 32;

/// The longest reason for a revocation, in characters.
pub const REASON_MAX_CHARS: usize = 255;

/// One sign-in of one user on one device.
///
/// Times are UTC with microseconds, the resolution of every store. An id is never used again, and a
/// revocation is never undone.
///
/// Large fields are shared or boxed, so that a clone for `touch` is cheap, and so is caching many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id; made by the server.
    pub id: SessionId,
    /// Who signed in.
    pub user_id: UserId,
    /// The device in words, such as "Chrome on macOS".
    pub device_info: Option<Arc<str>>,
    /// The device, as the user agent describes it; absent if it was not parsed.
    pub device: Option<Device>,
    /// The user agent at sign-in, at most [`USER_AGENT_MAX_BYTES`]. Kept by repositories, left out
    /// by caches.
    pub user_agent: Option<Arc<str>>,
    /// The client's address at sign-in.
    pub ip_address: Option<IpAddr>,
    /// The client's address when it was last seen.
    pub last_ip_address: Option<IpAddr>,
    /// The place of the address in words, such as "Berlin, DE".
    pub location: Option<Arc<str>>,
    /// The user's own name for the device.
    pub name: Option<Arc<str>>,
    /// When the user signed in.
    pub created_at: DateTime<Utc>,
    /// The time of the last activity.
    pub last_activity_at: DateTime<Utc>,
    /// The time at which the session expires, however active it is.
    pub expires_at: DateTime<Utc>,
    /// The idle time-out: the session expires this long after its last activity. `None`: it has
    /// none.
    pub idle_timeout: Option<TimeDelta>,
    /// Activity extends `expires_at` to this long after it, once less than half of it is left
    /// (sliding expiration). `None`: it does not.
    pub renewal: Option<TimeDelta>,
    /// What the application's backend keeps with the session. Kept by repositories, left out by
    /// caches.
    pub metadata: Option<Arc<Metadata>>,
    /// What the backend gave its sign-in for repeating it safely. Kept by repositories, left out by
    /// caches.
    pub idempotency_key: Option<IdempotencyKey>,
    /// What is kept of its session tokens; `None`: none was issued.
    pub tokens: Option<Arc<SessionTokens>>,
    /// Present once the session was revoked.
    pub revocation: Option<Box<Revocation>>,
}

/// What makes a sign-in repeatable: the key that the backend gave it, and what it was given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key, at most [`IDEMPOTENCY_KEY_MAX_BYTES`]; unique per user.
    pub text: Arc<str>,
    /// SHA-256 of the request: another request with the same key is an error of the caller.
    pub request_hash: [u8; 32],
}

/// A revocation: when, why and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When it was revoked.
    pub at: DateTime<Utc>,
    /// The reason that the actor gave; at most [`REASON_MAX_CHARS`].
    pub reason: Option<String>,
    /// Who revoked it. Absent where direct SQL did not say.
    pub actor: Option<Actor>,
}

/// Who revokes a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// An end user, on the public listener.
    User(UserId),
    /// The application's backend or an operator, with a service key that has no name.
    Service,
    /// The holder of the service key with this name, at most [`SERVICE_NAME_MAX_BYTES`].
    NamedService(Arc<str>),
    /// sessiond itself, to keep a limit.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Service => f.write_str("service"),
            Self::NamedService(name) => write!(f, "service:{name}"),
            Self::System => f.write_str("system"),
        }
    }
}

impl FromStr for Actor {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "service" => Ok(Self::Service),
            None if text == "system" => Ok(Self::System),
            Some(("service", name)) if !name.is_empty() => Ok(Self::NamedService(name.into())),
            Some(("user", id)) => id.parse().map(Self::User),
            // An unknown form; a bare id is not accepted either. The error is that of an invalid
            // id.
            _ => "none of the forms".parse().map(Self::User),
        }
    }
}

/// The status of a session at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// Neither revoked nor expired nor idle.
    Live,
    /// Revoked before its time.
    Revoked,
    /// Past `expires_at`.
    Expired,
    /// Past its idle time-out.
    Idle,
}

impl SessionStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Live, Self::Revoked, Self::Expired, Self::Idle];

    /// Returns the word users see in the field `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Idle => "idle",
        }
    }
}

impl Session {
    /// Returns whether the session was revoked.
    pub fn is_revoked(&self) -> bool {
        self.revocation.is_some()
    }

    /// Returns when the session expires: by its lifetime, or by its idle time-out.
    pub fn ends_at(&self) -> DateTime<Utc> {
        self.idle_at().map_or(self.expires_at, |idle_at| idle_at.min(self.expires_at))
    }

    fn idle_at(&self) -> Option<DateTime<Utc>> {
        Some(self.last_activity_at + self.idle_timeout?)
    }

    /// Returns the status at `now`. A revocation takes precedence over expiry: it is a deliberate
    /// act. The lifetime takes precedence over the idle time-out.
    ///
    /// The session is expired *at* [`ends_at`](Self::ends_at), not after it.
    pub fn status(&self, now: DateTime<Utc>) -> SessionStatus {
        if self.is_revoked() {
            SessionStatus::Revoked
        } else if now >= self.expires_at {
            SessionStatus::Expired
        } else if self.idle_at().is_some_and(|idle_at| now >= idle_at) {
            SessionStatus::Idle
        } else {
            SessionStatus::Live
        }
    }

    /// Returns whether the session is good at `now`.
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.status(now) == SessionStatus::Live
    }

    /// Returns the session without what caches leave out, because it is large and no read that a
    /// cache serves shows it.
    pub fn for_cache(&self) -> Self {
        Self { user_agent: None, metadata: None, idempotency_key: None, ..self.clone() }
    }

    /// Records activity. Returns whether it counts: a terminated session has none.
    ///
    /// Activity that is reported late is judged by its own time, and never sets anything back.
    pub fn touch(&mut self, touch: &Touch) -> bool {
        if !self.is_live(touch.first_at) {
            return false;
        }
        if touch.last_at >= self.last_activity_at {
            self.last_activity_at = touch.last_at;
            self.last_ip_address = touch.ip_address.or(self.last_ip_address);
        }
        if let Some(renewal) = self.renewal
            && (self.expires_at - touch.last_at) * 2 < renewal
        {
            self.expires_at = touch.last_at + renewal;
        }
        true
    }
}

/// `user_agent` cut to [`USER_AGENT_MAX_BYTES`], at a character boundary.
pub fn truncated_user_agent(user_agent: &str) -> &str {
    let mut end = user_agent.len().min(USER_AGENT_MAX_BYTES);
    while !user_agent.is_char_boundary(end) {
        end -= 1;
    }
    &user_agent[..end]
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn session() -> Session {
        let created_at = DateTime::UNIX_EPOCH;
        Session {
            id: SessionId(Uuid::from_u128(1)),
            user_id: UserId(Uuid::from_u128(2)),
            device_info: None,
            device: None,
            user_agent: None,
            ip_address: None,
            last_ip_address: None,
            location: None,
            name: None,
            created_at,
            last_activity_at: created_at,
            expires_at: created_at + TimeDelta::seconds(60),
            idle_timeout: None,
            renewal: None,
            metadata: None,
            idempotency_key: None,
            tokens: None,
            revocation: None,
        }
    }

    #[test]
    fn a_session_is_expired_at_its_expiry_to_the_microsecond() {
        let session = session();
        assert_eq!(
            session.status(session.expires_at - TimeDelta::microseconds(1)),
            SessionStatus::Live
        );
        assert_eq!(session.status(session.expires_at), SessionStatus::Expired);
        assert!(!session.is_live(session.expires_at));
    }

    #[test]
    fn a_session_is_idle_at_its_idle_timeout_to_the_microsecond() {
        let session = Session { idle_timeout: Some(TimeDelta::seconds(20)), ..session() };
        let idle_at = session.last_activity_at + TimeDelta::seconds(20);
        assert_eq!(session.ends_at(), idle_at);
        assert_eq!(session.status(idle_at - TimeDelta::microseconds(1)), SessionStatus::Live);
        assert_eq!(session.status(idle_at), SessionStatus::Idle);
        assert_eq!(session.status(session.expires_at), SessionStatus::Expired);
        let late =
            Session { last_activity_at: session.expires_at - TimeDelta::seconds(1), ..session };
        assert_eq!(late.ends_at(), late.expires_at);
    }

    fn touch(first: i64, last: i64) -> Touch {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let ip_address = "192.0.2.9".parse().ok();
        Touch { session_id: session().id, first_at: at(first), last_at: at(last), ip_address }
    }

    #[test]
    fn activity_resets_the_idle_timeout_and_not_the_lifetime() {
        let mut session = Session { idle_timeout: Some(TimeDelta::seconds(20)), ..session() };
        assert!(
            session.touch(&touch(19, 45)),
            "the first use came in time, and kept it alive for the last"
        );
        assert_eq!(session.last_activity_at, touch(0, 45).last_at);
        assert_eq!(session.last_ip_address, touch(0, 0).ip_address);
        assert_eq!(session.ends_at(), session.expires_at);
        assert!(!session.touch(&touch(60, 60)));
    }

    #[test]
    fn late_activity_never_sets_anything_back_and_never_revives_a_terminated_session() {
        let mut session = session();
        session.touch(&touch(30, 30));
        let before = session.clone();
        let older = Touch { ip_address: "192.0.2.1".parse().ok(), ..touch(10, 10) };
        assert!(session.touch(&older));
        assert_eq!(session, before);

        session.revocation =
            Some(Revocation { at: session.created_at, reason: None, actor: None }.into());
        let revoked = session.clone();
        assert!(!session.touch(&touch(40, 40)));
        assert_eq!(session, revoked);
    }

    #[test]
    fn a_sliding_session_is_renewed_once_less_than_half_is_left() {
        let mut session = Session { renewal: Some(TimeDelta::seconds(60)), ..session() };
        session.touch(&touch(30, 30));
        assert_eq!(session.expires_at, touch(0, 60).last_at);
        session.touch(&touch(31, 31));
        assert_eq!(session.expires_at, touch(0, 91).last_at);
    }

    #[test]
    fn a_revocation_outweighs_expiry() {
        let mut session = session();
        session.revocation =
            Some(Revocation { at: session.created_at, reason: None, actor: None }.into());
        assert_eq!(session.status(session.created_at), SessionStatus::Revoked);
        assert_eq!(session.status(session.expires_at), SessionStatus::Revoked);
    }

    #[test]
    fn an_actor_is_read_as_it_is_written() {
        let named = Actor::NamedService("billing".into());
        for actor in [Actor::User(UserId(Uuid::from_u128(7))), Actor::Service, named, Actor::System]
        {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        for none in [
            "unknown",
            "00000000-0000-4000-8000-00000000000a",
            "user:",
            "user:service",
            "service:",
            "system:",
            "",
        ] {
            assert!(none.parse::<Actor>().is_err(), "{none}");
        }
    }

    #[test]
    fn a_long_user_agent_is_cut_at_a_character_boundary() {
        let short = "curl/8.0";
        assert_eq!(truncated_user_agent(short), short);
        let long = "é".repeat(USER_AGENT_MAX_BYTES);
        assert_eq!(truncated_user_agent(&long).len(), USER_AGENT_MAX_BYTES);
        let odd = format!("x{long}");
        assert_eq!(truncated_user_agent(&odd).len(), USER_AGENT_MAX_BYTES - 1);
    }
}
