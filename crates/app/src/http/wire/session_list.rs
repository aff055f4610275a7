//! Lists of sessions, page by page.

use std::fmt::Write;

use application::queries::ListUserSessions;
use application::queries::handlers::{FoundSessions, ListedSessions};
use axum::Json;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Datelike};
use domain::ports::ListPosition;
use domain::{Metadata, SessionId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fields::{Notion, Text};
use super::problem::Problem;
use super::session_body::SessionBody;
use utoipa::{IntoParams, ToSchema};

/// Sessions on a page by default.
const DEFAULT_LIMIT: u32 = 50;
/// Sessions on a page at most.
const MAX_LIMIT: u32 = 200;

/// The parameters of a list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParameters {
    /// Only live sessions.
    #[serde(default)]
    active_only: bool,
    /// The size of the page, 50 if it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<Text<u64>>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>, pattern = "^([0-9a-f]{48})?$")]
    cursor: Option<Text<ListPosition>>,
}

/// A page, as users see it.
#[derive(Serialize, ToSchema)]
pub(crate) struct ListBody<'a> {
    sessions: Vec<ListedSession<'a>>,
    total_count: u64,
    active_count: u64,
    #[schema(required)]
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct ListedSession<'a> {
    #[serde(flatten)]
    session: SessionBody<'a>,
    /// On the service listener only.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Option<&'a str>>,
    /// On the service listener only.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Option<&'a Metadata>>,
}

/// A page of what was found, as operators see it.
#[derive(Serialize, ToSchema)]
pub(crate) struct FoundBody<'a> {
    sessions: Vec<ListedSession<'a>>,
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Returns the size of a page of a search.
///
/// # Errors
/// As for [`page_size`].
pub(crate) fn search_page_size(limit: Option<Text<u64>>) -> Result<u32, Problem> {
    page_size(limit, DEFAULT_LIMIT, MAX_LIMIT)
}

/// Returns the response to a search, with user agents and metadata.
pub(crate) fn found_response(found: &FoundSessions) -> Response {
    let sessions = found.sessions.iter().map(|session| ListedSession {
        session: SessionBody::new(session, found.now, false),
        user_agent: Some(session.user_agent.as_deref()),
        metadata: Some(session.metadata.as_deref()),
    });
    let next_cursor = found.next.map(encode_cursor);
    Json(FoundBody { sessions: sessions.collect(), next_cursor }).into_response()
}

impl ListParameters {
    /// Returns the query for a user's list.
    pub(crate) fn into_query(self, user_id: UserId) -> Result<ListUserSessions, Problem> {
        let limit = page_size(self.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
        let after = self.cursor.map(|Text(position)| position);
        Ok(ListUserSessions { user_id, active_only: self.active_only, limit, after })
    }
}

/// Returns the size of a page.
///
/// # Errors
/// 400 if it is not from 1 to `max`.
pub(crate) fn page_size(limit: Option<Text<u64>>, default: u32, max: u32) -> Result<u32, Problem> {
    let Some(Text(limit)) = limit else { return Ok(default) };
    let limit = u32::try_from(limit).ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| Problem::invalid_request("limit", format!("must be from 1 to {max}")))
}

impl Notion for ListPosition {
    const EXPECTED: &'static str = "a next_cursor of an earlier page";

    fn parse(text: &str) -> Option<Self> {
        decode_cursor(text)
    }
}

/// Returns the response to a list: `current` is the session that it was asked in; `whole`: with
/// user agents and metadata.
pub(crate) fn list_response(
    listed: &ListedSessions,
    current: Option<SessionId>,
    whole: bool,
) -> Response {
    let sessions = listed.sessions.iter().map(|session| ListedSession {
        session: SessionBody::new(session, listed.now, Some(session.id) == current),
        user_agent: whole.then_some(session.user_agent.as_deref()),
        metadata: whole.then_some(session.metadata.as_deref()),
    });
    let body = ListBody {
        sessions: sessions.collect(),
        total_count: listed.total_count,
        active_count: listed.active_count,
        next_cursor: listed.next.map(encode_cursor),
    };
    Json(body).into_response()
}

/// Returns the position as 48 hexadecimal digits: microseconds since 1970, then the id. Opaque to
/// callers.
fn encode_cursor(position: ListPosition) -> String {
    let mut text = String::with_capacity(48);
    // Writing to a String cannot fail.
    let _ =
        write!(text, "{:016x}{}", position.created_at.timestamp_micros(), position.id.0.simple());
    text
}

fn decode_cursor(text: &str) -> Option<ListPosition> {
    if text.len() != 48 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let micros = u64::from_str_radix(&text[..16], 16).ok()?;
    let id = u128::from_str_radix(&text[16..], 16).ok()?;
    // No session is older than 1970 or younger than RFC 3339 can say; databases differ on what lies
    // beyond.
    let created_at = DateTime::from_timestamp_micros(i64::try_from(micros).ok()?)?;
    if created_at.year() > 9999 {
        return None;
    }
    Some(ListPosition { created_at, id: SessionId(Uuid::from_u128(id)) })
}

#[cfg(test)]
mod tests {
    use testkit::fixtures;

    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written_and_nothing_else_is_one() {
        let last = DateTime::from_timestamp_micros(253_402_300_799_999_999).unwrap();
        for created_at in [fixtures::now(), DateTime::UNIX_EPOCH, last] {
            let position = ListPosition { created_at, id: fixtures::session().id };
            assert_eq!(decode_cursor(&encode_cursor(position)), Some(position));
        }
        let good =
            encode_cursor(ListPosition { created_at: fixtures::now(), id: fixtures::session().id });
        for text in [
            "",
            "nonsense",
            &good[1..],
            &format!("{good}0"),
            &good.replace('0', "g"),
            &"é".repeat(24),
            &"f".repeat(47),
        ] {
            assert_eq!(decode_cursor(text), None, "{text}");
        }
        // Whole, but no time at which a session can have begun.
        let (past_9999, before_1970) =
            (format!("{:016x}", 253_402_300_800_000_000_u64), "f".repeat(16));
        for micros in [
            past_9999.as_str(),
            &before_1970,
            "7fffffffffffffff",
            "8000000000000000",
            "fc7f18f46ec48000",
        ] {
            assert_eq!(decode_cursor(&format!("{micros}{}", "0".repeat(32))), None, "{micros}");
        }
    }
}
