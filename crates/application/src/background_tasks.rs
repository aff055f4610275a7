//! The background work of a node: it polls the revocation log, monitors its peers,
//! writes activity, prunes the log, and cleans up. The binary and library users run the same.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use domain::coherence::{MonotonicInstant, Refusal};
use domain::ports::{MonotonicClock, PortError, RevocationFeed};
use fail::fail_point;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, Shared, join_all, select, select_all};
use thiserror::Error;

use crate::activity::ActivityWriter;
use crate::coherence::{MIN_PAUSE, PeerMonitor, Polled, RevocationFollower, RevocationState};
use crate::commands::CleanUp;
use crate::commands::handlers::{CleanUpHandler, CleanedUp};

/// How often activity is written, if any is due.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
/// How often the last activity is tried to be written before an orderly stop, and the pause
/// between.
const LAST_WRITES: u32 = 5;
const LAST_WRITE_PAUSE: Duration = Duration::from_millis(400);

/// Sessions that one step of cleaning up takes. Readers come first, so steps are short.
const CLEAN_UP_BATCH: u32 = 200;
/// How long cleanup pauses after a step, in multiples of what the step took.
const CLEAN_UP_REST: u32 = 3;
/// Entries of the revocation log that one statement prunes.
const PRUNE_LIMIT: u32 = 10_000;
/// How often the revocation log is pruned, and the pause between two statements.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
const PRUNE_PAUSE: Duration = Duration::from_millis(100);
/// How often the backlog is counted.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(60);

/// How often a node checks its peers.
const PEERS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the age of the last poll, and what was refused, are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Resolves when background work is to end.
pub type Shutdown = Shared<BoxFuture<'static, ()>>;

/// Returns a [`Shutdown`] that resolves when `future` does.
pub fn shutdown(future: impl Future<Output = ()> + Send + 'static) -> Shutdown {
    future.boxed().shared()
}

/// How often background work is done, where that is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intervals {
    /// `coherence.poll_ms`
    pub poll: Duration,
    /// `cleanup.interval`; `None`: other nodes clean up.
    pub cleanup: Option<Duration>,
}

/// A background task has stopped that should not. The node must stop: it may serve nothing from
/// caches, or lose activity.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the background task {task} ended: {reason}")]
pub struct TaskEnded {
    /// Which.
    pub task: &'static str,
    /// Why.
    pub reason: String,
}

/// The background work of one node. There is one for each [`Application`](crate::Application).
pub struct BackgroundTasks {
    pub(crate) follower: RevocationFollower,
    pub(crate) peer_monitor: PeerMonitor,
    pub(crate) activity_writer: Arc<ActivityWriter>,
    pub(crate) clean_up: CleanUpHandler,
    pub(crate) feed: Arc<dyn RevocationFeed>,
    pub(crate) state: Arc<RevocationState>,
    pub(crate) clock: Arc<dyn MonotonicClock>,
}

impl BackgroundTasks {
    /// Polls the revocation log until this node has read it once, so that caches are of use
    /// from the first request on.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond. The tasks go on polling.
    pub async fn poll(&mut self) -> Result<(), PortError> {
        while self.state.poll_age() >= self.state.max_staleness() {
            if !self.follower.poll().await?.again {
                break;
            }
        }
        // How long each peer serves what it has cached has to be known before the first revocation,
        // in case the store fails then.
        self.peer_monitor.remove_dead_peers().await.map(drop)
    }

