//! What is kept in Redis, as bytes. Public for those who measure it and those who attack it.

use std::net::IpAddr;

use aws_lc_rs::{constant_time, hmac};
use chrono::{DateTime, TimeDelta, Utc};
use domain::coherence::{Incarnation, ReadVersion, Snapshot};
use domain::{
    Device, DeviceKind, ReplacedToken, Session, SessionId, SessionTokens, TokenHash, UserId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The first byte of every value. A value of any other version is a miss, so that two releases can
/// share one Redis.
pub const VERSION: u8 = 5;

/// The longest value that is written or decoded, in bytes.
pub const MAX_BYTES: usize = 512;

/// The key that signs values: HMAC with SHA-256 (RFC 2104), cut to its first 16 bytes.
pub struct Signer(hmac::Key);

/// The bytes of a signature.
const MAC_BYTES: usize = 16;

impl Signer {
    /// With this key, of any length.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Returns the signature of a body: over the version, the key in Redis and the body, so that a
    /// value that was moved to another key is as good as forged.
    pub fn sign(&self, key: &[u8], body: &[u8]) -> [u8; MAC_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        // The key's length is that of its prefix and two ids, so its length is unambiguous.
        for part in [&[VERSION][..], key, body] {
            context.update(part);
        }
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(&context.sign().as_ref()[..MAC_BYTES]);
        mac
    }
}

/// Why a value was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Longer than [`MAX_BYTES`], so not decoded.
    Oversized,
    /// Of another [`VERSION`], or empty.
    Version,
    /// Not signed by a node of this database, for this key in Redis.
    Forged,
    /// Not what [`encode`] writes.
    Malformed,
    /// Another session's or another user's.
    Mismatched,
    /// It seems to have expired; the database may have later activity.
    Expired,
}

impl Reject {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Oversized,
        Self::Version,
        Self::Forged,
        Self::Malformed,
        Self::Mismatched,
        Self::Expired,
    ];

    /// Returns the label of the metric.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Version => "version",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::Mismatched => "mismatched",
            Self::Expired => "expired",
        }
    }
}

/// `Session::for_cache`, as postcard writes it: field by field, without names. A revoked session is
/// never cached, so there is no revocation either. Times and durations are microseconds.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    id: Uuid,
    user_id: Uuid,
    device_info: Option<&'a str>,
    /// Browser, system, kind.
    device: Option<(Option<&'a str>, Option<&'a str>, &'a str)>,
    ip_address: Option<IpAddr>,
    last_ip_address: Option<IpAddr>,
    location: Option<&'a str>,
    name: Option<&'a str>,
    created_at: i64,
    last_activity_at: i64,
    expires_at: i64,
    idle_timeout: Option<i64>,
    renewal: Option<i64>,
    /// The hashes of the session's token and of the one that it replaced, with the time of that.
    tokens: Option<Tokens>,
    /// Of the read version: the server, the database, its life.
    incarnation: (u64, u32, u64),
    /// Of the read version: the first transaction that it had not seen, and how far below it those
    /// in progress were.
    snapshot: (u64, Vec<u64>),
}

/// The current token's hash; and that of the one that it replaced, with the time of that.
type Tokens = ([u8; 32], Option<([u8; 32], i64)>);

/// Serializes a session for Redis, under this key: version, signature, body. `None` if the value
/// would be longer than [`MAX_BYTES`], or the session is revoked.
pub fn encode(
    session: &Session,
    version: &ReadVersion,
    signer: &Signer,
    key: &[u8],
) -> Option<Vec<u8>> {
    if session.is_revoked() {
        return None;
    }
    let ReadVersion { incarnation, snapshot } = version;
    let in_progress = snapshot.in_progress().iter().map(|id| snapshot.xmax() - id);
    let body = Body {
        id: session.id.0,
        user_id: session.user_id.0,
        device_info: session.device_info.as_deref(),
        device: session.device.as_ref().map(|device| {
            (device.browser.as_deref(), device.system.as_deref(), device.kind.as_str())
        }),
        ip_address: session.ip_address,
        last_ip_address: session.last_ip_address,
        location: session.location.as_deref(),
        name: session.name.as_deref(),
        created_at: session.created_at.timestamp_micros(),
        last_activity_at: session.last_activity_at.timestamp_micros(),
        expires_at: session.expires_at.timestamp_micros(),
        idle_timeout: session.idle_timeout.and_then(|timeout| timeout.num_microseconds()),
        renewal: session.renewal.and_then(|renewal| renewal.num_microseconds()),
        tokens: session.tokens.as_ref().map(|tokens| {
            let replaced = tokens.replaced.as_ref();
            let replaced = replaced.map(|token| (token.hash.0, token.at.timestamp_micros()));
            (tokens.current.0, replaced)
        }),
        incarnation: (incarnation.system, incarnation.database, incarnation.life),
        snapshot: (snapshot.xmax(), in_progress.collect()),
    };
    const HEAD_BYTES: usize = 1 + MAC_BYTES;
    let mut head = vec![0; HEAD_BYTES];
    head[0] = VERSION;
    let mut value = postcard::to_extend(&body, head).ok()?;
    let mac = signer.sign(key, &value[HEAD_BYTES..]);
    value[1..HEAD_BYTES].copy_from_slice(&mac);
    (value.len() <= MAX_BYTES).then_some(value)
}

