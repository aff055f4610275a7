//! The protocol that makes a revocation final on every node (`docs/coherence.md`), on a page:
//!
//! - [`RevocationState`] is what this node knows of revocations. Before a cached session is served,
//!   [`is_servable`](RevocationState::is_servable); there is no other way to ask.
//! - [`RevocationFollower`] polls the revocation log into the state, and reports what this node
//!   has merged.
//! - [`CoherentSessionCache`] serves cached sessions, each only if it is servable then.
//! - [`SessionRevoker`] runs a revocation: fence, write, invalidate, [`CommitWait`], acknowledge.
//!   Every command that acknowledges a revocation goes through it.
//! - [`PeerMonitor`] removes peers that are dead, so that no revocation waits for them.
//!
//! ```text
//! revoking node             store                          another node
//!   fence (stop serving)
//!   write ----------------> commit, row in the log
//!   invalidate caches       <----------------------------- poll: merge the row, refuse older reads
//!   commit wait <---------- lease: "merged up to here" <--- report
//!   acknowledge
//! ```

mod coherent_session_cache;
mod commit_wait;
#[cfg(feature = "failpoints")]
mod injected_bugs;
mod peer_monitor;
mod revocation_follower;
mod revocation_state;
mod session_revoker;

pub use coherent_session_cache::CoherentSessionCache;
pub use commit_wait::CommitWait;
pub use peer_monitor::PeerMonitor;
pub(crate) use revocation_follower::MIN_PAUSE;
pub use revocation_follower::{Polled, RevocationFollower};
pub use revocation_state::RevocationState;
pub use session_revoker::{Acknowledge, PendingRevocation, Revoked, SessionRevoker};
