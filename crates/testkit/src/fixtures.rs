//! Sessions and times that tests start from.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use domain::coherence::{Incarnation, ReadVersion, Snapshot};
use domain::{
    Device, DeviceKind, IdempotencyKey, Metadata, Session, SessionId, SessionTokens, TokenHash,
    UserId,
};
use serde_json::json;
use uuid::Uuid;

use crate::clock::FixedClock;

/// Returns the time at which the fixtures are live, with microseconds, because stores must keep
/// them.
pub fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap() + TimeDelta::microseconds(123_456)
}

/// Returns a clock that stands at [`now`].
pub fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock::at(now()))
}

/// Returns a live session with every field filled in.
pub fn session() -> Session {
    Session {
        id: SessionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
        user_id: UserId(Uuid::from_u128(0x0190_0000_0000_4000_8000_0000_0000_00aa)),
        device_info: Some("Chrome on macOS".into()),
        device: Some(Device {
            browser: Some("Chrome".into()),
            system: Some("macOS".into()),
            kind: DeviceKind::Desktop,
        }),
        user_agent: Some(
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/140.0 Safari/537.36".into(),
        ),
        ip_address: Some("192.0.2.7".parse().unwrap()),
        last_ip_address: Some("2001:db8::7".parse().unwrap()),
        location: Some("Berlin, DE".into()),
        name: Some("work laptop".into()),
        created_at: now(),
        last_activity_at: now(),
        expires_at: now() + TimeDelta::days(30),
        idle_timeout: Some(TimeDelta::days(7)),
        renewal: None,
        metadata: Some(metadata().into()),
        idempotency_key: None,
        tokens: Some(tokens().into()),
        revocation: None,
    }
}

/// Returns what some read had seen, with every field filled in.
pub fn read_version() -> ReadVersion {
    let incarnation = Incarnation { system: u64::MAX, database: 16_384, life: 7 };
    ReadVersion {
        incarnation,
        snapshot: Snapshot::new(123_456_789_012, [123_456_789_000, 123_456_789_003]),
    }
}

/// Returns the state of a session whose token was rotated.
pub fn tokens() -> SessionTokens {
    SessionTokens::issued(TokenHash([1; 32])).rotated(TokenHash([2; 32]), now())
}

/// Metadata with every sort of value.
pub fn metadata() -> Metadata {
    let value = json!({
        "plan": "pro",
        "seats": 3,
        "ratio": 0.1,
        "tags": ["a", "é"],
        "deep": { "null": null, "yes": true }
    });
    value.as_object().cloned().unwrap_or_default()
}

/// [`session`] under another id.
pub fn session_number(n: u64) -> Session {
    Session { id: SessionId(Uuid::from_u128(u128::from(n))), ..session() }
}

/// [`session`] with every field that may be absent absent.
pub fn bare_session() -> Session {
    Session {
        device_info: None,
        device: None,
        user_agent: None,
        ip_address: None,
        last_ip_address: None,
        location: None,
        name: None,
        idle_timeout: None,
        metadata: None,
        tokens: None,
        ..session()
    }
}

/// Returns a user who owns none of the fixtures.
pub fn another_user() -> UserId {
    UserId(Uuid::from_u128(0x0190_0000_0000_4000_8000_0000_0000_00bb))
}

/// Returns an idempotency key of this text, given for the one request that tests make with it.
pub fn idempotency_key(text: &str) -> IdempotencyKey {
    IdempotencyKey { text: text.into(), request_hash: [7; 32] }
}
