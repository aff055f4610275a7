//! Runs revocations.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::SessionId;
use domain::coherence::Scope;
use domain::ports::{Clock, PortError, SessionCache, SessionKey};
use fail::fail_point;

use super::revocation_state::Fence;
use super::{CommitWait, RevocationState};
use crate::activity::ActivityBuffer;

/// How many of the sessions that one statement revokes are removed from the caches.
const MAX_REMOVALS: usize = 100;

/// When a command that revokes returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// Once the revocation is effective: no node serves the sessions as live any more.
    #[default]
    Effective,
    /// Once it is committed, with the time from which on it is effective.
    Committed,
}

/// What a command that revokes did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// How many sessions were revoked that had not been before.
    pub count: u64,
    /// From when on no node serves them as live, by this node's wall clock. `None` where that was
    /// waited for.
    pub effective_by: Option<DateTime<Utc>>,
}

/// Runs a revocation safely. Before the write, this node stops serving the affected sessions from
/// its caches. After the commit, waits until no node can serve them.
pub struct SessionRevoker {
    session_cache: Arc<dyn SessionCache>,
    activity: Arc<ActivityBuffer>,
    state: Arc<RevocationState>,
    commit_wait: Arc<CommitWait>,
    clock: Arc<dyn Clock>,
}

/// A revocation that has begun, behind a fence.
///
/// Dropped, because its caller was cancelled or has panicked, it counts as one whose outcome is
/// unknown.
#[must_use]
pub struct PendingRevocation<'a> {
    revoker: &'a SessionRevoker,
    fence: Fence,
}

impl SessionRevoker {
    /// Creates the revoker of a node with these caches.
    pub fn new(
        session_cache: Arc<dyn SessionCache>,
        activity: Arc<ActivityBuffer>,
        state: Arc<RevocationState>,
        commit_wait: Arc<CommitWait>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { session_cache, activity, state, commit_wait, clock }
    }

    /// Fences the sessions, before the store revokes them.
    pub fn begin(&self, scopes: impl IntoIterator<Item = Scope>) -> PendingRevocation<'_> {
        PendingRevocation { revoker: self, fence: self.state.fence(scopes) }
    }

    /// Fences sessions one by one.
    pub fn begin_sessions(&self, ids: &[SessionId]) -> PendingRevocation<'_> {
        self.begin(ids.iter().map(|id| Scope::Session(*id)))
    }
}

impl PendingRevocation<'_> {
    /// The store has revoked these, if any, and the revocation is complete. Returns once that is
    /// effective on every node; or at once, with the time at which it will be.
    ///
    /// Also where nothing was revoked: another caller may have just revoked them, and this
    /// is an acknowledgement all the same.
    pub async fn committed(
        self,
        revoked: &[SessionKey],
        acknowledge: Acknowledge,
    ) -> Option<DateTime<Utc>> {
        let committed = self.fence.release();
        self.revoker.invalidate(revoked).await;
        match acknowledge {
            Acknowledge::Effective => {
                self.revoker.commit_wait.wait(committed).await;
                None
            }
            Acknowledge::Committed => {
                let remaining = self.revoker.commit_wait.remaining(committed).await;
                Some(
                    self.revoker.clock.now()
                        + TimeDelta::from_std(remaining).unwrap_or(TimeDelta::MAX),
                )
            }
        }
    }

    /// The store has replaced the token of this session. Returns once no node serves what it cached
    /// before. The session is live, so its activity stays.
    pub async fn rotated(self, session: SessionKey) {
        let committed = self.fence.release();
        self.revoker.session_cache.remove(&[session]).await;
        fail_point!("bug-rotation-does-not-wait", |_| ());
        self.revoker.commit_wait.wait(committed).await;
    }

    /// The store has revoked these, and will revoke more.
    pub async fn invalidate(&self, revoked: &[SessionKey]) {
        self.revoker.invalidate(revoked).await;
    }

    /// The store has revoked nothing, and nothing is acknowledged: releases the fence at once.
    pub fn abort(self) {
        self.fence.abort();
    }

    /// The store did not do it, or not all of it, or the outcome is unknown. Nothing is
    /// acknowledged, so this node need not know more than any other: if it was done after all, the
    /// next poll shows it.
    pub fn failed(self, error: PortError) -> PortError {
        self.fence.release();
        error
    }
}

impl SessionRevoker {
    /// Removes revoked sessions from what this node has cached. That frees room, and is best
    /// effort: none of them is servable. So of very many, a few are removed.
    async fn invalidate(&self, revoked: &[SessionKey]) {
        self.activity.remove(revoked);
        self.session_cache.remove(&revoked[..revoked.len().min(MAX_REMOVALS)]).await;
    }
}
