//! Made-up users with their devices and a history of two months, the same for the same seed.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{Actor, Device, DeviceKind, Revocation, Session, SessionId, UserId};
use fastrand::Rng;
use uuid::{Builder, Uuid};

/// Users beside the one whose devices page is shown.
const USERS: usize = 40;
/// How far the history goes back.
const HISTORY: TimeDelta = TimeDelta::days(60);
/// How long a session lives.
const LIFETIME: TimeDelta = TimeDelta::days(30);

/// A device: its user agent, and what that says.
struct KnownDevice {
    browser: &'static str,
    system: &'static str,
    kind: DeviceKind,
    user_agent: &'static str,
}

const fn device(
    browser: &'static str,
    system: &'static str,
    kind: DeviceKind,
    user_agent: &'static str,
) -> KnownDevice {
    KnownDevice { browser, system, kind, user_agent }
}

const DEVICES: [KnownDevice; 7] = [
    device(
        "Chrome",
        "macOS",
        DeviceKind::Desktop,
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) \
            Chrome/140.0.0.0 Safari/537.36",
    ),
    device(
        "Safari",
        "iOS",
        DeviceKind::Mobile,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
            Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    ),
    device(
        "Firefox",
        "Windows",
        DeviceKind::Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:142.0) Gecko/20100101 Firefox/142.0",
    ),
    device(
        "Safari",
        "iPadOS",
        DeviceKind::Tablet,
        "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
            Version/18.5 Mobile/15E148 Safari/604.1",
    ),
    device(
        "Chrome",
        "Android",
        DeviceKind::Mobile,
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) \
            Chrome/140.0.0.0 Mobile Safari/537.36",
    ),
    device(
        "Edge",
        "Windows",
        DeviceKind::Desktop,
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
            Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
    ),
    device(
        "Firefox",
        "Linux",
        DeviceKind::Desktop,
        "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    ),
];

/// Ranges of addresses that are set aside for documentation (RFC 5737), with their locations in the
/// GeoIP file of the demo.
const NETWORKS: [(&str, &str); 3] =
    [("192.0.2", "Berlin, DE"), ("198.51.100", "FR"), ("203.0.113", "Osaka, JP")];

const REASONS: [&str; 4] = ["signed out", "lost phone", "password changed", "suspicious activity"];

/// The sessions of every user. The first are those of [`Population::owner`], this device first.
pub(super) struct Population {
    pub(super) owner: UserId,
    pub(super) sessions: Vec<Session>,
    pub(super) users: Vec<UserId>,
}

impl Population {
    /// Makes up the users and their sessions, as of `now`.
    pub(super) fn new(rng: &mut Rng, now: DateTime<Utc>) -> Self {
        let owner = user(rng);
        let mut sessions = owners_sessions(rng, owner, now);
        let users: Vec<_> = (0..USERS).map(|_| user(rng)).collect();
        for &user_id in &users {
            for _ in 0..rng.usize(1..8) {
                sessions.push(any_session(rng, user_id, now));
            }
        }
        Self { owner, sessions, users }
    }
}

/// A sign-in that could happen now: its user agent and its address.
pub(super) fn sign_in(rng: &mut Rng) -> (&'static str, String) {
    (DEVICES[rng.usize(..DEVICES.len())].user_agent, address(rng).0)
}

/// Returns the reason of a sign-out.
pub(super) fn reason(rng: &mut Rng) -> &'static str {
    REASONS[rng.usize(..REASONS.len())]
}

fn user(rng: &mut Rng) -> UserId {
    UserId(Builder::from_random_bytes(random(rng)).into_uuid())
}

fn random<const N: usize>(rng: &mut Rng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill(&mut bytes);
    bytes
}

fn address(rng: &mut Rng) -> (String, &'static str) {
    let (network, location) = NETWORKS[rng.usize(..NETWORKS.len())];
    (format!("{network}.{}", rng.u8(1..255)), location)
}

