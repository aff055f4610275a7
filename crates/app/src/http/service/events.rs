//! What happened to sessions: page by page, or as a stream.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use application::Application;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::ports::EventQuery;
use domain::{SessionEvent, SessionId, UserId};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::ServiceState;
use crate::http::wire::fields::{Notion, Text};
use crate::http::wire::parameters::Parameters;
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::micros;
use crate::http::wire::session_list::page_size;
use utoipa::{IntoParams, ToSchema};

use crate::http::wire::schemas;

/// Streams of one node at a time.
pub const MAX_EVENT_STREAMS: usize = 100;
/// Events on a page by default.
const DEFAULT_LIMIT: u32 = 100;
/// Events on a page at most, and those that a stream reads at a time.
const MAX_LIMIT: u32 = 1000;
/// How often a stream polls for more, once it has caught up.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often a stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventParameters {
    /// The `next_after` of the page before; from the oldest event that is kept, if it is absent.
    #[param(value_type = Option<u64>, format = "uint64")]
    after: Option<Text<u64>>,
    /// The size of the page, 100 if it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Text<u64>>,
    /// Only events of this session.
    #[param(
        value_type = Option<String>,
        pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
    )]
    session_id: Option<Text<SessionId>>,
    /// Only events of this user's sessions.
    #[param(
        value_type = Option<String>,
        pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
    )]
    user_id: Option<Text<UserId>>,
}

/// A stream has no pages, so it takes no limit.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamParameters {
    /// The last event that was received, or `newest` for those that come from now on; from the
    /// oldest event that is kept, if it is absent.
    #[param(value_type = Option<String>, pattern = "^([0-9]{1,19}|newest)?$")]
    after: Option<Text<After>>,
    /// Only events of this session.
    #[param(
        value_type = Option<String>,
        pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
    )]
    session_id: Option<Text<SessionId>>,
    /// Only events of this user's sessions.
    #[param(
        value_type = Option<String>,
        pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"
    )]
    user_id: Option<Text<UserId>>,
}

/// Where a stream begins.
enum After {
    Newest,
    Event(u64),
}

impl Notion for After {
    const EXPECTED: &'static str = "a whole number, or newest";

    fn parse(text: &str) -> Option<Self> {
        if text == "newest" { Some(Self::Newest) } else { u64::parse(text).map(Self::Event) }
    }
}

fn query(
    after: Option<Text<u64>>,
    limit: u32,
    session_id: Option<Text<SessionId>>,
    user_id: Option<Text<UserId>>,
) -> EventQuery {
    let session_id = session_id.map(|Text(id)| id);
    let user_id = user_id.map(|Text(id)| id);
    EventQuery { after: after.map_or(0, |Text(after)| after), limit, session_id, user_id }
}

/// An event, as users see it.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": 2,
    "type": "revoked",
    "at": "2026-01-02T03:04:05.123456Z",
    "session_id": "01900000-0000-7000-8000-000000000001",
    "user_id": "00000000-0000-4000-8000-00000000000a",
    "reason": "lost phone",
    "actor": "service:billing"
}))]
struct EventBody<'a> {
    id: u64,
    #[schema(schema_with = schemas::event_type)]
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(serialize_with = "micros")]
    at: DateTime<Utc>,
    session_id: Uuid,
    user_id: Uuid,
    #[schema(required)]
    reason: Option<&'a str>,
    #[schema(required)]
    actor: Option<String>,
}

impl<'a> EventBody<'a> {
    fn new(event: &'a SessionEvent) -> Self {
        Self {
            id: event.position,
            kind: event.kind.as_str(),
            at: event.at,
            session_id: event.session_id.0,
            user_id: event.user_id.0,
            reason: event.reason.as_deref(),
            actor: event.actor.as_ref().map(ToString::to_string),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct EventsBody<'a> {
    events: Vec<EventBody<'a>>,
    /// What to give as `after` next.
    next_after: u64,
}

/// Lists a page of events.
#[utoipa::path(
    get,
    path = "/service/v1/events",
    operation_id = "list_events",
    tag = "backends",
    params(EventParameters),
    responses((status = 200, description = "A page of events", body = EventsBody))
)]
pub(crate) async fn list_events(
    State(state): State<ServiceState>,
    Parameters(parameters): Parameters<EventParameters>,
) -> Result<Response, Problem> {
    let limit = page_size(parameters.limit, DEFAULT_LIMIT, MAX_LIMIT)?;
    let query = query(parameters.after, limit, parameters.session_id, parameters.user_id);
    let events = state.application.list_events.handle(&query).await?;
    let next_after = events.last().map_or(query.after, |event| event.position);
    Ok(Json(EventsBody { events: events.iter().map(EventBody::new).collect(), next_after })
        .into_response())
}

/// Streams every event after `Last-Event-ID`, or `after`, as it comes (server-sent events, as the
/// HTML standard has them).
#[utoipa::path(
    get,
    path = "/service/v1/events/stream",
    operation_id = "stream_events",
    tag = "backends",
    params(StreamParameters,
        ("Last-Event-ID" = Option<u64>, Header, description = "The event after which to go on")),
    responses(
        (
            status = 200,
            description = "Events as they come",
            body = String,
            content_type = "text/event-stream",
        ),
    )
)]
pub(crate) async fn stream_events(
    State(state): State<ServiceState>,
    Parameters(parameters): Parameters<StreamParameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let after = match parameters.after {
        Some(Text(After::Newest)) => Some(state.application.list_events.newest_position().await?),
        Some(Text(After::Event(id))) => Some(id),
        None => None,
    };
    let StreamParameters { session_id, user_id, .. } = parameters;
    let mut query = query(after.map(Text), MAX_LIMIT, session_id, user_id);
    if let Some(last) = headers.get("last-event-id").filter(|value| !value.is_empty()) {
        let last = last.to_str().ok().and_then(u64::parse);
        query.after = last.ok_or_else(|| {
            Problem::invalid_request("Last-Event-ID", "must be the id of an event")
        })?;
    }
    let place = state.event_streams.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::too_many_streams())?;
    let tail = Tail {
        application: state.application,
        query,
        read: VecDeque::new(),
        shutdown: state.shutdown,
        _place: place,
    };
    let events = stream::unfold(tail, |mut tail| async {
        let event = tail.next().await?;
        Some((Ok::<_, Infallible>(event), tail))
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // nginx holds back what it proxies until a buffer is full, unless this header forbids it.
    Ok(([(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))], stream)
        .into_response())
}

/// Where a stream is.
struct Tail {
    application: Arc<Application>,
    query: EventQuery,
    read: VecDeque<SessionEvent>,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    /// Returns the next event, however long it takes; `None` when the listener stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.query.after = event.position;
                let body = EventBody::new(&event);
                let sse = Event::default().id(body.id.to_string()).event(body.kind);
                // A body of texts, numbers and times is always JSON.
                return sse.json_data(&body).ok();
            }
            if self.shutdown.is_cancelled() {
                return None;
            }
            match self.application.list_events.handle(&self.query).await {
                Ok(events) => self.read.extend(events),
                // The reader waits; nothing is lost.
                Err(error) => tracing::debug!(%error, "an event stream waits for the database"),
            }
            if self.read.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                    () = self.shutdown.cancelled() => {}
                }
            }
        }
    }
}
