//! Watches: streams of server-sent events that say when the caller's session ends, and when the
//! user's sessions change. A watch is not activity.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use application::Application;
use application::queries::GetSession;
use application::queries::handlers::{FoundSession, GetSessionError};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use domain::ports::{Clock, EventQuery, PortError};
use domain::{SessionEventKind, SessionId, SessionStatus, UserId};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

use super::PublicState;
use super::authentication::{Credential, WatchingCaller};
use crate::http::wire::problem::Problem;
use crate::http::wire::schemas;

/// Watches of one node at a time.
const MAX_WATCHES: usize = 5_000;
/// Watches of one user at a time, of all devices.
const MAX_WATCHES_PER_USER: u32 = 20;
/// How often a watch checks, in memory, whether its session may have been revoked.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How often a watch reads its session again, at most.
const READ_INTERVAL: Duration = Duration::from_millis(500);
/// How often the event feed is read for all watches of a node.
const FEED_INTERVAL: Duration = Duration::from_millis(500);
/// Events that one reading of the feed takes.
const FEED_PAGE: u32 = 1_000;
/// Changes that a slow watch may be behind. Beyond that it is only notified that there were some.
const MAX_BEHIND: usize = 256;
/// How often a stream shows that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The watches of a node, and what bounds them.
pub struct Watches {
    application: Arc<Application>,
    shutdown: CancellationToken,
    permits: Arc<Semaphore>,
    by_user: Mutex<HashMap<UserId, u32>>,
    /// The reader of the event feed, while there are watches that need it.
    feed: AsyncMutex<Option<broadcast::WeakSender<Change>>>,
}

/// Something happened to a session of this user.
#[derive(Clone, Copy)]
struct Change {
    kind: SessionEventKind,
    session_id: SessionId,
    user_id: UserId,
}

impl Watches {
    /// Creates the watches of a node. They end when `shutdown` is cancelled.
    pub fn new(application: Arc<Application>, shutdown: CancellationToken) -> Self {
        Self {
            application,
            shutdown,
            permits: Arc::new(Semaphore::new(MAX_WATCHES)),
            by_user: Mutex::default(),
            feed: AsyncMutex::default(),
        }
    }

    /// Counts a watch of this user, until the permit is dropped.
    ///
    /// # Errors
    /// 429 if the user, or the node, has as many as it may.
    fn admit(self: &Arc<Self>, user_id: UserId) -> Result<Permit, Problem> {
        let permit = self.permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Problem::too_many_streams())?;
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_user.entry(user_id).or_default();
        if *count >= MAX_WATCHES_PER_USER {
            return Err(Problem::too_many_streams());
        }
        *count += 1;
        Ok(Permit { watches: self.clone(), user_id, _permit: permit })
    }

    /// Returns what receives every change from now on. All watches share one reader of the feed:
    /// the database serves one query per interval, however many watches there are.
    ///
    /// # Errors
    /// [`PortError`] if the store does not say where the feed ends.
    async fn changes(&self) -> Result<broadcast::Receiver<Change>, PortError> {
        let mut feed = self.feed.lock().await;
        if let Some(sender) = feed.as_ref().and_then(broadcast::WeakSender::upgrade) {
            return Ok(sender.subscribe());
        }
        let after = self.application.list_events.newest_position().await?;
        let (sender, receiver) = broadcast::channel(MAX_BEHIND);
        *feed = Some(sender.downgrade());
        let application = self.application.clone();
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            let reading = read_feed(&application, after, sender);
            shutdown.run_until_cancelled(reading).await;
        });
        Ok(receiver)
    }
}

/// Reads the feed from a position on, for as long as there is a receiver.
async fn read_feed(application: &Application, mut after: u64, sender: broadcast::Sender<Change>) {
    while sender.receiver_count() > 0 {
        let query = EventQuery { after, limit: FEED_PAGE, ..EventQuery::default() };
        match application.list_events.handle(&query).await {
            Ok(events) => {
                for event in &events {
                    let change = Change {
                        kind: event.kind,
                        session_id: event.session_id,
                        user_id: event.user_id,
                    };
                    // Without a receiver nothing is lost, and the loop ends.
                    let _ = sender.send(change);
                    after = event.position;
                }
                if events.len() == FEED_PAGE as usize {
                    continue;
                }
            }
            Err(error) => tracing::debug!(%error, "watches wait for the database"),
        }
        tokio::time::sleep(FEED_INTERVAL).await;
    }
}