/// Returns the session in a value that was found under the key of this session and user, if it is
/// good at `now`.
///
/// # Errors
/// The [`Reject`].
pub fn decode(
    value: &[u8],
    signer: &Signer,
    key: &[u8],
    session_id: SessionId,
    user_id: UserId,
    now: DateTime<Utc>,
) -> Result<(Session, ReadVersion), Reject> {
    if value.len() > MAX_BYTES {
        return Err(Reject::Oversized);
    }
    let (&VERSION, body) = value.split_first().ok_or(Reject::Version)? else {
        return Err(Reject::Version);
    };
    let (mac, body) = body.split_at_checked(MAC_BYTES).ok_or(Reject::Malformed)?;
    constant_time::verify_slices_are_equal(&signer.sign(key, body), mac)
        .map_err(|_| Reject::Forged)?;
    let (body, rest) =
        postcard::take_from_bytes::<Body<'_>>(body).map_err(|_| Reject::Malformed)?;
    if !rest.is_empty() {
        return Err(Reject::Malformed);
    }
    if (body.id, body.user_id) != (session_id.0, user_id.0) {
        return Err(Reject::Mismatched);
    }
    let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros).ok_or(Reject::Malformed);
    let device = |(browser, system, kind): (Option<&str>, Option<&str>, &str)| {
        let browser = browser.map(Into::into);
        let system = system.map(Into::into);
        Ok(Device { browser, system, kind: DeviceKind::from_word(kind).ok_or(Reject::Malformed)? })
    };
    let tokens = |(current, replaced): Tokens| {
        let of = |(hash, at)| Ok(ReplacedToken { hash: TokenHash(hash), at: time(at)? });
        let replaced = replaced.map(of).transpose()?;
        Ok(SessionTokens { current: TokenHash(current), replaced })
    };
    let session = Session {
        id: session_id,
        user_id,
        device_info: body.device_info.map(Into::into),
        device: body.device.map(device).transpose()?,
        user_agent: None,
        ip_address: body.ip_address,
        last_ip_address: body.last_ip_address,
        location: body.location.map(Into::into),
        name: body.name.map(Into::into),
        created_at: time(body.created_at)?,
        last_activity_at: time(body.last_activity_at)?,
        expires_at: time(body.expires_at)?,
        idle_timeout: body.idle_timeout.map(TimeDelta::microseconds),
        renewal: body.renewal.map(TimeDelta::microseconds),
        metadata: None,
        idempotency_key: None,
        tokens: body.tokens.map(tokens).transpose()?.map(Into::into),
        revocation: None,
    };
    let ((system, database, life), (xmax, in_progress)) = (body.incarnation, body.snapshot);
    let in_progress = in_progress.into_iter().map(|distance| xmax.saturating_sub(distance));
    let incarnation = Incarnation { system, database, life };
    let version = ReadVersion { incarnation, snapshot: Snapshot::new(xmax, in_progress) };
    if session.is_live(now) { Ok((session, version)) } else { Err(Reject::Expired) }
}

#[cfg(test)]
mod tests {
    use domain::Revocation;
    use testkit::fixtures;

    use super::*;

    const KEY: &[u8] = b"a key";

    fn signer() -> Signer {
        Signer::new(&[7; 32])
    }

    fn encode(session: &Session) -> Option<Vec<u8>> {
        super::encode(session, &fixtures::read_version(), &signer(), KEY)
    }

