use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::SessionId;
use domain::coherence::Scope;
use domain::ports::{Clock, EndedSession, PortError, SessionCache};

use crate::ActivityBuffer;
use crate::revocation_guard::{Fence, RevocationGuard};

/// How many of the sessions that one statement ends are taken out of the caches.
const REMOVED_AT_MOST: usize = 100;

/// When a command that ends sessions answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// Once the end is final: no node answers the sessions as live any more.
    #[default]
    WhenFinal,
    /// Once the end is stored, with the moment from which on it is final.
    WhenStored,
}

/// What a command that ends sessions did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// How many sessions were ended that nobody had ended before.
    pub count: u64,
    /// From when on no node answers them as live, by this node's wall clock; absent where that was waited for.
    pub effective_by: Option<DateTime<Utc>>,
}

/// What every command that ends sessions does around the store's part of it: before, this node stops answering them from memory;
/// afterwards nobody goes on from what they remember, and the end is not acknowledged before it is final on every node.
pub struct SessionEnds {
    session_cache: Arc<dyn SessionCache>,
    activity: Arc<ActivityBuffer>,
    guard: Arc<RevocationGuard>,
    clock: Arc<dyn Clock>,
}

/// An end that has begun, behind a fence. Dropped, because its caller was cancelled or has panicked, it counts as one whose outcome is
/// unknown.
#[must_use]
pub(crate) struct Ending<'a> {
    ends: &'a SessionEnds,
    fence: Fence,
}

impl SessionEnds {
    /// Over what remembers sessions, and what guards it.
    pub fn new(
        session_cache: Arc<dyn SessionCache>,
        activity: Arc<ActivityBuffer>,
        guard: Arc<RevocationGuard>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { session_cache, activity, guard, clock }
    }

    /// Before the store is told.
    pub(crate) fn begin(&self, scopes: impl IntoIterator<Item = Scope>) -> Ending<'_> {
        Ending { ends: self, fence: self.guard.fence(scopes) }
    }

    /// Takes ended sessions out of what this node has cached.
    ///
    /// That is a courtesy, which frees room: the guard lets none of them through. So of very many, a few do.
    async fn forget(&self, ended: &[EndedSession]) {
        self.activity.forget(ended);
        self.session_cache.remove(&ended[..ended.len().min(REMOVED_AT_MOST)]).await;
    }

    /// The same for sessions one by one.
    pub(crate) fn begin_sessions(&self, ids: &[SessionId]) -> Ending<'_> {
        self.begin(ids.iter().map(|id| Scope::Session(*id)))
    }
}

impl Ending<'_> {
    /// The store has ended these. Returns once that is final; or at once, with the moment at which it will be.
    pub(crate) async fn done(self, ended: &[EndedSession], acknowledge: Acknowledge) -> Option<DateTime<Utc>> {
        let Self { ends, fence } = self;
        let committed = fence.committed();
        ends.forget(ended).await;
        match acknowledge {
            Acknowledge::WhenFinal => {
                ends.guard.wait_until_final(committed).await;
                None
            }
            Acknowledge::WhenStored => {
                let left = ends.guard.until_final(committed).await;
                Some(ends.clock.now() + left)
            }
        }
    }

    /// The store has ended these, and more are to come: whoever has called waits for the last ones.
    pub(crate) async fn forget(&self, ended: &[EndedSession]) {
        self.ends.forget(ended).await;
    }

    /// The store has ended nothing.
    pub(crate) fn nothing_happened(self) {
        self.fence.abort();
    }

    /// The store did not do it, or not all of it, or nobody knows. Nothing is acknowledged, so this node need not know more than any
    /// other: if it was done after all, the looks find it.
    pub(crate) fn failed(self, error: PortError) -> PortError {
        self.fence.committed();
        error
    }
}
