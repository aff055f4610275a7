//! A row of `sessions`, private to this crate.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    Device, DeviceKind, IdempotencyKey, ReplacedToken, Revocation, Session, SessionId,
    SessionTokens, TokenHash, UserId,
};
use sea_orm::Value;
use sea_orm::entity::prelude::{
    ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait,
    EnumIter, IpNetwork, Json, PrimaryKeyTrait, Uuid,
};

#[derive(Clone, Debug, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    id: Uuid,
    user_id: Uuid,
    device_info: Option<String>,
    browser: Option<String>,
    system: Option<String>,
    device_type: Option<String>,
    user_agent: Option<String>,
    ip_address: Option<IpNetwork>,
    last_ip_address: Option<IpNetwork>,
    location: Option<String>,
    name: Option<String>,
    created_at: DateTime<Utc>,
    last_activity_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// Microseconds.
    idle_timeout: Option<i64>,
    /// Microseconds.
    renewal: Option<i64>,
    metadata: Option<Json>,
    idempotency_key: Option<String>,
    idempotency_hash: Option<Vec<u8>>,
    token_hash: Option<Vec<u8>>,
    replaced_token_hash: Option<Vec<u8>>,
    token_replaced_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    revoked_reason: Option<String>,
    revoked_by: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl From<Model> for Session {
    fn from(row: Model) -> Self {
        let kind = row.device_type.as_deref().and_then(DeviceKind::from_word);
        Self {
            id: SessionId(row.id),
            user_id: UserId(row.user_id),
            device_info: shared(row.device_info),
            device: kind.map(|kind| Device {
                browser: shared(row.browser),
                system: shared(row.system),
                kind,
            }),
            user_agent: shared(row.user_agent),
            ip_address: row.ip_address.map(|network| network.ip()),
            last_ip_address: row.last_ip_address.map(|network| network.ip()),
            location: shared(row.location),
            name: shared(row.name),
            created_at: row.created_at,
            last_activity_at: row.last_activity_at,
            expires_at: row.expires_at,
            idle_timeout: row.idle_timeout.map(TimeDelta::microseconds),
            renewal: row.renewal.map(TimeDelta::microseconds),
            // The table refuses what is no object.
            metadata: row.metadata.and_then(|json| {
                if let Json::Object(object) = json { Some(object.into()) } else { None }
            }),
            idempotency_key: idempotency_key(row.idempotency_key, row.idempotency_hash),
            tokens: tokens(row.token_hash, row.replaced_token_hash, row.token_replaced_at),
            // The table refuses a reason without a time.
            revocation: row.revoked_at.map(|at| {
                Revocation {
                    at,
                    reason: row.revoked_reason,
                    actor: row.revoked_by.and_then(|text| text.parse().ok()),
                }
                .into()
            }),
        }
    }
}

fn shared(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

/// `None` where there is no hash: the sign-in was before hashes were kept.
fn idempotency_key(text: Option<String>, hash: Option<Vec<u8>>) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { text: text?.into(), request_hash: hash?.try_into().ok()? })
}

/// The table refuses hashes of other lengths, and a replaced one without a time.
fn tokens(
    current: Option<Vec<u8>>,
    replaced: Option<Vec<u8>>,
    at: Option<DateTime<Utc>>,
) -> Option<Arc<SessionTokens>> {
    let hash = |bytes: Vec<u8>| bytes.try_into().ok().map(TokenHash);
    let replaced = replaced.and_then(hash).zip(at);
    let replaced = replaced.map(|(hash, at)| ReplacedToken { hash, at });
    Some(Arc::new(SessionTokens { current: current.and_then(hash)?, replaced }))
}

/// The columns of [`values`], in their order.
pub(crate) const COLUMNS: &str = "id, user_id, device_info, browser, system, device_type,
    user_agent, ip_address, last_ip_address, location, name, created_at, last_activity_at,
    expires_at, idle_timeout, renewal, metadata, idempotency_key, idempotency_hash, token_hash,
    replaced_token_hash, token_replaced_at, revoked_at, revoked_reason, revoked_by";

/// How many columns that are.
pub(crate) const COLUMN_COUNT: usize = 25;

/// Returns the placeholder of a column of [`COLUMNS`], where the statement's first values are
/// [`values`].
///
/// # Panics
/// If there is no such column.
pub(crate) fn placeholder(column: &str) -> String {
    let position = COLUMNS.split(',').position(|name| name.trim() == column);
    format!("${}", position.unwrap_or_else(|| unreachable!("no column {column}")) + 1)
}

/// Returns a session as the values of [`COLUMNS`].
pub(crate) fn values(session: &Session) -> [Value; COLUMN_COUNT] {
    let network = |address: Option<IpAddr>| address.map(IpNetwork::from);
    let device = session.device.as_ref();
    let revocation = session.revocation.as_deref();
    let tokens = session.tokens.as_deref();
    let replaced = tokens.and_then(|tokens| tokens.replaced);
    [
        session.id.0.into(),
        session.user_id.0.into(),
        session.device_info.as_deref().into(),
        device.and_then(|device| device.browser.as_deref()).into(),
        device.and_then(|device| device.system.as_deref()).into(),
        device.map(|device| device.kind.as_str()).into(),
        session.user_agent.as_deref().into(),
        network(session.ip_address).into(),
        network(session.last_ip_address).into(),
        session.location.as_deref().into(),
        session.name.as_deref().into(),
        session.created_at.into(),
        session.last_activity_at.into(),
        session.expires_at.into(),
        session.idle_timeout.and_then(|timeout| timeout.num_microseconds()).into(),
        session.renewal.and_then(|renewal| renewal.num_microseconds()).into(),
        session.metadata.as_deref().cloned().map(Json::Object).into(),
        session.idempotency_key.as_ref().map(|key| &*key.text).into(),
        session.idempotency_key.as_ref().map(|key| key.request_hash.to_vec()).into(),
        tokens.map(|tokens| tokens.current.0.to_vec()).into(),
        replaced.map(|replaced| replaced.hash.0.to_vec()).into(),
        replaced.map(|replaced| replaced.at).into(),
        revocation.map(|revocation| revocation.at).into(),
        revocation.and_then(|revocation| revocation.reason.clone()).into(),
        revocation.and_then(actor_text).into(),
    ]
}

pub(crate) fn actor_text(revocation: &Revocation) -> Option<String> {
    revocation.actor.as_ref().map(|actor| actor.to_string())
}
