//! Verifies end users' tokens: JSON Web Tokens (RFC 7519, RFC 9068).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::UserId;
use domain::ports::Clock;
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::jwks::RemoteJwks;
use super::token::{Refusal, TokenError, VerifiedToken};
use super::verification_key::VerificationKey;
use super::verified_tokens::{Publication, Validity, VerifiedTokens};

/// Longer tokens are refused unread: a request's head holds no longer one.
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How many keys are tried for a token that names none.
const MAX_CANDIDATES: usize = 8;
/// The longest `sub` that stands for a user, in bytes; OpenID Connect allows 255 characters.
const MAX_SUBJECT_BYTES: usize = 1024;

/// How a token's `sub` names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// It is the user's id.
    Uuid,
    /// It is any text; [`UserId::of_subject`] makes an id of it and the issuer.
    Uuid5,
}

/// What a token of an issuer has to say, apart from being signed.
pub struct TokenRules {
    /// The accepted `iss`; any, if absent.
    pub issuer: Option<String>,
    /// Accepted `aud`; any, if empty.
    pub audiences: Vec<String>,
    /// How `sub` names a user.
    pub subject: Subject,
    /// The claim with the session's id.
    pub session_claim: String,
    /// Accepted `typ` headers, in lower case.
    pub types: Vec<String>,
}

/// A token issuer: its rules and its own keys, which verify no other issuer's tokens.
pub struct Issuer {
    rules: TokenRules,
    secret: Option<DecodingKey>,
    keys: Vec<VerificationKey>,
    remote: Option<RemoteJwks>,
}

