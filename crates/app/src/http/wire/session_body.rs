//! Sessions as callers see them.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use application::coherence::Revoked;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use domain::ports::Layer;
use domain::{Device, Metadata, Session};
use metrics::Counter;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::problem::Problem;
use utoipa::ToSchema;

use crate::http::wire::schemas;

/// A session as users see it. Every field is always there; what is not known is null. Never a
/// secret, and neither the user agent nor the metadata.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01900000-0000-7000-8000-000000000001",
    "user_id": "00000000-0000-4000-8000-00000000000a",
    "device_info": "Chrome on macOS",
    "device": { "browser": "Chrome", "system": "macOS", "type": "desktop" },
    "ip_address": "192.0.2.7",
    "location": null,
    "created_at": "2026-01-02T03:04:05.123456Z",
    "last_activity_at": "2026-01-02T03:04:05.123456Z",
    "expires_at": "2026-02-01T03:04:05.123456Z",
    "is_revoked": false,
    "is_current": true,
    "status": "live",
    "revoked_at": null,
    "revoked_reason": null,
    "name": null,
    "last_ip_address": "192.0.2.7"
}))]
pub(crate) struct SessionBody<'a> {
    id: Uuid,
    user_id: Uuid,
    #[schema(required)]
    device_info: Option<&'a str>,
    #[schema(required)]
    device: Option<DeviceBody<'a>>,
    #[schema(required, value_type = Option<String>)]
    ip_address: Option<IpAddr>,
    #[schema(required)]
    location: Option<&'a str>,
    #[serde(serialize_with = "micros")]
    created_at: DateTime<Utc>,
    #[serde(serialize_with = "micros")]
    last_activity_at: DateTime<Utc>,
    #[serde(serialize_with = "micros")]
    expires_at: DateTime<Utc>,
    is_revoked: bool,
    is_current: bool,
    #[schema(schema_with = schemas::status)]
    status: &'static str,
    #[schema(required, value_type = Option<DateTime<Utc>>)]
    #[serde(serialize_with = "optional_micros")]
    revoked_at: Option<DateTime<Utc>>,
    #[schema(required)]
    revoked_reason: Option<&'a str>,
    #[schema(required)]
    name: Option<&'a str>,
    #[schema(required, value_type = Option<String>)]
    last_ip_address: Option<IpAddr>,
}

#[derive(Serialize, ToSchema)]
struct DeviceBody<'a> {
    #[schema(required)]
    browser: Option<&'a str>,
    #[schema(required)]
    system: Option<&'a str>,
    #[schema(schema_with = schemas::device_type)]
    #[serde(rename = "type")]
    kind: &'static str,
}

impl<'a> DeviceBody<'a> {
    fn new(device: &'a Device) -> Self {
        Self {
            browser: device.browser.as_deref(),
            system: device.system.as_deref(),
            kind: device.kind.as_str(),
        }
    }
}

/// A session as the application's backend sees it, read from the database.
#[derive(Serialize, ToSchema)]
pub(crate) struct WholeSessionBody<'a> {
    #[serde(flatten)]
    session: SessionBody<'a>,
    #[schema(value_type = Option<String>)]
    user_agent: Option<&'a str>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<&'a Metadata>,
}

impl<'a> WholeSessionBody<'a> {
    /// Creates the session as it is at `now`.
    pub(crate) fn new(session: &'a Session, now: DateTime<Utc>) -> Self {
        Self {
            session: SessionBody::new(session, now, false),
            user_agent: session.user_agent.as_deref(),
            metadata: session.metadata.as_deref(),
        }
    }
}

impl<'a> SessionBody<'a> {
    /// Creates the session as it is at `now`; `is_current`: whether the question was asked in it.
    pub(crate) fn new(session: &'a Session, now: DateTime<Utc>, is_current: bool) -> Self {
        Self {
            id: session.id.0,
            user_id: session.user_id.0,
            device_info: session.device_info.as_deref(),
            device: session.device.as_ref().map(DeviceBody::new),
            ip_address: session.ip_address,
            location: session.location.as_deref(),
            created_at: session.created_at,
            last_activity_at: session.last_activity_at,
            expires_at: session.expires_at,
            is_revoked: session.is_revoked(),
            is_current,
            status: session.status(now).as_str(),
            revoked_at: session.revocation.as_ref().map(|revocation| revocation.at),
            revoked_reason: session
                .revocation
                .as_ref()
                .and_then(|revocation| revocation.reason.as_deref()),
            name: session.name.as_deref(),
            last_ip_address: session.last_ip_address,
        }
    }

    /// Returns the response to a read.
    pub(crate) fn into_read(self, layer: Layer) -> Response {
        read_response(layer, self)
    }
}

/// The reads that one layer has served.
struct Reads {
    counter: Counter,
    count: AtomicU64,
}

