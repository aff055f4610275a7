//! One suite per port: each function is one MUST clause of the port's documentation, over
//! `&dyn Port`.
//!
//! An adapter's `tests/contract.rs` runs a suite in one line, giving an async expression that
//! returns a guard, which is held while the test runs, and a fresh, empty adapter:
//!
//! ```text
//! testkit::session_repository_contract!(async { ((), Arc::new(MySessionRepository::default())) });
//! ```
//!
//! Every test ends within [`TIME_LIMIT`], however broken the adapter is, and every loop in a suite
//! has an end too.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use domain::ports::{EventOutbox, RevocationFeed, SessionRepository, SessionRetention};

pub mod event_outbox;
mod model;
pub mod node_directory;
pub mod revocation_feed;
pub mod revocation_feed_of_two_nodes;
pub mod session_cache;
pub mod session_repository;
pub mod session_retention;

/// The ports of one store, for suites whose subject shows only beside the sessions.
pub struct Stores {
    /// The sessions.
    pub sessions: Arc<dyn SessionRepository>,
    /// What happened to them.
    pub events: Arc<dyn EventOutbox>,
    /// What clears them away.
    pub retention: Arc<dyn SessionRetention>,
    /// Their revocations, as this node polls them.
    pub feed: Arc<dyn RevocationFeed>,
}

/// The ports of one store that two nodes share.
pub struct TwoNodes {
    /// The store, with the feed of the first node.
    pub stores: Stores,
    /// The feed of the second node.
    pub other_feed: Arc<dyn RevocationFeed>,
}

/// How long a behaviour may take to show, on a busy machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How long a loop in a suite may go on without coming nearer to its end.
const LOOP_LIMIT: Duration = Duration::from_secs(4);

/// Runs one function of a suite to its end, on a runtime of its own.
///
/// # Panics
/// As the function does, or if it is not done within [`TIME_LIMIT`]. The function runs on a thread
/// that is left behind then, so that an adapter that blocks, or never yields, does not hide the
/// other results.
pub fn run<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    run_within(TIME_LIMIT, name, test);
}

fn run_within<F: Future<Output = ()>>(
    limit: Duration,
    name: &str,
    test: impl FnOnce() -> F + Send + 'static,
) {
    let (running, done) = channel::<()>();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Dropped when the test has ended, by a panic too.
        let _running = running;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(test());
    });
    let thread = thread.expect("a thread");
    if done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!("{name} is not done after {limit:?}: a call to the adapter does not return");
    }
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

/// Runs one function of a suite against an adapter that is known to be broken, and requires that
/// the function says so soon.
///
/// # Panics
/// If the function passes, or does not fail well before [`TIME_LIMIT`].
pub fn assert_fails<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    let started = Instant::now();
    let failure = catch_unwind(AssertUnwindSafe(|| run(name, test)));
    let sentence = message(&*failure.expect_err("a broken adapter passes"));
    assert!(
        started.elapsed() < TIME_LIMIT * 2 / 3,
        "took {:?} to say: {sentence}",
        started.elapsed()
    );
    assert!(sentence.len() > 20, "does not explain itself: {sentence}");
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Limits a loop that a working adapter leaves soon, and a broken one never.
pub(crate) struct Turns {
    what: &'static str,
    left: Cell<usize>,
    until: Instant,
}

impl Turns {
    /// A loop that does this until it succeeds, for some seconds.
    pub(crate) fn until_done(what: &'static str) -> Self {
        Self::at_most(usize::MAX, what)
    }

    /// A loop that does this, with so many turns.
    pub(crate) fn at_most(turns: usize, what: &'static str) -> Self {
        Self { what, left: Cell::new(turns), until: Instant::now() + LOOP_LIMIT }
    }

    /// Lets other tasks run before the next turn; `seen` is why there has to be one.
    ///
    /// # Panics
    /// If the loop has gone on for too long.
    pub(crate) async fn next(&self, seen: &(impl Debug + ?Sized)) {
        let may_go_on = self.left.get() > 0 && Instant::now() < self.until;
        assert!(
            may_go_on,
            "{}: it does not come to its end; the last result was {seen:?}",
            self.what
        );
        self.left.set(self.left.get() - 1);
        tokio::task::yield_now().await;
    }
}

