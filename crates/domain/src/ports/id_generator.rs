//! Makes new ids.

use uuid::Uuid;

/// Makes identifiers that were never used before.
pub trait IdGenerator: Send + Sync {
    /// Returns a new UUID, version 7 (RFC 9562 section 5.7): unique, and roughly ascending in time,
    /// which keeps indexes compact.
    fn next_id(&self) -> Uuid;
}
