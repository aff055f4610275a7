//! What a node does beside answering: it writes the use of sessions, and clears away what is over.

use std::sync::Arc;
use std::time::Duration;

use application::Application;
use application::commands::CleanUp;
use application::commands::handlers::{CleanUpHandler, CleanedUp};
use tokio_util::sync::CancellationToken;

/// How often the use of sessions is written, if any is due.
const FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// How often the last use is tried to be written before an orderly end, and the pause between.
const LAST_FLUSHES: u32 = 5;
const LAST_FLUSH_PAUSE: Duration = Duration::from_millis(400);

/// Sessions that one step of cleaning up takes. Readers come first, so steps are short.
pub(crate) const CLEAN_UP_BATCH: u32 = 200;
/// How many times as long as a step took the database rests after it.
const CLEAN_UP_REST: u32 = 3;
/// Entries of the revocation log that one statement prunes.
const PRUNE_LIMIT: u32 = 10_000;
/// How often the revocation log is pruned, and the pause between two statements.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
const PRUNE_PAUSE: Duration = Duration::from_millis(100);
/// How often the backlog is counted.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(60);

/// How often a node looks at its peers.
const PEERS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the age of the last poll, and what was refused, are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two polls, however much there is to learn.
const MIN_PAUSE: Duration = Duration::from_millis(5);

/// Polls the revocation log, at every `poll`, for ever. After an error it goes on, and caches are not used meanwhile.
///
/// It awaits nothing but its own polls: if it waited for anything else, such as a place in the pool of connections, a busy
/// database would turn the caches off, and be busier still.
pub(crate) async fn follow_revocations(application: Arc<Application>, poll: Duration) {
    let guard = &application.guard;
    let mut failing = false;
    let mut reported = tokio::time::Instant::now();
    loop {
        let again = match guard.follow().await {
            Ok(again) => {
                if std::mem::replace(&mut failing, false) {
                    tracing::info!("the database says again which sessions were ended; caches are used again");
                }
                again
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot learn which sessions were ended; caches are not used meanwhile");
                }
                false
            }
        };
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = tokio::time::Instant::now();
            metrics::gauge!("sessiond_feed_age_seconds").set(guard.feed_age().as_secs_f64());
            for (reason, count) in guard.refused() {
                metrics::counter!("sessiond_cache_refused_total", "reason" => reason).absolute(count);
            }
        }
        tokio::time::sleep(if again { MIN_PAUSE.min(poll) } else { poll }).await;
    }
}

/// Looks at the peers of this node, for ever: how long each may serve what it has cached, and whether one is dead.
pub(crate) async fn monitor_peers(application: Arc<Application>) {
    loop {
        tokio::time::sleep(PEERS_INTERVAL).await;
        if let Err(error) = application.guard.look_after_others().await {
            tracing::debug!(%error, "cannot look at the peers of this node");
        }
    }
}

/// Prunes the revocation log, every minute and until nothing old is left, until `shutdown`. `cleanup.interval` does not matter
/// to it: the log is never much longer than an hour's revocations.
pub(crate) async fn prune_revocation_log(application: Arc<Application>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PRUNE_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        loop {
            match application.guard.prune(PRUNE_LIMIT).await {
                Ok(pruned) if pruned >= u64::from(PRUNE_LIMIT) && !shutdown.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::debug!(%error, "cannot prune the revocation log; trying again later");
                    break;
                }
            }
            tokio::time::sleep(PRUNE_PAUSE).await;
        }
    }
}

/// Writes the use of sessions as it falls due, until `shutdown`; then all of it.
pub(crate) async fn write_activity(application: Arc<Application>, shutdown: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(FLUSH_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        let flushed = application.record_activity.flush_due().await;
        metrics::counter!("sessiond_activity_dropped_total").absolute(application.record_activity.dropped());
        match flushed {
            Ok(written) => {
                metrics::counter!("sessiond_activity_writes_total").increment(written as u64);
                // Where nothing was due, nothing shows that the database is well again.
                failing &= written == 0;
            }
            Err(error) => {
                metrics::counter!("sessiond_activity_write_errors_total").increment(1);
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot write the use of sessions; it is kept, and tried again");
                }
            }
        }
    }
}

/// Writes what use of sessions there is: nothing is lost by an orderly end, unless the database is gone too.
pub(crate) async fn write_last_activity(application: &Application) {
    for _ in 0..LAST_FLUSHES {
        match application.record_activity.flush_all().await {
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "cannot write the last use of sessions"),
        }
        tokio::time::sleep(LAST_FLUSH_PAUSE).await;
    }
    tracing::error!("the last use of some sessions is lost: the database did not take it");
}