    /// Runs until `shutdown` resolves. `spawn` starts a task on the caller's runtime: with tokio,
    /// `tokio::spawn`.
    ///
    /// # Errors
    /// [`TaskEnded`] as soon as a task has panicked or returned. The others go on until `shutdown`.
    pub async fn run<T, E>(
        self,
        intervals: Intervals,
        shutdown: Shutdown,
        spawn: impl Fn(BoxFuture<'static, ()>) -> T,
    ) -> Result<(), TaskEnded>
    where
        T: Future<Output = Result<(), E>> + Unpin,
        E: Display,
    {
        initialise_metrics();
        let Self { follower, peer_monitor, activity_writer, clean_up, feed, state, clock } = self;
        let pace = Pace { clock, shutdown: shutdown.clone() };
        let mut tasks = vec![
            (
                "follow_revocations",
                follow_revocations(follower, state, intervals.poll, pace.clone()).boxed(),
            ),
            ("monitor_peers", monitor_peers(peer_monitor, pace.clone()).boxed()),
            ("write_activity", write_activity(activity_writer, pace.clone()).boxed()),
            ("prune_revocation_log", prune_revocation_log(feed, pace.clone()).boxed()),
        ];
        if let Some(interval) = intervals.cleanup {
            tasks.push(("clean_up", clean_up_regularly(clean_up, interval, pace).boxed()));
        }
        let (names, mut running): (Vec<_>, Vec<_>) =
            tasks.into_iter().map(|(name, task)| (name, spawn(task))).unzip();
        let first = match select(select_all(running.iter_mut()), shutdown.clone()).await {
            Either::Left(((result, index, _), _)) => Some((result, names[index])),
            Either::Right(_) => None,
        };
        match first {
            Some((Err(error), task)) => Err(TaskEnded { task, reason: error.to_string() }),
            Some((Ok(()), task)) if shutdown.peek().is_none() => {
                Err(TaskEnded { task, reason: "it returned".to_owned() })
            }
            ended => {
                let ended = ended.map(|(_, task)| task);
                let others = names.iter().zip(running).filter(|(name, _)| Some(**name) != ended);
                join_all(others.map(|(_, task)| task)).await;
                Ok(())
            }
        }
    }
}

/// Makes counters appear before anything has happened: alerts on rates see nothing else.
fn initialise_metrics() {
    metrics::counter!("sessiond_revocation_resets_total").increment(0);
    metrics::counter!("sessiond_activity_write_errors_total").increment(0);
    for what in ["expired", "deleted", "events"] {
        metrics::counter!("sessiond_purged_total", "what" => what).increment(0);
    }
}

/// The clock that tasks pause by, and the signal that ends them.
#[derive(Clone)]
struct Pace {
    clock: Arc<dyn MonotonicClock>,
    shutdown: Shutdown,
}

impl Pace {
    /// Pauses. Returns whether to go on.
    async fn pause(&self, duration: Duration) -> bool {
        matches!(select(self.shutdown.clone(), self.clock.sleep(duration)).await, Either::Right(_))
    }

    fn is_shut_down(&self) -> bool {
        self.shutdown.peek().is_some()
    }

    fn now(&self) -> MonotonicInstant {
        self.clock.now()
    }
}

/// Polls the revocation log at every `interval`. After an error it goes on, and caches are not
/// used meanwhile.
async fn follow_revocations(
    mut follower: RevocationFollower,
    state: Arc<RevocationState>,
    interval: Duration,
    pace: Pace,
) {
    let mut is_failing = false;
    let mut reported = None::<MonotonicInstant>;
    let mut in_trouble = None::<Refusal>;
    loop {
        fail_point!("follower-panics");
        let again = match follower.poll().await {
            Ok(polled) => {
                if std::mem::replace(&mut is_failing, false) {
                    tracing::info!("the revocation log can be read again; caches are used again");
                }
                report_poll(polled);
                polled.again
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "cannot read the revocation log; caches are not \
                        used meanwhile");
                }
                false
            }
        };
        let now = pace.now();
        if reported.is_none_or(|reported| now >= reported.saturating_add(REPORT_INTERVAL)) {
            reported = Some(now);
            state.note_shares();
            report_state(&state);
            let trouble = state.trouble();
            if let Some(refusal) = trouble.filter(|_| trouble != in_trouble) {
                tracing::warn!(
                    reason = refusal.reason(),
                    "cached sessions are not served; reads ask the database"
                );
            }
            in_trouble = trouble;
        }
        if !pace.pause(if again { MIN_PAUSE.min(interval) } else { interval }).await {
            return;
        }
    }
}

