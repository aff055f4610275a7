use std::sync::Arc;

use domain::ports::{EndedSession, SessionCache};

use crate::ActivityBuffer;

/// What every command that ends sessions does once the store has: nobody goes on from what they remember of them.
pub struct SessionEnds {
    session_cache: Arc<dyn SessionCache>,
    activity: Arc<ActivityBuffer>,
}

impl SessionEnds {
    /// Over what remembers sessions.
    pub fn new(session_cache: Arc<dyn SessionCache>, activity: Arc<ActivityBuffer>) -> Self {
        Self { session_cache, activity }
    }

    /// Forgets sessions that have ended.
    pub(crate) async fn announce(&self, ended: &[EndedSession]) {
        self.activity.forget(ended);
        self.session_cache.remove(ended).await;
    }
}
