//! No token is accepted but those that were signed, and none is a panic.

#![no_main]

use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use sessiond::auth::{Issuer, Subject, TokenRules, TokenVerifier};
use testkit::fixtures;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| {
    let rules = TokenRules {
        issuer: None,
        audiences: Vec::new(),
        subject: Subject::Uuid,
        session_claim: "sid".into(),
        types: vec!["at+jwt".into(), "jwt".into()],
    };
    TokenVerifier::new(vec![Issuer::new(rules).with_secret(SECRET)], fixtures::clock())
});

fuzz_target!(|data: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let accepted = |token: &str| runtime.block_on(VERIFIER.verify(token)).is_ok();
    // Any text.
    if let Ok(token) = std::str::from_utf8(data) {
        assert!(!accepted(token), "{token}");
    }
    // Any claims, signed well: they must name a user, a session and an expiry.
    let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(data) else { return };
    let header = Header::new(Algorithm::HS256);
    let Ok(token) = encode(&header, &claims, &EncodingKey::from_secret(SECRET)) else { return };
    if accepted(&token) {
        assert!(
            claims["sub"].is_string() && claims["sid"].is_string() && claims["exp"].is_number(),
            "{claims:?}"
        );
    }
});