fn report_poll(polled: Polled) {
    if polled.went_back {
        tracing::error!(
            "the database counts from lower numbers than before: were its files put back? nothing \
                cached is trusted"
        );
    } else if polled.is_reset {
        metrics::counter!("sessiond_revocation_resets_total").increment(1);
        tracing::info!(
            "reading the revocation log from its start; what was cached before may not be \
                trusted"
        );
    }
    if polled.has_overflowed {
        tracing::warn!(
            "more revocations than a node keeps; what was cached before them is not used"
        );
    }
}

fn report_state(state: &RevocationState) {
    metrics::gauge!("sessiond_poll_age_seconds").set(state.poll_age().as_secs_f64());
    metrics::gauge!("sessiond_revocation_entries").set(state.entry_count() as f64);
    for (refusal, count) in state.refused() {
        metrics::counter!("sessiond_cache_refused_total", "reason" => refusal.reason())
            .absolute(count);
    }
}

/// Removes dead peers, once a second.
async fn monitor_peers(mut monitor: PeerMonitor, pace: Pace) {
    while pace.pause(PEERS_INTERVAL).await {
        match monitor.remove_dead_peers().await {
            Ok(dead) => {
                for peer in dead {
                    tracing::warn!(node = %peer.node, "a peer has not reported for too long; \
                        revocations do not wait for it any more");
                }
            }
            Err(error) => tracing::debug!(%error, "cannot check the peers of this node"),
        }
    }
}

/// Prunes the revocation log, every minute and until nothing old is left. `cleanup.interval` does
/// not matter to it: the log is never much longer than an hour's revocations.
async fn prune_revocation_log(feed: Arc<dyn RevocationFeed>, pace: Pace) {
    while pace.pause(PRUNE_INTERVAL).await {
        loop {
            match feed.prune(PRUNE_LIMIT).await {
                Ok(pruned) if pruned >= u64::from(PRUNE_LIMIT) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "cannot prune the revocation log; trying again later");
                    break;
                }
            }
            if !pace.pause(PRUNE_PAUSE).await {
                return;
            }
        }
    }
}

/// Writes activity as it falls due.
async fn write_activity(writer: Arc<ActivityWriter>, pace: Pace) {
    let mut is_failing = false;
    while pace.pause(WRITE_INTERVAL).await {
        let result = writer.write_due().await;
        metrics::counter!("sessiond_activity_dropped_total").absolute(writer.dropped());
        match result {
            Ok(written) => {
                metrics::counter!("sessiond_activity_writes_total").increment(written as u64);
                // Where nothing was due, nothing shows that the database is well again.
                is_failing &= written == 0;
            }
            Err(error) => {
                metrics::counter!("sessiond_activity_write_errors_total").increment(1);
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "cannot write activity; it is kept, and tried again");
                }
            }
        }
    }
}

/// Writes what activity there is: an orderly stop loses none, unless the database is gone too.
pub(crate) async fn write_last_activity(writer: &ActivityWriter, clock: &dyn MonotonicClock) {
    for _ in 0..LAST_WRITES {
        match writer.write_all().await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "cannot write the last activity"),
        }
        clock.sleep(LAST_WRITE_PAUSE).await;
    }
    tracing::error!("the last activity of some sessions is lost: the database did not take it");
}

/// Purges what has expired at every `interval`, and counts what waits for it.
async fn clean_up_regularly(handler: CleanUpHandler, interval: Duration, pace: Pace) {
    // Nodes that were started together should not stay together, and a new one should not wait for
    // an hour.
    let mut next = pace.now().saturating_add(interval / 10);
    loop {
        let until_next = next.0.saturating_sub(pace.now().0);
        if !pace.pause(BACKLOG_INTERVAL.min(interval).min(until_next)).await {
            return;
        }
        count_backlog(&handler).await;
        if pace.now() < next {
            continue;
        }
        next = pace.now().saturating_add(interval);
        match clean_up_steps(&handler, |_| {}, &pace).await {
            Ok(CleanedUp { expired, deleted, events }) => {
                tracing::debug!(expired, deleted, events, "cleaned up")
            }
            Err(error) => tracing::warn!(%error, "cannot clean up; trying again later"),
        }
        count_backlog(&handler).await;
    }
}

