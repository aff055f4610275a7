//! Session tokens: what a session keeps of the tokens that were issued for it, and what one that is
//! presented is worth. Their spelling is for interfaces; see `auth/session_token.rs` of `sessiond`.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use subtle::ConstantTimeEq;

/// The bytes of a token's secret: 192 random bits.
pub const TOKEN_SECRET_BYTES: usize = 24;

/// The secret of a token. It is shown to the caller who asked for it, once, and kept nowhere.
#[derive(Clone)]
pub struct TokenSecret([u8; TOKEN_SECRET_BYTES]);

impl TokenSecret {
    /// Creates a secret of random bytes.
    pub fn new(bytes: [u8; TOKEN_SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, for the token that is shown.
    pub fn expose(&self) -> &[u8; TOKEN_SECRET_BYTES] {
        &self.0
    }
}

/// Shows nothing of it.
impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// SHA-256 of a token's secret. Comparing two takes the same time wherever they differ.
#[derive(Clone, Copy)]
pub struct TokenHash(pub [u8; 32]);

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

/// Shows nothing of it.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// What a session keeps of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTokens {
    /// The token that is good.
    pub current: TokenHash,
    /// The token that it replaced.
    pub replaced: Option<ReplacedToken>,
}

/// A token that a rotation has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplacedToken {
    /// Its hash.
    pub hash: TokenHash,
    /// When it was replaced.
    pub at: DateTime<Utc>,
}

/// What a token that is presented is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// It is the session's token.
    Current,
    /// It was replaced so recently that it is still good: requests with it may have been on their
    /// way.
    Replaced,
    /// It was replaced, and is not good any more. Its holder is a client that missed the rotation,
    /// or a thief.
    Reused,
    /// It was not issued for this session, or was replaced long ago.
    Unknown,
}

impl SessionTokens {
    /// Creates the state of a session whose first token this is.
    pub fn issued(hash: TokenHash) -> Self {
        Self { current: hash, replaced: None }
    }

    /// Returns the state after a rotation at `at`.
    #[must_use]
    pub fn rotated(self, hash: TokenHash, at: DateTime<Utc>) -> Self {
        Self { current: hash, replaced: Some(ReplacedToken { hash: self.current, at }) }
    }

    /// Returns what the token with this hash is worth at `now`. A replaced token is good for
    /// `grace` after its rotation: before the end of it, not at it.
    pub fn verify(
        &self,
        presented: &TokenHash,
        now: DateTime<Utc>,
        grace: TimeDelta,
    ) -> TokenVerdict {
        match &self.replaced {
            _ if self.current == *presented => TokenVerdict::Current,
            Some(replaced) if replaced.hash == *presented => {
                let is_good = now - replaced.at < grace;
                if is_good { TokenVerdict::Replaced } else { TokenVerdict::Reused }
            }
            _ => TokenVerdict::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: TokenHash = TokenHash([1; 32]);
    const SECOND: TokenHash = TokenHash([2; 32]);
    const GRACE: TimeDelta = TimeDelta::seconds(10);

    #[test]
    fn a_replaced_token_is_good_until_the_end_of_the_grace_and_reused_from_then_on() {
        let at = DateTime::UNIX_EPOCH;
        let tokens = SessionTokens::issued(FIRST);
        assert_eq!(tokens.verify(&FIRST, at, GRACE), TokenVerdict::Current);
        assert_eq!(tokens.verify(&SECOND, at, GRACE), TokenVerdict::Unknown);

        let tokens = tokens.rotated(SECOND, at);
        let microsecond = TimeDelta::microseconds(1);
        assert_eq!(tokens.verify(&SECOND, at + GRACE, GRACE), TokenVerdict::Current);
        assert_eq!(tokens.verify(&FIRST, at, GRACE), TokenVerdict::Replaced);
        assert_eq!(tokens.verify(&FIRST, at + GRACE - microsecond, GRACE), TokenVerdict::Replaced);
        assert_eq!(tokens.verify(&FIRST, at + GRACE, GRACE), TokenVerdict::Reused);
        assert_eq!(tokens.verify(&FIRST, at, TimeDelta::zero()), TokenVerdict::Reused);
    }

    #[test]
    fn only_the_last_replaced_token_is_known() {
        let at = DateTime::UNIX_EPOCH;
        let third = TokenHash([3; 32]);
        let tokens = SessionTokens::issued(FIRST).rotated(SECOND, at).rotated(third, at);
        assert_eq!(tokens.verify(&FIRST, at, GRACE), TokenVerdict::Unknown);
        assert_eq!(tokens.verify(&SECOND, at, GRACE), TokenVerdict::Replaced);
    }

    #[test]
    fn neither_secrets_nor_hashes_are_shown() {
        let secret = TokenSecret::new([7; TOKEN_SECRET_BYTES]);
        assert_eq!(format!("{secret:?} {FIRST:?}"), "TokenSecret(..) TokenHash(..)");
    }
}
