//! How a session token is spelt: `sds_`, and base64url of the session's id, the user's id and a
//! secret of 24 bytes. So the session can be looked up as every other is, by both ids.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::ports::{SessionKey, TokenGenerator};
use domain::{SessionId, TOKEN_SECRET_BYTES, TokenHash, TokenSecret, UserId};
use secrecy::SecretString;
use uuid::Uuid;

use crate::system::random_bytes;

/// What every session token begins with, so that secret scanners find one that has leaked.
pub const PREFIX: &str = "sds_";

const ID_BYTES: usize = 16;
const BYTES: usize = 2 * ID_BYTES + TOKEN_SECRET_BYTES;

/// A session token that was presented. Whether it is good, only the session says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedToken {
    /// The session that it names.
    pub session_id: SessionId,
    /// The user that it names.
    pub user_id: UserId,
    /// SHA-256 of its secret.
    pub hash: TokenHash,
}

/// Issues tokens of the operating system's randomness.
pub struct RandomTokens;

impl TokenGenerator for RandomTokens {
    fn next_token(&self) -> (TokenSecret, TokenHash) {
        let secret = random_bytes();
        (TokenSecret::new(secret), hash(&secret))
    }
}

/// Returns the text of a token that was issued.
pub fn format(session: SessionKey, secret: &TokenSecret) -> SecretString {
    let mut bytes = [0; BYTES];
    bytes[..ID_BYTES].copy_from_slice(session.id.0.as_bytes());
    bytes[ID_BYTES..2 * ID_BYTES].copy_from_slice(session.user_id.0.as_bytes());
    bytes[2 * ID_BYTES..].copy_from_slice(secret.expose());
    let mut text = PREFIX.to_owned();
    BASE64_URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text.into()
}

/// Returns the parts of a text that is spelt like a token.
///
/// # Errors
/// [`Malformed`] if it begins like a session token, and is none. `None`: it is another kind of
/// token.
pub fn parse(text: &str) -> Option<Result<PresentedToken, Malformed>> {
    let encoded = text.strip_prefix(PREFIX)?;
    let mut bytes = [0; BYTES];
    // The decoder accepts one spelling of each value only.
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes);
    Some(if length == Ok(BYTES) { Ok(PresentedToken::of(&bytes)) } else { Err(Malformed) })
}

/// It is spelt like no session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl PresentedToken {
    fn of(bytes: &[u8; BYTES]) -> Self {
        let id = |at: usize| {
            let mut id = [0; ID_BYTES];
            id.copy_from_slice(&bytes[at..at + ID_BYTES]);
            Uuid::from_bytes(id)
        };
        Self {
            session_id: SessionId(id(0)),
            user_id: UserId(id(ID_BYTES)),
            hash: hash(&bytes[2 * ID_BYTES..]),
        }
    }
}

/// Returns the SHA-256 (`sha256`) of a session token's secret: what is kept of it.
pub fn hash(secret: &[u8]) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    TokenHash(hash)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use testkit::fixtures;

    use super::*;

    fn issued() -> (SessionKey, TokenSecret, SecretString) {
        let session = fixtures::session();
        let key = SessionKey { id: session.id, user_id: session.user_id };
        let secret = TokenSecret::new([0xfb; TOKEN_SECRET_BYTES]);
        let text = format(key, &secret);
        (key, secret, text)
    }

    #[test]
    fn a_token_is_read_as_it_is_written() {
        let (key, secret, text) = issued();
        let text = text.expose_secret();
        assert_eq!(text.len(), 79);
        assert!(text.starts_with("sds_AZAAAAAAcACAAAAAAAAAAQGQAAAAAEAA"), "{text}");
        let expected = PresentedToken {
            session_id: key.id,
            user_id: key.user_id,
            hash: hash(secret.expose()),
        };
        assert_eq!(parse(text), Some(Ok(expected)));
    }

    #[test]
    fn other_tokens_are_none_and_other_spellings_are_malformed() {
        let (_, _, text) = issued();
        let text = text.expose_secret();
        for other in ["", "sds", "eyJhbGciOiJIUzI1NiJ9.e30.x", &text[1..], &text.to_uppercase()] {
            assert_eq!(parse(other), None, "{other}");
        }
        let with_padding = format!("{text}==");
        let other_alphabet = text.replace('-', "+").replace('_', "/").replacen('/', "_", 1);
        // The last character carries two bits of the value, and four that must be zero.
        let other_bits = format!("{}x", &text[..text.len() - 1]);
        let malformed = [
            "sds_",
            &text[..text.len() - 1],
            &format!("{text}A"),
            &with_padding,
            &other_alphabet,
            &other_bits,
            &format!("{} ", &text[..text.len() - 1]),
        ];
        for other in malformed {
            assert_eq!(parse(other), Some(Err(Malformed)), "{other}");
        }
    }
}