/// Clears away what is over at every `interval`, and counts what waits for it, until `shutdown`.
pub(crate) async fn clean_up(application: Arc<Application>, interval: Duration, shutdown: CancellationToken) {
    // Nodes that were started together should not stay together, and a new one should not wait for an hour.
    let mut next = tokio::time::Instant::now() + interval / 10;
    loop {
        tokio::select! {
            () = tokio::time::sleep(BACKLOG_INTERVAL.min(interval)) => {}
            () = tokio::time::sleep_until(next) => {}
            () = shutdown.cancelled() => return,
        }
        count_backlog(&application.clean_up).await;
        if tokio::time::Instant::now() < next {
            continue;
        }
        next = tokio::time::Instant::now() + interval;
        let cleaned = tokio::select! {
            cleaned = clean_up_once(&application.clean_up, |_| {}) => cleaned,
            () = shutdown.cancelled() => return,
        };
        match cleaned {
            Ok(CleanedUp { expired, deleted, events }) => {
                tracing::debug!(expired, deleted, events, "cleaned up");
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot clean up; trying again later"),
        }
        count_backlog(&application.clean_up).await;
    }
}

/// Cleans up step by step until there is nothing to do; `progress` is told what is done so far.
pub(crate) async fn clean_up_once(
    handler: &CleanUpHandler,
    progress: impl Fn(&CleanedUp),
) -> anyhow::Result<CleanedUp> {
    let mut all = CleanedUp::default();
    loop {
        let began = tokio::time::Instant::now();
        let step = handler.handle(CleanUp { limit: CLEAN_UP_BATCH }).await?;
        if step.is_nothing() {
            return Ok(all);
        }
        for (what, count) in [("expired", step.expired), ("deleted", step.deleted), ("events", step.events)] {
            metrics::counter!("sessiond_cleaned_total", "what" => what).increment(count);
        }
        all = all.and(step);
        progress(&all);
        tokio::time::sleep(began.elapsed() * CLEAN_UP_REST).await;
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use adapters_memory::{
        MemoryDatabase, MemoryEventOutbox, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository,
        MemorySessionRetention,
    };
    use application::commands::handlers::Enrichers;
    use application::{Policies, Ports};
    use async_trait::async_trait;
    use chrono::TimeDelta;
    use domain::coherence::Monotonic;
    use domain::ports::{DeviceEnricher, Look, Mark, MonotonicClock, OtherNode, PortError, RevocationFeed};
    use domain::{Device, OnLimit, SessionPolicy};
    use testkit::{SequentialIds, fixtures};
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::*;

    const DELTA: Duration = Duration::from_millis(500);

    struct NoDevices;

    impl DeviceEnricher for NoDevices {
        fn device(&self, _: &str) -> Option<Device> {
            None
        }
    }

    /// The paused time of the runtime.
    #[derive(Default)]
    struct RuntimeClock(OnceLock<Instant>);

    #[async_trait]
    impl MonotonicClock for RuntimeClock {
        fn now(&self) -> Monotonic {
            Monotonic(self.0.get_or_init(Instant::now).elapsed())
        }

        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }
    }

    /// Polls are answered. What needs the pool of connections is not; but pruning finds this many entries.
    struct PollsOnly(MemoryRevocationFeed, AtomicU64);

    #[async_trait]
    impl RevocationFeed for PollsOnly {
        async fn register(&self, delta: Duration) -> Result<(), PortError> {
            self.0.register(delta).await
        }

        async fn look(&self, from: Option<u64>, applied: Option<&str>) -> Result<Option<Look>, PortError> {
            self.0.look(from, applied).await
        }

        async fn mark(&self) -> Result<Mark, PortError> {
            std::future::pending().await
        }

        async fn behind(&self, _: u64) -> Result<Vec<OtherNode>, PortError> {
            std::future::pending().await
        }

        async fn remove(&self, _: &OtherNode) -> Result<(), PortError> {
            std::future::pending().await
        }

        async fn leave(&self) -> Result<(), PortError> {
            self.0.leave().await
        }

        async fn prune(&self, limit: u32) -> Result<u64, PortError> {
            let old = self.1.load(Ordering::SeqCst);
            let pruned = old.min(limit.into());
            self.1.store(old - pruned, Ordering::SeqCst);
            Ok(pruned)
        }
    }

    fn application(old_entries: u64) -> (Arc<Application>, Arc<PollsOnly>) {
        let database = MemoryDatabase::default();
        let feed = MemoryRevocationFeed::new(database.clone(), MemoryNodes::default(), Uuid::from_u128(1));
        let feed = Arc::new(PollsOnly(feed, AtomicU64::new(old_entries)));
        let sessions = SessionPolicy {
            lifetime: TimeDelta::days(30),
            idle_timeout: None,
            sliding: false,
            max_per_user: None,
            on_limit: OnLimit::EvictOldest,
        };
        let ports = Ports {
            session_repo: Arc::new(MemorySessionRepository::new(database.clone())),
            near_cache: None,
            shared_cache: None,
            revocation_feed: feed.clone(),
            event_outbox: Arc::new(MemoryEventOutbox::new(database.clone())),
            session_retention: Arc::new(MemorySessionRetention::new(database)),
            enrichers: Enrichers { device: Arc::new(NoDevices), location: None },
            clock: fixtures::clock(),
            monotonic_clock: Arc::new(RuntimeClock::default()),
            ids: Arc::new(SequentialIds::default()),
        };
        let (activity_window, retention) = (TimeDelta::seconds(60), TimeDelta::days(30));
        let policies = Policies { sessions, activity_window, retention, delta: DELTA };
        (Arc::new(Application::new(ports, policies)), feed)
    }

    #[tokio::test(start_paused = true)]
    async fn revocation_log_is_pruned_every_minute_until_nothing_old_is_left() {
        let (application, feed) = application(35_000);
        tokio::spawn(prune_revocation_log(application, CancellationToken::new()));
        tokio::time::sleep(PRUNE_INTERVAL - Duration::from_secs(1)).await;
        assert_eq!(feed.1.load(Ordering::SeqCst), 35_000);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(feed.1.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn follower_polls_on_while_nothing_else_of_the_database_answers() {
        let (application, _) = application(0);
        tokio::spawn(follow_revocations(application.clone(), Duration::from_millis(100)));
        tokio::spawn(monitor_peers(application.clone()));
        for second in 1..=10 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(application.guard.feed_age() < DELTA, "caches are off after {second} s");
        }
    }
}
