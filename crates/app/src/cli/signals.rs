//! The signals that stop a node.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What signals ask for.
#[derive(Clone, Default)]
pub(super) struct Signals {
    /// SIGTERM or SIGINT: stop.
    pub(super) stop: CancellationToken,
    /// SIGINT: do not wait for balancers to notice.
    pub(super) at_once: CancellationToken,
    /// A second signal: wait for nothing any more.
    pub(super) abort: CancellationToken,
}

impl Signals {
    /// Listens for signals from now on, until the process ends.
    pub(super) fn listen() -> Result<Self> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let signals = Self::default();
        let Self { stop, at_once, abort } = signals.clone();
        tokio::spawn(async move {
            let mut signals = 0;
            loop {
                let by_a_person = tokio::select! {
                    _ = terminate.recv() => false,
                    _ = interrupt.recv() => true,
                };
                signals += 1;
                if by_a_person || signals > 1 {
                    at_once.cancel();
                }
                if signals > 1 {
                    abort.cancel();
                }
                stop.cancel();
            }
        });
        Ok(signals)
    }
}
