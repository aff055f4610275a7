//! Real nodes, a real PostgreSQL, a real Redis with its replica, faults in all of them, and a
//! record of every request and response: no response may break a promise (`docs/coherence.md`).
//!
//! A run is made by its seed: which faults, where, for how long, in which order. How it meets the
//! requests is up to the machine.
//!
//! - `HISTORY_SECONDS`: how long a run is; 60, if not set.
//! - `HISTORY_SEED`: the seed; another one each time, if not set. It is printed.
//! - `HISTORY_FAULTS`: only these faults, comma separated.
//! - `HISTORY_BUGS`: the injected bugs that are hunted, comma separated, or `all`; the three
//!   quickest, if not set.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]
#![expect(clippy::disallowed_methods, reason = "the time of day is what sessions live by")]

mod clients;
mod cluster;
mod faults;
mod ledger;
mod run;

use std::time::Duration;

use faults::FaultKind::{self, *};
use run::{Plan, run};

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// How long an injected bug is hunted.
const LONG_ENOUGH: Duration = Duration::from_secs(900);

/// An injected bug, the promise that it breaks, and the faults under which it does.
type InjectedBug = (&'static str, &'static str, &'static [FaultKind]);

/// Injected bugs, each switched on by itself. The quickest to be found come first.
const INJECTED_BUGS: [InjectedBug; 10] = [
    ("bug-no-wait", "I1", &[PausedNode]),
    ("bug-cursor-after-the-last-entry", "I1", &[LongTransaction]),
    ("bug-no-check", "I1", &[PausedNode, DelayedDatabase]),
    ("bug-pruned-unnoticed", "I1", &[PrunedLog]),
    ("bug-copies-are-taken-for-the-original", "I1", &[ClonedDatabase]),
    ("bug-poll-counts-from-its-arrival", "I1", &[DelayedDatabase]),
    ("bug-second-revocation-at-once", "I1", &[DelayedDatabase, PausedNode]),
    ("bug-freshness-after-the-map", "I1", &[UnreachableDatabase]),
    ("bug-boundary-on-both-sides", "I1", &[UnreachableDatabase]),
    ("bug-rotation-does-not-wait", "I17", &[PausedNode]),
];
/// As many of them are hunted by an ordinary run of the tests.
const QUICKEST: usize = 3;

/// One run at a time: they measure.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The names of a comma-separated list, if it is set.
fn list(name: &str) -> Option<Vec<String>> {
    Some(std::env::var(name).ok()?.split(',').map(str::to_owned).collect())
}

fn seed() -> u64 {
    variable("HISTORY_SEED").unwrap_or_else(|| fastrand::u64(1..1_000_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn no_response_breaks_a_promise() {
    let _alone = ALONE.lock().await;
    let length = Duration::from_secs(variable("HISTORY_SECONDS").unwrap_or(60));
    let mut faults = FaultKind::ALL.to_vec();
    if let Some(wanted) = list("HISTORY_FAULTS") {
        faults.retain(|kind| wanted.contains(&format!("{kind:?}")));
    }
    let report = run(Plan { seed: seed(), length, faults, bug: None }).await;
    println!("{report}");
    assert!(report.violations.is_empty(), "see above; seed {}", report.seed);
    assert_eq!(report.void(), None, "this run shows nothing; seed {}", report.seed);
}

/// The injected bugs that this run is to hunt.
///
/// # Panics
/// If `HISTORY_BUGS` names one that there is not.
fn wanted_bugs() -> Vec<InjectedBug> {
    match list("HISTORY_BUGS") {
        None => INJECTED_BUGS[..QUICKEST].to_vec(),
        Some(names) if names == ["all"] => INJECTED_BUGS.to_vec(),
        Some(names) => {
            let bug = |name: &String| INJECTED_BUGS.into_iter().find(|(bug, ..)| bug == name);
            names
                .iter()
                .map(|name| bug(name).unwrap_or_else(|| panic!("there is no injected bug {name}")))
                .collect()
        }
    }
}

/// A checker that does not find the bugs that are injected would show nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn injected_bugs_are_found() {
    let _alone = ALONE.lock().await;
    let mut table = String::new();
    let mut missed = Vec::new();
    for (bug, promise, faults) in wanted_bugs() {
        let plan = Plan {
            seed: seed(),
            length: LONG_ENOUGH,
            faults: faults.to_vec(),
            bug: Some((bug, promise)),
        };
        let report = run(plan).await;
        let promise = format!("{promise} ");
        let found = report.violations.iter().any(|violation| violation.starts_with(&promise));
        let outcome = if found { "found" } else { "MISSED" };
        table.push_str(&format!("{bug}: {outcome} after {:.1} s\n", report.took.as_secs_f64()));
        if !found {
            missed.push(bug);
            println!("{report}");
        }
    }
    println!("{table}");
    assert!(missed.is_empty(), "{missed:?}");
}
