//! Real nodes, a real PostgreSQL, a real Redis with its replica, faults in all of them, and a record of every question and answer:
//! no answer may break a promise (`docs/coherence.md`).
//!
//! A run is made by its seed: which faults, where, for how long, in which order. How it meets the requests is up to the machine.
//!
//! - `HISTORY_SECONDS`: how long a run is; 60, if not set.
//! - `HISTORY_SEED`: the seed; another one each time, if not set. It is printed.
//! - `HISTORY_FAULTS`: only these faults, comma separated.
//! - `HISTORY_MISTAKES`: only these mistakes, comma separated.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::disallowed_methods, reason = "the time of day is what sessions live by")]

mod clients;
mod cluster;
mod faults;
mod ledger;
mod run;

use std::time::Duration;

use faults::FaultKind;
use run::{Plan, run};

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// How long a mistake is looked for.
const LONG_ENOUGH: Duration = Duration::from_secs(900);

/// One run at a time: they measure.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Whether a list that is set has this name; where none is set, every name is wanted.
fn is_wanted(list: &str, name: &str) -> bool {
    std::env::var(list).map_or(true, |names| names.split(',').any(|wanted| wanted == name))
}

fn seed() -> u64 {
    setting("HISTORY_SEED").unwrap_or_else(|| fastrand::u64(1..1_000_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn no_answer_breaks_a_promise_whatever_fails() {
    let _alone = ALONE.lock().await;
    let length = Duration::from_secs(setting("HISTORY_SECONDS").unwrap_or(60));
    let mut faults = FaultKind::ALL.to_vec();
    faults.retain(|kind| is_wanted("HISTORY_FAULTS", &format!("{kind:?}")));
    let report = run(Plan { seed: seed(), length, faults, mistake: None }).await;
    println!("{report}");
    assert!(report.violations.is_empty(), "see above; seed {}", report.seed);
    assert_eq!(report.void(), None, "this run shows nothing; seed {}", report.seed);
}

/// Mistakes that bring the bug back, each switched on by itself, with faults that it does not survive. A checker that finds none of
/// them would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn every_mistake_is_found() {
    use FaultKind::*;
    let _alone = ALONE.lock().await;
    let mut table = String::new();
    let mut missed = Vec::new();
    for (mistake, faults) in [
        ("mistake-no-check", vec![PausedNode, DelayedDatabase]),
        ("mistake-no-wait", vec![PausedNode]),
        ("mistake-look-counts-from-its-arrival", vec![DelayedDatabase]),
        ("mistake-second-end-at-once", vec![DelayedDatabase, PausedNode]),
        ("mistake-joins-unchecked", vec![DelayedAnswers]),
        ("mistake-cursor-after-the-last-entry", vec![LongTransaction]),
        ("mistake-cursor-used-on-across-a-failover", vec![PromotedStandby]),
        ("mistake-freshness-after-the-map", vec![UnreachableDatabase]),
        ("mistake-boundary-on-both-sides", vec![UnreachableDatabase]),
        ("log-cleared-away-unnoticed", vec![ClearedLog]),
    ] {
        if !is_wanted("HISTORY_MISTAKES", mistake) {
            continue;
        }
        let plan = Plan { seed: seed(), length: LONG_ENOUGH, faults, mistake: Some(mistake) };
        let report = run(plan).await;
        let found = report.violations.iter().find(|violation| violation.starts_with("I1 "));
        table.push_str(&format!(
            "{mistake}: {} after {:.1} s\n",
            if found.is_some() { "found" } else { "MISSED" },
            report.took.as_secs_f64()
        ));
        if found.is_none() {
            missed.push(mistake);
            println!("{report}");
        }
    }
    println!("{table}");
    assert!(missed.is_empty(), "{missed:?}");
}
