//! Ids and secrets that count up.

use std::sync::atomic::{AtomicU64, Ordering};

use domain::ports::{IdGenerator, TokenGenerator};
use domain::{TOKEN_SECRET_BYTES, TokenHash, TokenSecret};
use uuid::Uuid;

/// Ids that count up from 1.
#[derive(Default)]
pub struct SequentialIds(AtomicU64);

impl IdGenerator for SequentialIds {
    fn next_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1)
    }
}

/// Secrets that count up from 1, each the first bytes of its hash.
#[derive(Default)]
pub struct SequentialTokens(AtomicU64);

impl TokenGenerator for SequentialTokens {
    fn next_token(&self) -> (TokenSecret, TokenHash) {
        let number = (self.0.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes();
        let mut hash = [0; 32];
        hash[..number.len()].copy_from_slice(&number);
        let mut secret = [0; TOKEN_SECRET_BYTES];
        secret.copy_from_slice(&hash[..TOKEN_SECRET_BYTES]);
        (TokenSecret::new(secret), TokenHash(hash))
    }
}