/// Cleans up step by step until there is nothing to do. Calls `progress` with what is done so far.
///
/// # Errors
/// [`PortError`] if the store could not be read or written. What was done stays done.
pub async fn clean_up_until_done(
    handler: &CleanUpHandler,
    progress: impl Fn(&CleanedUp),
    clock: Arc<dyn MonotonicClock>,
) -> Result<CleanedUp, PortError> {
    clean_up_steps(handler, progress, &Pace { clock, shutdown: shutdown(std::future::pending()) })
        .await
}

async fn clean_up_steps(
    handler: &CleanUpHandler,
    progress: impl Fn(&CleanedUp),
    pace: &Pace,
) -> Result<CleanedUp, PortError> {
    let mut all = CleanedUp::default();
    loop {
        let began = pace.now();
        let step = handler.handle(CleanUp { limit: CLEAN_UP_BATCH }).await?;
        if step.is_nothing() {
            return Ok(all);
        }
        for (what, count) in
            [("expired", step.expired), ("deleted", step.deleted), ("events", step.events)]
        {
            metrics::counter!("sessiond_purged_total", "what" => what).increment(count);
        }
        all = all.and(step);
        progress(&all);
        let took = pace.now().0.saturating_sub(began.0);
        if pace.is_shut_down() || !pace.pause(took * CLEAN_UP_REST).await {
            return Ok(all);
        }
    }
}

