//! What calls take and return, in the names of the API description.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A JSON object that the application keeps with a session.
pub type Metadata = Map<String, Value>;

/// A session. What is not known is absent.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Session {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The device in words, such as `Chrome on macOS`.
    pub device_info: Option<String>,
    /// The device.
    pub device: Option<Device>,
    /// The address of the sign-in.
    pub ip_address: Option<String>,
    /// The place of that address.
    pub location: Option<String>,
    /// When the user signed in.
    pub created_at: DateTime<Utc>,
    /// When it was used last.
    pub last_activity_at: DateTime<Utc>,
    /// When its lifetime ends.
    pub expires_at: DateTime<Utc>,
    /// Whether it is revoked.
    pub is_revoked: bool,
    /// Whether it is the caller's own; never, on the service listener.
    pub is_current: bool,
    /// Whether it is still good.
    pub status: SessionStatus,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Why it was revoked.
    pub revoked_reason: Option<String>,
    /// The user's own name for the device.
    pub name: Option<String>,
    /// The address that it was used from last.
    pub last_ip_address: Option<String>,
    /// The user agent of the sign-in: by [`inspect_session`](crate::Client::inspect_session) and
    /// in lists.
    pub user_agent: Option<String>,
    /// What the application keeps with it: the same.
    pub metadata: Option<Metadata>,
}

/// Whether a session is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// It is.
    Live,
    /// It was revoked.
    Revoked,
    /// Its lifetime is over.
    Expired,
    /// It was not used for longer than the idle time-out.
    Idle,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Device {
    /// Its browser.
    pub browser: Option<String>,
    /// Its operating system.
    pub system: Option<String>,
    /// `desktop`, `mobile`, `tablet`, `tv`, `bot` or `other`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A sign-in.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CreateSession {
    /// Who has signed in; or name the user by `issuer` and `subject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Uuid>,
    /// The token issuer that names the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The issuer's name for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The user's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// The user's `User-Agent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// An earlier expiry than the configured lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// How many live sessions the user may have, this one included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<u32>,
    /// What the application keeps with the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// Whether to issue a session token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub issue_token: bool,
    /// Names this sign-in, so that it can be repeated by another call; a random one, if absent.
    #[serde(skip_serializing)]
    pub idempotency_key: Option<String>,
}

/// A session that was created.
#[derive(Clone, Debug, Deserialize)]
pub struct CreatedSession {
    /// The session.
    #[serde(flatten)]
    pub session: Session,
    /// Sessions that were evicted by the limit.
    pub evicted: Vec<Uuid>,
    /// The session token, where one was asked for; shown this once.
    pub token: Option<SecretString>,
    /// The value of a `Set-Cookie` header with that token, for the browser.
    pub set_cookie: Option<SecretString>,
}

/// A session with the version of its name and metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct InspectedSession {
    /// The session.
    pub session: Session,
    /// For [`EditSession::if_match`].
    pub etag: String,
}

/// What a token is worth.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Verification {
    /// The status of its session, or that there is none.
    pub status: TokenStatus,
    /// The session, unless the token is invalid.
    pub session: Option<Session>,
}

/// What a token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenStatus {
    /// Its session is live.
    Live,
    /// Its session was revoked.
    Revoked,
    /// The lifetime of its session is over.
    Expired,
    /// Its session was not used for longer than the idle time-out.
    Idle,
    /// It is no token of any session.
    Invalid,
}

/// A change of a session's name and metadata.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EditSession {
    /// The user's own name for the device.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub name: Change<String>,
    /// What the application keeps with the session.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub metadata: Change<Metadata>,
    /// The [`etag`](InspectedSession::etag) of what the caller has seen: if it has changed since,
    /// the call is refused with `precondition_failed`.
    #[serde(skip_serializing)]
    pub if_match: Option<String>,
}

/// What becomes of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is removed.
    Remove,
    /// It gets this value.
    Set(T),
}

impl<T> Change<T> {
    fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Remove => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

/// A session token that has replaced the one before.
#[derive(Clone, Debug, Deserialize)]
pub struct RotatedToken {
    /// The token; shown this once.
    pub token: SecretString,
    /// The value of a `Set-Cookie` header with it, for the browser.
    pub set_cookie: SecretString,
}

/// Which sessions of a user to list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListSessions {
    /// Whether to leave out those that are not live.
    pub active_only: bool,
    /// How many, at most: 1 to 200; 50, if absent.
    pub limit: Option<u32>,
    /// The [`next_cursor`](SessionList::next_cursor) of the page before.
    pub cursor: Option<String>,
}

/// A page of a user's sessions, the newest first.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct SessionList {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// How many the user has; 10000 stands for that many or more.
    pub total_count: u64,
    /// How many of them are live: the same.
    pub active_count: u64,
    /// Where the next page begins; absent on the last.
    pub next_cursor: Option<String>,
}

/// Which events to list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListEvents {
    /// The [`next_after`](EventPage::next_after) of the page before.
    pub after: Option<u64>,
    /// How many, at most: 1 to 1000; 100, if absent.
    pub limit: Option<u32>,
    /// Only those of this session.
    pub session_id: Option<Uuid>,
    /// Only those of this user.
    pub user_id: Option<Uuid>,
}

/// A page of events, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// Where the next page begins.
    pub next_after: u64,
}

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Event {
    /// Its place in the feed.
    pub id: u64,
    /// `created`, `revoked`, `evicted`, `expired`, `renewed` or `token_reused`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When.
    pub at: DateTime<Utc>,
    /// To which session.
    pub session_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// Why.
    pub reason: Option<String>,
    /// By whom: `user:<id>`, `service:<name of the key>` or `system`.
    pub actor: Option<String>,
}