/// The right to one watch.
struct Permit {
    watches: Arc<Watches>,
    user_id: UserId,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut by_user = self.watches.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_user.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                by_user.remove(&self.user_id);
            }
        }
    }
}

/// Streams what becomes of the caller's session: `live` now, comments as a sign of life, then
/// `revoked` or `expired`, and the stream ends. For sockets and pages that must close with it.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/current/watch",
    operation_id = "watch_current_session",
    tag = "end users",
    responses(
        (
            status = 200,
            description = "Server-sent events `live`, `revoked`, `expired`",
            body = String,
            content_type = "text/event-stream",
        ),
    )
)]
pub(super) async fn watch_current_session(
    State(state): State<PublicState>,
    caller: WatchingCaller,
) -> Result<Response, Problem> {
    let permit = state.watches.admit(caller.own.session.user_id)?;
    Ok(stream(Watch::new(state, caller, None, permit)))
}

/// Streams what becomes of the caller's session, as `current/watch` does, and `changed` when one of
/// the user's sessions was created, revoked, evicted, extended or has expired. For pages that show
/// the list.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/watch",
    operation_id = "watch_own_sessions",
    tag = "end users",
    responses(
        (
            status = 200,
            description = "Server-sent events `live`, `changed`, `revoked`, `expired`",
            body = String,
            content_type = "text/event-stream",
        ),
    )
)]
pub(super) async fn watch_sessions(
    State(state): State<PublicState>,
    caller: WatchingCaller,
) -> Result<Response, Problem> {
    let permit = state.watches.admit(caller.own.session.user_id)?;
    let changes = state.watches.changes().await?;
    Ok(stream(Watch::new(state, caller, Some(changes), permit)))
}

fn stream(watch: Watch) -> Response {
    let events = stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    // nginx holds back what it proxies until a buffer is full, unless this header forbids it.
    ([(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))], stream)
        .into_response()
}

/// The data of `live`, `revoked` and `expired`.
#[derive(Serialize, ToSchema)]
struct WatchBody<'a> {
    session_id: Uuid,
    #[schema(schema_with = schemas::status)]
    status: &'static str,
    revoked_reason: Option<&'a str>,
}

/// The data of `changed`. Both are null where so many sessions have changed that they are not
/// named.
#[derive(Serialize, ToSchema)]
struct ChangeBody {
    session_id: Option<Uuid>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
}

/// One watch.
struct Watch {
    application: Arc<Application>,
    clock: Arc<dyn Clock>,
    watches: Arc<Watches>,
    credential: Credential,
    own: FoundSession,
    /// When the session was last read, or was tried to be.
    read_at: Instant,
    /// When it is checked next whether the watch has ended.
    check_at: Instant,
    changes: Option<broadcast::Receiver<Change>>,
    state: WatchState,
    _permit: Permit,
}

#[derive(PartialEq, Eq)]
enum WatchState {
    Beginning,
    Watching,
    Ended,
}

/// What happened next.
enum Wake {
    Check,
    Changed(ChangeBody),
    Shutdown,
}

impl Watch {
    fn new(
        state: PublicState,
        caller: WatchingCaller,
        changes: Option<broadcast::Receiver<Change>>,
        permit: Permit,
    ) -> Self {
        let WatchingCaller { credential, own } = caller;
        let PublicState { application, clock, watches, .. } = state;
        let read_at = Instant::now();
        let check_at = read_at + CHECK_INTERVAL;
        let state = WatchState::Beginning;
        Self {
            application,
            clock,
            watches,
            credential,
            own,
            read_at,
            check_at,
            changes,
            state,
            _permit: permit,
        }
    }