impl Issuer {
    /// Creates an issuer without keys, whose tokens are all refused.
    pub fn new(rules: TokenRules) -> Self {
        Self { rules, secret: None, keys: Vec::new(), remote: None }
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

    /// Fetches published keys from now on, by a timer, for as long as the issuer is used.
    pub fn keep_keys_fresh(&self) {
        if let Some(remote) = &self.remote {
            tokio::spawn(remote.clone().keep_fresh());
        }
    }

    fn check_header(&self, header: &Header) -> Result<(), Refusal> {
        if header.crit.is_some() {
            return Err(Refusal::CriticalHeader);
        }
        // RFC 7515 section 4.1.9: "application/" may be left out.
        let kind = header.typ.as_deref().unwrap_or("jwt").to_lowercase();
        let kind = kind.strip_prefix("application/").unwrap_or(&kind);
        if !self.rules.types.iter().any(|accepted| accepted == kind) {
            return Err(Refusal::Type);
        }
        Ok(())
    }

    /// Returns the claims once one of the issuer's keys has verified the signature, and which
    /// publication that key is from, if it is from one.
    async fn claims(
        &self,
        token: &str,
        header: &Header,
    ) -> Result<(Claims, Option<u64>), TokenError> {
        let algorithm = header.alg;
        let key_id = header.kid.as_deref();
        match algorithm {
            Algorithm::HS256 => {
                let secret = self.secret.as_ref().ok_or(Refusal::Algorithm)?;
                let claims = verified_claims(token, algorithm, secret).ok_or(Refusal::Signature)?;
                Ok((claims, None))
            }
            Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA => {
                let refusal = match tried(&self.keys, token, algorithm, key_id) {
                    Ok(claims) => return Ok((claims, None)),
                    Err(refusal) => refusal,
                };
                let Some(remote) = &self.remote else { return Err(refusal.into()) };
                let published =
                    remote.keys_for(algorithm, key_id).await.ok_or(TokenError::KeysUnavailable)?;
                let claims = tried(&published.keys, token, algorithm, key_id)?;
                Ok((claims, Some(published.number)))
            }
            _ => Err(Refusal::Algorithm.into()),
        }
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Refusal> {
        let accepted = |audience: &Value| {
            audience.as_str().is_some_and(|audience| {
                self.rules.audiences.iter().any(|accepted| accepted == audience)
            })
        };
        let is_accepted = match claims.0.get("aud") {
            _ if self.rules.audiences.is_empty() => true,
            Some(Value::Array(audiences)) => audiences.iter().any(accepted),
            Some(audience) => accepted(audience),
            None => false,
        };
        if is_accepted { Ok(()) } else { Err(Refusal::Audience) }
    }

    fn identify(
        &self,
        claims: &Claims,
        expires_at: DateTime<Utc>,
    ) -> Result<VerifiedToken, Refusal> {
        let subject =
            claims.text("sub").filter(|subject| (1..=MAX_SUBJECT_BYTES).contains(&subject.len()));
        let user_id = match (self.rules.subject, subject, claims.text("iss")) {
            (Subject::Uuid, Some(subject), _) => subject.parse().ok(),
            (Subject::Uuid5, Some(subject), Some(issuer)) => {
                Some(UserId::of_subject(issuer, subject))
            }
            _ => None,
        };
        let session_id = claims.text(&self.rules.session_claim).and_then(|text| text.parse().ok());
        Ok(VerifiedToken {
            user_id: user_id.ok_or(Refusal::Subject)?,
            session_id: session_id.ok_or(Refusal::SessionClaim)?,
            expires_at,
        })
    }
}

/// Verifies end users' tokens, with the algorithms HS256, RS256, ES256 and EdDSA and no others.
///
/// A token is verified by the keys of the issuer that it names, so that no issuer can speak for
/// another's users (ASVS 6.8.1). A key is used with its own algorithm only, so that a public key is
/// never taken for a secret. Keys come from the configuration alone: `jku`, `jwk`, `x5u` and `x5c`
/// headers are ignored.
pub struct TokenVerifier {
    issuers: Vec<Issuer>,
    clock: Arc<dyn Clock>,
    verified: VerifiedTokens,
}

impl TokenVerifier {
    /// Creates a verifier of these issuers' tokens.
    pub fn new(issuers: Vec<Issuer>, clock: Arc<dyn Clock>) -> Self {
        Self { issuers, clock, verified: VerifiedTokens::default() }
    }

    /// Takes over the published keys that another verifier has, issuer by issuer.
    pub fn adopt_keys(&self, earlier: &Self) {
        for remote in self.issuers.iter().filter_map(|issuer| issuer.remote.as_ref()) {
            for issuer in &earlier.issuers {
                issuer.remote.iter().for_each(|published| remote.adopt(published));
            }
        }
    }

    /// Returns what a token says that was verified a while ago, if it is still good. Costs a hash.
    pub fn recall(&self, token: &str) -> Option<VerifiedToken> {
        let is_current = |publication: Publication| {
            let remote =
                self.issuers.get(publication.issuer).and_then(|issuer| issuer.remote.as_ref());
            remote
                .and_then(RemoteJwks::present)
                .is_some_and(|present| present.number == publication.number)
        };
        self.verified.recall(token, self.clock.now(), is_current)
    }

    /// Returns whose token this is. Nothing in it is trusted before the signature is verified, but
    /// the choice of the issuer and the key.
    ///
    /// # Errors
    /// [`TokenError::Refused`] for a token that is no good; [`TokenError::KeysUnavailable`] if its
    /// issuer's keys cannot be had.
    pub async fn verify(&self, token: &str) -> Result<VerifiedToken, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong.into());
        }
        if let Some(verified) = self.recall(token) {
            return Ok(verified);
        }
        let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
        let (index, issuer) = self.issuer(token)?;
        issuer.check_header(&header)?;
        let (claims, number) = issuer.claims(token, &header).await?;
        issuer.check_audience(&claims)?;
        let publication = number.map(|number| Publication { issuer: index, number });
        let validity = Validity::of(&claims.0, publication)?;
        validity.check(self.clock.now())?;
        let verified = issuer.identify(&claims, validity.expires_at())?;
        self.verified.insert(token, verified, validity);
        Ok(verified)
    }

    /// Returns the issuer that the token names.
    fn issuer(&self, token: &str) -> Result<(usize, &Issuer), Refusal> {
        let claims = insecure_decode::<Claims>(token).map_err(|error| {
            // Only serde's message distinguishes the two.
            let is_duplicate = error.to_string().contains(DUPLICATE_CLAIM);
            if is_duplicate { Refusal::DuplicateClaim } else { Refusal::Malformed }
        })?;
        let named = claims.claims.text("iss");
        let accepts = |issuer: &Issuer| {
            issuer.rules.issuer.as_deref().is_none_or(|accepted| named == Some(accepted))
        };
        self.issuers.iter().enumerate().find(|(_, issuer)| accepts(issuer)).ok_or(Refusal::Issuer)
    }
}

/// Returns the claims as verified by one of the keys that may have signed the token.
fn tried(
    keys: &[VerificationKey],
    token: &str,
    algorithm: Algorithm,
    key_id: Option<&str>,
) -> Result<Claims, Refusal> {
    let mut candidates =
        keys.iter().filter(|key| key.fits(algorithm, key_id)).take(MAX_CANDIDATES).peekable();
    if candidates.peek().is_none() {
        let has_algorithm = keys.iter().any(|key| key.fits(algorithm, None));
        return Err(if has_algorithm { Refusal::UnknownKey } else { Refusal::Algorithm });
    }
    candidates
        .find_map(|key| verified_claims(token, algorithm, key.key()))
        .ok_or(Refusal::Signature)
}

/// Verifies the signature of a JWT with this key, and returns its claims if it is good. What they
/// say is checked by the caller, so that each error has its own name, and times by the Clock port.
fn verified_claims(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Option<Claims> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    decode::<Claims>(token, key, &validation).ok().map(|data| data.claims)
}

/// The claims by name. A name that occurs twice makes a token invalid (RFC 7519 section 4):
/// verifiers would differ on it.
struct Claims(HashMap<String, Value>);

impl Claims {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }
}

const DUPLICATE_CLAIM: &str = "a claim occurs twice";

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
                        return Err(A::Error::custom(DUPLICATE_CLAIM));
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