impl Reads {
    fn count(&self) {
        self.counter.increment(1);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads served by each layer; the counters are looked up once.
static READS: LazyLock<[Reads; 3]> = LazyLock::new(|| {
    ["near", "redis", "database"].map(|layer| Reads {
        counter: metrics::counter!("sessiond_reads_total", "layer" => layer),
        count: AtomicU64::new(0),
    })
});

/// Makes the counters of reads appear before there was one.
pub(crate) fn initialise_metrics() {
    READS.iter().for_each(|reads| reads.counter.increment(0));
}

/// Returns how many reads the near cache, the shared cache and the database have served.
pub(crate) fn reads_by_layer() -> [u64; 3] {
    READS.each_ref().map(|reads| reads.count.load(Ordering::Relaxed))
}

/// Returns the response to a read, with `Cache-Status` (RFC 9211) saying which layer had it.
pub(crate) fn read_response(layer: Layer, body: impl Serialize) -> Response {
    let [near, shared, database] = &*READS;
    let (status, reads) = match layer {
        Layer::Near => ("sessiond; hit; detail=near", near),
        Layer::Shared => ("sessiond; hit; detail=redis", shared),
        Layer::Database => ("sessiond; fwd=miss; detail=database", database),
    };
    reads.count();
    response(status, body)
}

/// Returns the response to a read that asks no cache.
pub(crate) fn uncached_response(body: impl Serialize) -> Response {
    READS[2].count();
    response("sessiond; fwd=bypass; detail=database", body)
}

fn response(cache_status: &'static str, body: impl Serialize) -> Response {
    let cache_status =
        (HeaderName::from_static("cache-status"), HeaderValue::from_static(cache_status));
    // Most sessions take less.
    let mut json = Vec::with_capacity(1024);
    match serde_json::to_writer(&mut json, &body) {
        Ok(()) => {
            let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            ([content_type, cache_status], json).into_response()
        }
        Err(_) => Problem::internal_error().into_response(),
    }
}

/// Returns the `ETag` header of a session.
pub(crate) fn etag(session: &Session) -> [(HeaderName, HeaderValue); 1] {
    [(header::ETAG, entity_tag(session))]
}

/// Returns the entity tag of what can be edited of a session (RFC 9110 section 8.8.3): it changes
/// with the name and the metadata, and not with activity, which would make every condition fail.
pub(crate) fn entity_tag(session: &Session) -> HeaderValue {
    let editable =
        serde_json::json!([session.name.as_deref(), session.metadata.as_deref()]).to_string();
    let digest = digest(&SHA256, editable.as_bytes());
    let tag: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// RFC 3339, UTC, always six digits of a second.
pub(crate) fn micros<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(&rfc3339_micros(at)) {
        Ok(text) if (0..=9999).contains(&at.year()) => serializer.serialize_str(text),
        _ => serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true)),
    }
}

/// As chrono writes a year of four digits, without a formatter or an allocation.
fn rfc3339_micros(at: &DateTime<Utc>) -> [u8; 27] {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut digits = |mut end: usize, mut number: u32| {
        while number > 0 {
            text[end] += (number % 10) as u8;
            number /= 10;
            end = end.wrapping_sub(1);
        }
    };
    digits(3, at.year().unsigned_abs() % 10_000);
    digits(6, at.month());
    digits(9, at.day());
    digits(12, at.hour());
    digits(15, at.minute());
    digits(18, at.second());
    digits(25, at.timestamp_subsec_micros() % 1_000_000);
    text
}

fn optional_micros<S: Serializer>(
    at: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => micros(at, serializer),
        None => serializer.serialize_none(),
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct RevokedBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_micros")]
    effective_by: Option<DateTime<Utc>>,
}

/// Returns the response to a revocation of one session: 204, or 202 with the time from which it is
/// effective.
pub(crate) fn revoked_response(revoked: Revoked) -> Response {
    let Revoked { effective_by, .. } = revoked;
    match effective_by {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(_) => accepted(RevokedBody { revoked_count: None, effective_by }),
    }
}

/// Returns the response to a revocation of several: 200 with how many were not revoked before, or
/// 202 with the time too.
pub(crate) fn revoked_count_response(revoked: Revoked) -> Response {
    let Revoked { count, effective_by } = revoked;
    let body = RevokedBody { revoked_count: Some(count), effective_by };
    if effective_by.is_some() { accepted(body) } else { Json(body).into_response() }
}

fn accepted(body: RevokedBody) -> Response {
    let applied = [(
        HeaderName::from_static("preference-applied"),
        HeaderValue::from_static("respond-async"),
    )];
    (StatusCode::ACCEPTED, applied, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_chrono_writes_them() {
        let micros = [
            0,
            1,
            -1,
            999_999,
            1_763_924_170_123_456,
            -62_167_219_200_000_000,
            253_402_300_799_999_999,
        ];
        let far = [-62_167_219_200_000_001, 253_402_300_800_000_000];
        for micros in micros.into_iter().chain(far) {
            let at = DateTime::<Utc>::from_timestamp_micros(micros).unwrap();
            let written = serde_json::to_value(Effective { at }).unwrap();
            assert_eq!(written["at"], at.to_rfc3339_opts(SecondsFormat::Micros, true));
        }
    }

    #[derive(Serialize)]
    struct Effective {
        #[serde(serialize_with = "micros")]
        at: DateTime<Utc>,
    }
}