/// Six live sessions: on each device another, with the names that people give.
fn owners_sessions(rng: &mut Rng, owner: UserId, now: DateTime<Utc>) -> Vec<Session> {
    let devices = [
        (0, TimeDelta::days(12), TimeDelta::minutes(1), Some("Work laptop")),
        (1, TimeDelta::days(9), TimeDelta::minutes(18), None),
        (3, TimeDelta::days(21), TimeDelta::hours(26), Some("Kitchen iPad")),
        (2, TimeDelta::days(3), TimeDelta::hours(5), None),
        (4, TimeDelta::days(27), TimeDelta::days(6), Some("Old phone")),
        (5, TimeDelta::hours(4), TimeDelta::minutes(50), None),
    ];
    let made = devices.map(|(device, age, idle, name)| {
        let session = session(rng, owner, &DEVICES[device], now - age, now - idle);
        Session { name: name.map(Into::into), ..session }
    });
    made.to_vec()
}

/// A session of any age and state.
fn any_session(rng: &mut Rng, user_id: UserId, now: DateTime<Utc>) -> Session {
    let age = TimeDelta::seconds(rng.i64(60..HISTORY.num_seconds()));
    let created_at = now - age;
    let until = now.min(created_at + LIFETIME);
    let used = TimeDelta::seconds(rng.i64(0..=(until - created_at).num_seconds()));
    let device = &DEVICES[rng.usize(..DEVICES.len())];
    let session = session(rng, user_id, device, created_at, created_at + used);
    let is_revoked = rng.u8(0..10) < 3;
    let revocation = is_revoked.then(|| {
        let by_user = rng.bool();
        let actor = if by_user { Actor::User(user_id) } else { Actor::NamedService("demo".into()) };
        let reason = Some(reason(rng).to_owned());
        Box::new(Revocation { at: session.last_activity_at, reason, actor: Some(actor) })
    });
    Session { revocation, ..session }
}

fn session(
    rng: &mut Rng,
    user_id: UserId,
    device: &KnownDevice,
    created_at: DateTime<Utc>,
    last_activity_at: DateTime<Utc>,
) -> Session {
    let (address, location) = address(rng);
    let ip_address = address.parse().ok();
    let device_info = format!("{} on {}", device.browser, device.system);
    Session {
        id: SessionId(id(rng, created_at)),
        user_id,
        device_info: Some(device_info.into()),
        device: Some(Device {
            browser: Some(device.browser.into()),
            system: Some(device.system.into()),
            kind: device.kind,
        }),
        user_agent: Some(device.user_agent.into()),
        ip_address,
        last_ip_address: ip_address,
        location: Some(location.into()),
        name: None,
        created_at,
        last_activity_at,
        expires_at: created_at + LIFETIME,
        idle_timeout: None,
        renewal: None,
        metadata: None,
        idempotency_key: None,
        tokens: None,
        revocation: None,
    }
}

/// Returns a UUID of version 7, as sessions have it.
fn id(rng: &mut Rng, at: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(at.timestamp_millis()).unwrap_or_default();
    Builder::from_unix_timestamp_millis(millis, &random(rng)).into_uuid()
}

#[cfg(test)]
mod tests {
    use testkit::fixtures;

    use super::*;

    #[test]
    fn seed_makes_the_same_population_every_time_and_another_one_another() {
        let of = |seed| Population::new(&mut Rng::with_seed(seed), fixtures::now());
        assert!(of(1).sessions == of(1).sessions && of(1).owner == of(1).owner);
        assert!(of(1).owner != of(2).owner);
    }

    #[test]
    fn population_has_sessions_of_every_state_and_six_live_ones_of_its_owner() {
        let now = fixtures::now();
        let population = Population::new(&mut Rng::with_seed(1), now);
        let live = |session: &&Session| session.is_live(now);
        let owned = population.sessions.iter().filter(|it| it.user_id == population.owner);
        assert_eq!(owned.filter(live).count(), 6);
        for status in ["live", "revoked", "expired"] {
            let has = |session: &Session| session.status(now).as_str() == status;
            assert!(population.sessions.iter().any(has), "{status}");
        }
        assert!(population.sessions.iter().all(|it| it.created_at <= it.last_activity_at));
    }
}
