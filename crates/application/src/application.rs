//! What the application needs and what it offers.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::ports::{
    Clock, EventOutbox, IdGenerator, MonotonicClock, RevocationFeed, SessionCache,
    SessionRepository, SessionRetention, TokenGenerator,
};
use domain::{SessionPolicy, TokenPolicy};

use crate::activity::{ActivityBuffer, ActivityWriter};
use crate::background_tasks::BackgroundTasks;
use crate::coherence::{
    CoherentSessionCache, CommitWait, PeerMonitor, RevocationFollower, RevocationState,
    SessionRevoker,
};
use crate::commands::handlers::{
    CleanUpHandler, CreateSessionHandler, EditSessionHandler, Enrichers, RecordActivityHandler,
    RevokeAllSessionsHandler, RevokeAllUserSessionsHandler, RevokeMatchingSessionsHandler,
    RevokeSessionHandler, RevokeSessionsHandler, RotateTokenHandler,
};
use crate::queries::handlers::{
    GetSessionHandler, InspectSessionHandler, ListEventsHandler, ListUserSessionsHandler,
    SearchSessionsHandler, VerifyTokenHandler,
};

/// What the application needs from outside. `sessiond::composition` chooses the adapters.
#[derive(Clone)]
pub struct Ports {
    /// The system of record.
    pub session_repo: Arc<dyn SessionRepository>,
    /// Caches sessions in this process.
    pub near_cache: Option<Arc<dyn SessionCache>>,
    /// Caches sessions for several processes.
    pub shared_cache: Option<Arc<dyn SessionCache>>,
    /// The revocation log.
    pub revocation_feed: Arc<dyn RevocationFeed>,
    /// The events of sessions.
    pub event_outbox: Arc<dyn EventOutbox>,
    /// Purges what has expired.
    pub session_retention: Arc<dyn SessionRetention>,
    /// Fills in what the backend does not say of a sign-in.
    pub enrichers: Enrichers,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The monotonic clock.
    pub monotonic_clock: Arc<dyn MonotonicClock>,
    /// New identifiers.
    pub ids: Arc<dyn IdGenerator>,
    /// New session tokens.
    pub tokens: Arc<dyn TokenGenerator>,
}

/// The rules that the application goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policies {
    /// Those that a new session is created under.
    pub sessions: SessionPolicy,
    /// Those of session tokens.
    pub tokens: TokenPolicy,
    /// How long activity of a session is kept before it is written, at most.
    pub activity_window: TimeDelta,
    /// How long terminated sessions, and events, are kept.
    pub retention: TimeDelta,
    /// How long after a poll of the revocation log this node serves what it has cached.
    pub max_staleness: Duration,
}

/// Every use case, ready to be called by any interface: HTTP, a command line, a library user.
pub struct Application {
    /// Gets one session for its owner: cache, then database, then populate.
    pub get_session: GetSessionHandler,
    /// Gets the session of a session token.
    pub verify_token: VerifyTokenHandler,
    /// Gets one session for an operator.
    pub inspect_session: InspectSessionHandler,
    /// Lists a user's sessions, newest first.
    pub list_user_sessions: ListUserSessionsHandler,
    /// Searches the sessions of all users, for an operator.
    pub search_sessions: SearchSessionsHandler,
    /// Lists events.
    pub list_events: ListEventsHandler,
    /// Signs in.
    pub create_session: CreateSessionHandler,
    /// Replaces the token of a session.
    pub rotate_token: RotateTokenHandler,
    /// Changes a name or metadata.
    pub edit_session: EditSessionHandler,
    /// Records activity.
    pub record_activity: RecordActivityHandler,
    /// Revokes one session.
    pub revoke_session: RevokeSessionHandler,
    /// Revokes several.
    pub revoke_sessions: RevokeSessionsHandler,
    /// Revokes those that a search finds, or counts them.
    pub revoke_matching_sessions: RevokeMatchingSessionsHandler,
    /// Revokes all of a user's.
    pub revoke_all_user_sessions: RevokeAllUserSessionsHandler,
    /// Revokes all users'.
    pub revoke_all_sessions: RevokeAllSessionsHandler,
    /// Purges what has expired.
    pub clean_up: CleanUpHandler,
    /// What this node knows of revocations. Without [background work](BackgroundTasks) it is never
    /// recent enough to serve from caches.
    pub revocation_state: Arc<RevocationState>,
    /// Writes recorded activity. A background task does so whenever some is due.
    pub activity_writer: Arc<ActivityWriter>,
    commit_wait: Arc<CommitWait>,
    revocation_feed: Arc<dyn RevocationFeed>,
    monotonic_clock: Arc<dyn MonotonicClock>,
}