async fn count_backlog(handler: &CleanUpHandler) {
    if let Ok(backlog) = handler.backlog().await {
        metrics::gauge!("sessiond_cleanup_backlog").set(backlog as f64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use async_trait::async_trait;
    use domain::coherence::Incarnation;
    use domain::ports::{LogPosition, Peer, Peers, Poll, SessionRepository};
    use testkit::fixtures;
    use testkit::memory::{
        MemoryDatabase, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository,
    };
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::*;
    use crate::application::{Application, Ports};
    use crate::commands::RecordActivity;
    use crate::test_support::{self, MAX_STALENESS};

    const INTERVALS: Intervals =
        Intervals { poll: Duration::from_millis(100), cleanup: Some(Duration::from_secs(3600)) };

    /// The paused time of the runtime.
    #[derive(Default)]
    struct RuntimeClock(OnceLock<Instant>);

    #[async_trait]
    impl MonotonicClock for RuntimeClock {
        fn now(&self) -> MonotonicInstant {
            MonotonicInstant(self.0.get_or_init(Instant::now).elapsed())
        }

        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }
    }

    /// Polls are served, until they panic. What needs the pool of connections is not; but pruning
    /// finds so many entries.
    struct PollsOnly {
        feed: MemoryRevocationFeed,
        old_entries: AtomicU64,
        panics: AtomicBool,
    }

    #[async_trait]
    impl RevocationFeed for PollsOnly {
        async fn register(&self, max_staleness: Duration) -> Result<(), PortError> {
            self.feed.register(max_staleness).await
        }

        async fn poll(
            &self,
            position: Option<&LogPosition>,
            is_heartbeat: bool,
        ) -> Result<Option<Poll>, PortError> {
            assert!(!self.panics.load(Ordering::SeqCst), "a bug");
            self.feed.poll(position, is_heartbeat).await
        }

        async fn peers(&self, _: Duration) -> Result<Peers, PortError> {
            std::future::pending().await
        }

        async fn remove_peer(&self, _: &Peer) -> Result<(), PortError> {
            std::future::pending().await
        }

        async fn leave(&self) -> Result<(), PortError> {
            self.feed.leave().await
        }

        async fn prune(&self, limit: u32) -> Result<u64, PortError> {
            let old = self.old_entries.load(Ordering::SeqCst);
            let pruned = old.min(limit.into());
            self.old_entries.store(old - pruned, Ordering::SeqCst);
            Ok(pruned)
        }

        async fn end_incarnation(&self, _: Incarnation) -> Result<(), PortError> {
            std::future::pending().await
        }
    }

    struct Fixture {
        application: Application,
        background: Option<BackgroundTasks>,
        feed: Arc<PollsOnly>,
        repo: Arc<MemorySessionRepository>,
        stop: Option<tokio::sync::oneshot::Sender<()>>,
    }

    impl Fixture {
        fn new(old_entries: u64) -> Self {
            let database = MemoryDatabase::default();
            let feed = Arc::new(PollsOnly {
                feed: MemoryRevocationFeed::new(
                    database.clone(),
                    MemoryNodes::default(),
                    Uuid::from_u128(1),
                ),
                old_entries: AtomicU64::new(old_entries),
                panics: AtomicBool::new(false),
            });
            let repo = Arc::new(MemorySessionRepository::new(database.clone()));
            let monotonic_clock = Arc::new(RuntimeClock::default());
            let ports = Ports { monotonic_clock, ..test_support::ports(&database, feed.clone()) };
            let (application, background) = Application::new(ports, test_support::policies());
            Self { application, background: Some(background), feed, repo, stop: None }
        }

        fn run(&mut self) -> tokio::task::JoinHandle<Result<(), TaskEnded>> {
            let (stop, stopped) = tokio::sync::oneshot::channel();
            self.stop = Some(stop);
            let shutdown = shutdown(async { drop(stopped.await) });
            tokio::spawn(self.background.take().unwrap().run(INTERVALS, shutdown, tokio::spawn))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn revocation_log_is_pruned_every_minute_until_nothing_old_is_left() {
        let mut f = Fixture::new(35_000);
        f.run();
        tokio::time::sleep(PRUNE_INTERVAL - Duration::from_secs(1)).await;
        assert_eq!(f.feed.old_entries.load(Ordering::SeqCst), 35_000);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(f.feed.old_entries.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn follower_polls_on_while_nothing_else_of_the_database_responds() {
        let mut f = Fixture::new(0);
        f.run();
        for second in 1..=10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(
                f.application.revocation_state.poll_age() < MAX_STALENESS,
                "caches are off after {second} s"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_panics_ends_background_work_with_its_name() {
        let mut f = Fixture::new(0);
        let running = f.run();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!running.is_finished());
        f.feed.panics.store(true, Ordering::SeqCst);
        let ended = running.await.unwrap().unwrap_err();
        assert_eq!(ended.task, "follow_revocations");
        assert!(ended.to_string().contains("panicked"), "{ended}");
    }

    #[tokio::test(start_paused = true)]
    async fn background_work_stops_on_shutdown_and_writes_the_last_activity() {
        let mut f = Fixture::new(0);
        let session = fixtures::session();
        f.repo.insert(&session, None).await.unwrap();
        let running = f.run();
        let record = async |address: &str| {
            let command =
                RecordActivity { session_id: session.id, ip_address: address.parse().ok() };
            f.application.record_activity.handle(command).await.unwrap();
        };
        let last_address =
            async || testkit::find_session(&*f.repo, session.id).await.unwrap().last_ip_address;
        record("192.0.2.1").await;
        tokio::time::sleep(WRITE_INTERVAL * 2).await;
        assert_eq!(last_address().await, "192.0.2.1".parse().ok());
        record("192.0.2.2").await;
        tokio::time::sleep(WRITE_INTERVAL * 2).await;
        assert_eq!(
            last_address().await,
            "192.0.2.1".parse().ok(),
            "not before the window has passed"
        );
        drop(f.stop.take());
        assert_eq!(running.await.unwrap(), Ok(()));
        f.application.leave().await;
        assert_eq!(last_address().await, "192.0.2.2".parse().ok());
        assert!(
            f.application.revocation_state.poll_age() >= MAX_STALENESS,
            "nothing is served from caches any more"
        );
    }
}