/// One named test per behaviour. With `must_fail`, the adapter is known to be broken, and each test
/// requires that its behaviour is reported as missing.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($suite:ident, $fixture:expr, [$($name:ident),* $(,)?]) => {
        $crate::contract_tests!($suite, $fixture, run, [$($name),*]);
    };
    ($suite:ident, $fixture:expr, must_fail, [$($name:ident),* $(,)?]) => {
        $crate::contract_tests!($suite, $fixture, assert_fails, [$($name),*]);
    };
    ($suite:ident, $fixture:expr, $run:ident, [$($name:ident),* $(,)?]) => {
        mod $suite {
            #[expect(clippy::allow_attributes, reason = "not every fixture needs what the file \
                imports")]
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $name() {
                    $crate::conformance::$run(stringify!($name), || async {
                        let (_guard, subject) = $fixture.await;
                        $crate::conformance::$suite::$name(&*subject).await;
                    });
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A function that is in no list is a behaviour that no adapter is asked for, and one that no
    /// port names is a behaviour that the author of an adapter does not learn of.
    #[test]
    fn every_function_of_a_suite_is_listed_and_named_by_its_port() {
        let ports =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../domain/src/ports")).unwrap();
        let ports: String =
            ports.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        for (suite, source) in [
            ("event_outbox", include_str!("event_outbox.rs")),
            ("node_directory", include_str!("node_directory.rs")),
            ("revocation_feed", include_str!("revocation_feed.rs")),
            ("revocation_feed_of_two_nodes", include_str!("revocation_feed_of_two_nodes.rs")),
            ("session_cache", include_str!("session_cache.rs")),
            (
                "session_repository",
                concat!(
                    include_str!("session_repository/mod.rs"),
                    include_str!("session_repository/edit.rs"),
                    include_str!("session_repository/import.rs"),
                    include_str!("session_repository/insert.rs"),
                    include_str!("session_repository/limits.rs"),
                    include_str!("session_repository/list.rs"),
                    include_str!("session_repository/model_test.rs"),
                    include_str!("session_repository/revoke.rs"),
                    include_str!("session_repository/search.rs"),
                    include_str!("session_repository/tokens.rs"),
                    include_str!("session_repository/touch.rs"),
                ),
            ),
            ("session_retention", include_str!("session_retention.rs")),
        ] {
            let list = source.split("[\n").nth(1).unwrap().split(']').next().unwrap();
            let listed: BTreeSet<_> =
                list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
            let functions = source.split("\npub async fn ").skip(1);
            let functions: BTreeSet<_> =
                functions.map(|rest| rest.split('(').next().unwrap()).collect();
            assert_eq!(listed, functions, "the list of {suite} and its functions");
            for function in functions {
                assert!(
                    ports.contains(&format!("`{function}`")),
                    "no port names {function} of {suite}"
                );
            }
        }
        let files =
            std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/conformance")).unwrap();
        assert_eq!(
            files.count(),
            7 + ["mod.rs", "model.rs"].len(),
            "a suite that is not in this test"
        );
    }

    #[test]
    fn adapter_that_does_not_return_gets_a_result() {
        let limit = Duration::from_millis(50);
        let hanging = || catch_unwind(|| run_within(limit, "hanging", std::future::pending::<()>));
        let sentence = message(&*hanging().unwrap_err());
        assert!(sentence.contains("a call to the adapter does not return"), "{sentence}");
        let blocking =
            || run_within(limit, "blocking", move || async move { std::thread::sleep(limit * 20) });
        assert!(message(&*catch_unwind(blocking).unwrap_err()).contains("does not return"));
        run_within(limit * 100, "working", || async {});
    }

    #[test]
    fn failure_of_a_function_is_the_failure_of_its_test() {
        let failing =
            || run("failing", || async { panic!("this adapter loses what it was given") });
        assert!(message(&*catch_unwind(failing).unwrap_err()).contains("loses"));
    }
}