    fn decode(
        value: &[u8],
        id: SessionId,
        user_id: UserId,
        now: DateTime<Utc>,
    ) -> Result<Session, Reject> {
        super::decode(value, &signer(), KEY, id, user_id, now).map(|(session, _)| session)
    }

    /// With a valid signature, for any body.
    fn signed(body: &[u8]) -> Vec<u8> {
        [&[VERSION][..], &signer().sign(KEY, body), body].concat()
    }

    fn round_trip(session: &Session) -> Result<Session, Reject> {
        decode(&encode(session).unwrap(), session.id, session.user_id, fixtures::now())
    }

    #[test]
    fn a_session_comes_back_without_what_caches_leave_out() {
        for session in [fixtures::session(), fixtures::bare_session()] {
            assert_eq!(round_trip(&session), Ok(session.for_cache()));
        }
    }

    #[test]
    fn it_is_compact() {
        assert!(encode(&fixtures::session()).unwrap().len() <= 300);
    }

    #[test]
    fn session_that_is_too_long_or_revoked_has_no_value() {
        let long = Session { location: Some("x".repeat(MAX_BYTES).into()), ..fixtures::session() };
        assert_eq!(encode(&long), None);
        let revocation = Some(Revocation { at: fixtures::now(), reason: None, actor: None }.into());
        assert_eq!(encode(&Session { revocation, ..fixtures::session() }), None);
    }

    #[test]
    fn every_truncation_and_every_addition_is_a_miss() {
        let session = fixtures::session();
        let value = encode(&session).unwrap();
        for length in 0..value.len() {
            assert!(
                decode(&value[..length], session.id, session.user_id, fixtures::now()).is_err(),
                "{length}"
            );
        }
        let longer = signed(&[&value[1 + MAC_BYTES..], b"x"].concat());
        assert_eq!(
            decode(&longer, session.id, session.user_id, fixtures::now()),
            Err(Reject::Malformed)
        );
    }

    #[test]
    fn rubbish_is_a_miss_with_its_reason() {
        let session = fixtures::session();
        let decode =
            |value: &[u8]| decode(value, session.id, session.user_id, fixtures::now()).unwrap_err();
        assert_eq!(decode(b""), Reject::Version);
        assert_eq!(decode(b"{\"id\": 1}"), Reject::Version);
        assert_eq!(decode(&[VERSION + 1]), Reject::Version);
        assert_eq!(decode(&[VERSION; MAX_BYTES + 1]), Reject::Oversized);
        assert_eq!(decode(&[VERSION; MAC_BYTES]), Reject::Malformed);
        assert_eq!(decode(&signed(&[0xff; 100])), Reject::Malformed);
        assert_eq!(decode(&[&[VERSION][..], &[0xff; 100]].concat()), Reject::Forged);
    }

    #[test]
    fn another_sessions_or_users_value_is_a_miss() {
        let session = fixtures::session();
        let value = encode(&session).unwrap();
        let decode = |id, user_id| decode(&value, id, user_id, fixtures::now());
        assert_eq!(
            decode(fixtures::session_number(2).id, session.user_id),
            Err(Reject::Mismatched)
        );
        assert_eq!(decode(session.id, fixtures::another_user()), Err(Reject::Mismatched));
    }

    #[test]
    fn expired_value_is_a_miss() {
        let session = fixtures::session();
        let value = encode(&session).unwrap();
        let at = |now| decode(&value, session.id, session.user_id, now);
        assert!(at(session.ends_at() - TimeDelta::microseconds(1)).is_ok());
        assert_eq!(at(session.ends_at()), Err(Reject::Expired));
    }

    #[test]
    fn a_value_with_any_bit_changed_or_under_another_key_is_forged() {
        let session = fixtures::session();
        let value = encode(&session).unwrap();
        for index in 1..value.len() {
            let mut changed = value.clone();
            changed[index] ^= 1;
            assert_eq!(
                decode(&changed, session.id, session.user_id, fixtures::now()),
                Err(Reject::Forged),
                "{index}"
            );
        }
        let decode = |signer: &Signer, key: &[u8]| {
            super::decode(&value, signer, key, session.id, session.user_id, fixtures::now())
        };
        assert_eq!(decode(&signer(), b"another key"), Err(Reject::Forged));
        assert_eq!(decode(&Signer::new(&[8; 32]), KEY), Err(Reject::Forged));
        assert!(decode(&signer(), KEY).is_ok());
    }
}
