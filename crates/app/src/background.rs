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
/// Entries of the revocation log that are looked at in one go.
const PRUNE_LIMIT: u32 = 10_000;
/// How often the backlog is counted.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(60);

/// How often a node looks after the other ones.
const OTHERS_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the changes that end sessions, at every `poll`, for ever. Whatever goes wrong, it goes on: what is remembered is not
/// answered meanwhile.
pub(crate) async fn follow_revocations(application: Arc<Application>, poll: Duration) {
    let guard = &application.guard;
    let mut failing = false;
    let mut looked_after_others = tokio::time::Instant::now();
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
        if looked_after_others.elapsed() >= OTHERS_INTERVAL {
            looked_after_others = tokio::time::Instant::now();
            if let Err(error) = guard.look_after_others().await {
                tracing::debug!(%error, "cannot look after other nodes");
            }
            metrics::gauge!("sessiond_feed_age_seconds").set(guard.feed_age().as_secs_f64());
            for (reason, count) in guard.refused() {
                metrics::counter!("sessiond_cache_refused_total", "reason" => reason).absolute(count);
            }
        }
        if !again {
            tokio::time::sleep(poll).await;
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
        if let Err(error) = application.guard.prune(PRUNE_LIMIT).await {
            tracing::debug!(%error, "cannot clear away old entries of the revocation log");
        }
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