impl Application {
    /// Puts the handlers together, and the work that goes on beside them.
    pub fn new(ports: Ports, policies: Policies) -> (Self, BackgroundTasks) {
        let Ports { session_repo: repo, revocation_feed: feed, clock, monotonic_clock, .. } = ports;
        let state = Arc::new(RevocationState::new(monotonic_clock.clone(), policies.max_staleness));
        let commit_wait =
            Arc::new(CommitWait::new(feed.clone(), monotonic_clock.clone(), state.clone()));
        let cache: Arc<dyn SessionCache> = Arc::new(CoherentSessionCache::new(
            ports.near_cache,
            ports.shared_cache,
            state.clone(),
        ));
        let activity =
            Arc::new(ActivityBuffer::new(policies.activity_window, monotonic_clock.clone()));
        let activity_writer = Arc::new(ActivityWriter::new(repo.clone(), activity.clone()));
        let revoker = Arc::new(SessionRevoker::new(
            cache.clone(),
            activity.clone(),
            state.clone(),
            commit_wait.clone(),
            clock.clone(),
        ));
        let clean_up = || {
            CleanUpHandler::new(ports.session_retention.clone(), clock.clone(), policies.retention)
        };
        let background = BackgroundTasks {
            follower: RevocationFollower::new(feed.clone(), state.clone()),
            peer_monitor: PeerMonitor::new(
                feed.clone(),
                monotonic_clock.clone(),
                commit_wait.clone(),
            ),
            activity_writer: activity_writer.clone(),
            clean_up: clean_up(),
            feed: feed.clone(),
            state: state.clone(),
            clock: monotonic_clock.clone(),
        };
        let get_session = || {
            GetSessionHandler::new(repo.clone(), cache.clone())
                .with_pending_activity(activity.clone())
        };
        let revoke_sessions =
            || RevokeSessionsHandler::new(repo.clone(), revoker.clone(), clock.clone());
        let application = Self {
            get_session: get_session(),
            verify_token: VerifyTokenHandler::new(
                get_session(),
                repo.clone(),
                revoker.clone(),
                clock.clone(),
                policies.tokens,
            ),
            inspect_session: InspectSessionHandler::new(repo.clone(), activity.clone()),
            list_user_sessions: ListUserSessionsHandler::new(
                repo.clone(),
                clock.clone(),
                activity.clone(),
            ),
            search_sessions: SearchSessionsHandler::new(
                repo.clone(),
                clock.clone(),
                activity.clone(),
            ),
            list_events: ListEventsHandler::new(ports.event_outbox),
            create_session: CreateSessionHandler::new(
                repo.clone(),
                revoker.clone(),
                ports.enrichers,
                clock.clone(),
                ports.ids,
                ports.tokens.clone(),
                policies.sessions,
            ),
            rotate_token: RotateTokenHandler::new(
                repo.clone(),
                revoker.clone(),
                clock.clone(),
                ports.tokens,
                policies.tokens,
            ),
            edit_session: EditSessionHandler::new(repo.clone(), cache),
            record_activity: RecordActivityHandler::new(
                repo.clone(),
                clock.clone(),
                activity,
                state.clone(),
            ),
            revoke_session: RevokeSessionHandler::new(repo.clone(), revoker.clone(), clock.clone()),
            revoke_sessions: revoke_sessions(),
            revoke_matching_sessions: RevokeMatchingSessionsHandler::new(
                repo.clone(),
                revoke_sessions(),
                clock.clone(),
            ),
            revoke_all_user_sessions: RevokeAllUserSessionsHandler::new(
                repo.clone(),
                revoker.clone(),
                clock.clone(),
            ),
            revoke_all_sessions: RevokeAllSessionsHandler::new(
                repo.clone(),
                revoker.clone(),
                clock.clone(),
            ),
            clean_up: clean_up(),
            revocation_state: state,
            activity_writer,
            commit_wait,
            revocation_feed: feed,
            monotonic_clock,
        };
        (application, background)
    }

    /// Returns how long a revocation may have to wait until it is effective on every node.
    pub fn longest_commit_wait(&self) -> Duration {
        self.commit_wait.longest()
    }

    /// Ends the part of this node: serves nothing from caches any more, lets no peer wait for it,
    /// and writes what activity there is. To be called once no request is being handled, and
    /// background work has stopped.
    pub async fn leave(&self) {
        self.revocation_state.reset();
        if let Err(error) = self.revocation_feed.leave().await {
            tracing::debug!(%error, "peers will wait for this node for a while");
        }
        crate::background_tasks::write_last_activity(&self.activity_writer, &*self.monotonic_clock)
            .await;
    }
}