    /// Returns the next event, however long it takes; `None` when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        match self.state {
            WatchState::Ended => return None,
            WatchState::Beginning => {
                self.state = WatchState::Watching;
                return self.verdict(SessionStatus::Live);
            }
            WatchState::Watching => {}
        }
        loop {
            match self.wake().await {
                Wake::Shutdown => return None,
                Wake::Changed(change) => {
                    return Event::default().event("changed").json_data(&change).ok();
                }
                Wake::Check => {
                    if let Some(status) = self.terminated().await {
                        self.state = WatchState::Ended;
                        return self.verdict(status);
                    }
                    if !self.is_credential_current() {
                        return None;
                    }
                }
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        let user_id = self.own.session.user_id;
        tokio::select! {
            // First, and by a deadline: however often a session changes, the end is noticed.
            biased;
            () = tokio::time::sleep_until(self.check_at) => {
                self.check_at = Instant::now() + CHECK_INTERVAL;
                Wake::Check
            }
            () = self.watches.shutdown.cancelled() => Wake::Shutdown,
            change = next_change(&self.watches, self.changes.as_mut(), user_id) => {
                Wake::Changed(change)
            }
        }
    }

    /// Returns the status of the session if it is not live any more. Reads it again only if it may
    /// have been revoked since, or seems to have expired: activity may have extended it.
    async fn terminated(&mut self) -> Option<SessionStatus> {
        let FoundSession { session, version, .. } = &self.own;
        let is_unchanged = version.as_ref().is_some_and(|version| {
            !self.application.revocation_state.may_be_revoked_since(
                session.id,
                session.user_id,
                version,
            )
        });
        let is_current = is_unchanged && session.is_live(self.clock.now());
        if is_current || self.read_at.elapsed() < READ_INTERVAL {
            return None;
        }
        self.read_at = Instant::now();
        let query = GetSession { session_id: session.id, user_id: session.user_id };
        match self.application.get_session.find(query).await {
            Ok(found) => self.own = found,
            // Deleted: it had been terminated before.
            Err(GetSessionError::SessionNotFound | GetSessionError::NotOwner) => {
                return Some(SessionStatus::Revoked);
            }
            // Unknown is not terminated: the watch goes on.
            Err(GetSessionError::Port(error)) => {
                tracing::debug!(%error, "a watch waits for the database");
                return None;
            }
        }
        let status = self.own.session.status(self.clock.now());
        (status != SessionStatus::Live).then_some(status)
    }

    /// Returns whether the caller could go on reading with the credential that it has presented. A
    /// rotation is noticed as a revocation is, and then the grace of the token before is no reason
    /// to go on: its holder has the new one, or is a thief.
    fn is_credential_current(&self) -> bool {
        match self.credential {
            Credential::Jwt { expires_at } => self.clock.now() < expires_at,
            Credential::SessionToken { hash, .. } => {
                let tokens = self.own.session.tokens.as_ref();
                tokens.is_some_and(|tokens| tokens.current == hash)
            }
        }
    }

    fn verdict(&self, status: SessionStatus) -> Option<Event> {
        let name = match status {
            SessionStatus::Live => "live",
            SessionStatus::Revoked => "revoked",
            SessionStatus::Expired | SessionStatus::Idle => "expired",
        };
        let session = &self.own.session;
        let revocation = session.revocation.as_ref();
        let body = WatchBody {
            session_id: session.id.0,
            status: status.as_str(),
            revoked_reason: revocation.and_then(|revocation| revocation.reason.as_deref()),
        };
        Event::default().event(name).json_data(&body).ok()
    }
}

/// Waits for the next change of a session of this user; for ever, if the watch has no feed.
async fn next_change(
    watches: &Watches,
    changes: Option<&mut broadcast::Receiver<Change>>,
    user_id: UserId,
) -> ChangeBody {
    let Some(changes) = changes else { return std::future::pending().await };
    let unnamed = ChangeBody { session_id: None, kind: None };
    loop {
        match changes.recv().await {
            Ok(change) if change.user_id == user_id => {
                let session_id = Some(change.session_id.0);
                return ChangeBody { session_id, kind: Some(change.kind.as_str()) };
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return unnamed,
            // The reader of the feed has ended, which it does without a receiver, or by a panic.
            Err(RecvError::Closed) => match watches.changes().await {
                Ok(receiver) => {
                    *changes = receiver;
                    return unnamed;
                }
                Err(_) => tokio::time::sleep(FEED_INTERVAL).await,
            },
        }
    }
}
