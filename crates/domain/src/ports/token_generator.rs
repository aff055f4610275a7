//! Makes the secrets of session tokens.

use crate::session_token::{TokenHash, TokenSecret};

/// Makes secrets that cannot be guessed.
pub trait TokenGenerator: Send + Sync {
    /// Returns a new secret of random bytes, with its SHA-256.
    fn next_token(&self) -> (TokenSecret, TokenHash);
}
