//! Who is calling: end users by signed tokens or session tokens, the application's backend by
//! service keys.
//!
//! Knows nothing about HTTP: it is given the text of a credential and returns whose it is.

mod dev_keys;
mod jwks;
mod jwt;
mod service_keys;
pub mod session_token;
mod token;
mod verification_key;
mod verified_tokens;

pub use dev_keys::DevKeys;
pub use jwks::RemoteJwks;
pub use jwt::{Issuer, Subject, TokenRules, TokenVerifier};
pub use service_keys::{Scope, Scopes, ServiceKey, ServiceKeys};
pub use token::{Refusal, TokenError, VerifiedToken};
pub use verification_key::{KeySet, VerificationKey};
