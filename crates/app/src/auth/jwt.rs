use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use domain::ports::Clock;
use domain::{SessionId, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

use super::jwks::RemoteJwks;
use super::verification_key::VerificationKey;
use super::verified_tokens::{Validity, VerifiedTokens};

/// Longer tokens are refused unread.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How many keys are tried for one token.
const MAX_CANDIDATES: usize = 8;

/// A token that was verified: whose it is, and which session it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// `sub`
    pub user_id: UserId,
    /// The session claim.
    pub session_id: SessionId,
}

/// Why a token was not accepted.
#[derive(Debug, Error)]
pub enum TokenError {
    /// It is no good. The reason is for the log; callers are told one and the same thing.
    #[error("token refused: {0}")]
    Invalid(&'static str),
    /// It could not be found out: there are no keys to verify it with, for now.
    #[error("the token issuer's keys are unavailable")]
    KeysUnavailable,
}

/// What a token has to say, apart from being signed.
pub struct TokenRules {
    /// Accepted `iss`; any, if empty.
    pub issuers: Vec<String>,
    /// Accepted `aud`; any, if empty.
    pub audiences: Vec<String>,
    /// The claim with the session's id.
    pub session_claim: String,
    /// Accepted `typ` headers, in lower case.
    pub types: Vec<String>,
}

/// Verifies end users' tokens (RFC 7519, RFC 9068), with the algorithms HS256, RS256, ES256 and EdDSA and no others.
///
/// A key is used with its own algorithm only, so a public key is never taken for a secret. Keys come from the configuration
/// alone: `jku`, `jwk`, `x5u` and `x5c` headers are ignored.
pub struct TokenVerifier {
    secret: Option<DecodingKey>,
    keys: Vec<VerificationKey>,
    remote: Option<RemoteJwks>,
    rules: TokenRules,
    clock: Arc<dyn Clock>,
    verified: VerifiedTokens,
}

impl TokenVerifier {
    /// A verifier without keys, which refuses everything.
    pub fn new(rules: TokenRules, clock: Arc<dyn Clock>) -> Self {
        Self { secret: None, keys: Vec::new(), remote: None, rules, clock, verified: VerifiedTokens::default() }
    }

    /// Also accepts HS256 tokens made with this secret.
    #[must_use]
    pub fn with_secret(mut self, secret: &[u8]) -> Self {
        self.secret = Some(DecodingKey::from_secret(secret));
        self
    }

    /// Also accepts tokens signed with these keys.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = VerificationKey>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// Also accepts tokens signed with the keys that the issuer publishes.
    #[must_use]
    pub fn with_remote_keys(mut self, remote: RemoteJwks) -> Self {
        self.remote = Some(remote);
        self
    }

    /// Whose token this is. Nothing is believed before the signature is verified, but the choice of the key.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] for a token that is no good; [`TokenError::KeysUnavailable`] if its issuer's keys cannot be
    /// had.
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid("too long"));
        }
        let published = || Some(self.remote.as_ref()?.present()?.number);
        if let Some(verified) = self.verified.recall(token, self.clock.now(), published) {
            return Ok(verified);
        }
        let header =
            decode_header(token).map_err(|_| TokenError::Invalid("not a token, or of an unknown algorithm"))?;
        self.check_header(&header)?;
        let (claims, publication) = self.claims(token, &header).await?;
        let verified = self.whose(&claims)?;
        let validity = Validity::of(&claims.0, publication)?;
        validity.check(self.clock.now())?;
        self.verified.remember(token, verified, validity);
        Ok(verified)
    }

    fn check_header(&self, header: &Header) -> Result<(), TokenError> {
        if header.crit.is_some() {
            // RFC 7515 section 4.1.11: what is critical and not understood makes a token invalid. We understand none.
            return Err(TokenError::Invalid("critical header"));
        }
        // RFC 7515 section 4.1.9: "application/" may be left out.
        let kind = header.typ.as_deref().unwrap_or("jwt").to_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        if !self.rules.types.iter().any(|accepted| accepted == kind) {
            return Err(TokenError::Invalid("type not accepted"));
        }
        Ok(())
    }

    /// The claims, once one of the keys has verified the signature; and which publication of the issuer's that key is from, if it is
    /// from one.
    async fn claims(&self, token: &str, header: &Header) -> Result<(Claims, Option<u64>), TokenError> {
        let (algorithm, key_id) = (header.alg, header.kid.as_deref());
        match algorithm {
            Algorithm::HS256 => {
                let secret = self.secret.as_ref().ok_or(TokenError::Invalid("algorithm not accepted"))?;
                self.decode(token, algorithm, secret).map(|claims| (claims, None))
            }
            Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA => {
                let local = self.keys.iter().filter(|key| key.fits(algorithm, key_id)).take(MAX_CANDIDATES);
                for key in local {
                    if let Ok(claims) = self.decode(token, algorithm, key.key()) {
                        return Ok((claims, None));
                    }
                }
                let Some(remote) = &self.remote else { return Err(TokenError::Invalid("no key verifies it")) };
                let published = remote.keys_for(algorithm, key_id).await.ok_or(TokenError::KeysUnavailable)?;
                let fitting = published.keys.iter().filter(|key| key.fits(algorithm, key_id)).take(MAX_CANDIDATES);
                let mut decoded = fitting.map(|key| self.decode(token, algorithm, key.key()));
                let claims = decoded.find_map(Result::ok).ok_or(TokenError::Invalid("no key verifies it"))?;
                Ok((claims, Some(published.number)))
            }
            _ => Err(TokenError::Invalid("algorithm not accepted")),
        }
    }

    fn decode(&self, token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        // Times are checked below, by the Clock port.
        validation.validate_exp = false;
        validation.validate_aud = !self.rules.audiences.is_empty();
        if !self.rules.audiences.is_empty() {
            validation.set_audience(&self.rules.audiences);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        if !self.rules.issuers.is_empty() {
            validation.set_issuer(&self.rules.issuers);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        let data = decode::<Claims>(token, key, &validation).map_err(|_| TokenError::Invalid("signature or claims"))?;
        Ok(data.claims)
    }

    fn whose(&self, claims: &Claims) -> Result<VerifiedToken, TokenError> {
        let text = |name: &str| claims.0.get(name).and_then(Value::as_str);
        let user_id = text("sub").and_then(|text| text.parse().ok()).ok_or(TokenError::Invalid("sub"))?;
        let session_id = text(&self.rules.session_claim).and_then(|text| text.parse().ok());
        Ok(VerifiedToken { user_id, session_id: session_id.ok_or(TokenError::Invalid("session claim"))? })
    }
}

/// The claims by name. A name that occurs twice makes a token invalid (RFC 7519 section 4): verifiers would differ on it.
struct Claims(HashMap<String, Value>);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ClaimsVisitor;

        impl<'de> Visitor<'de> for ClaimsVisitor {
            type Value = Claims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of claims")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut claims = HashMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a claim occurs twice"));
                    }
                }
                Ok(Claims(claims))
            }
        }

        deserializer.deserialize_map(ClaimsVisitor)
    }
}

#[cfg(test)]
mod tests;
