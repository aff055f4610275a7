//! Ids that count up.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::ports::IdGenerator;
use uuid::Uuid;

/// Ids that count up from 1.
#[derive(Default)]
pub struct SequentialIds(AtomicU64);

impl IdGenerator for SequentialIds {
    fn next_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}
