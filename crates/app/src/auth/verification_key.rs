//! Public keys that verify tokens: from PEM files and JWK Sets.

use std::path::Path;

use anyhow::{Context, Result};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// A public key and the one algorithm it is for: the key decides, never the token.
pub struct VerificationKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerificationKey {
    /// Creates the key in a PEM file (SubjectPublicKeyInfo), of whichever of the accepted kinds it
    /// is.
    ///
    /// # Errors
    /// If the file cannot be read or holds no such key.
    pub fn from_pem_file(path: &Path) -> Result<Self> {
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (algorithm, key) = [
            (Algorithm::RS256, DecodingKey::from_rsa_pem(&pem)),
            (Algorithm::ES256, DecodingKey::from_ec_pem(&pem)),
            (Algorithm::EdDSA, DecodingKey::from_ed_pem(&pem)),
        ]
        .into_iter()
        .find_map(|(algorithm, key)| Some((algorithm, key.ok()?)))
        .with_context(|| {
            format!("{} holds no RSA, EC P-256 or Ed25519 public key in PEM", path.display())
        })?;
        Ok(Self { id: None, algorithm, key })
    }

    /// Returns the key, or why it cannot be used.
    fn from_jwk(jwk: &Jwk) -> Result<Self, &'static str> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::EllipticCurve(_) => return Err("its curve is not P-256"),
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            AlgorithmParameters::OctetKeyPair(_) => return Err("its curve is not Ed25519"),
            AlgorithmParameters::OctetKey(_) => {
                return Err("it is symmetric, and must not be published");
            }
            _ => return Err("it is of an unknown kind"),
        };
        if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
            return Err("it is not for signatures");
        }
        if jwk.common.key_algorithm.is_some_and(|name| name.to_string() != format!("{algorithm:?}"))
        {
            return Err("its algorithm is not RS256, ES256 or EdDSA");
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "it is broken")?;
        // A broken key would be found only by the first token that it should verify.
        if !verifies(&key, algorithm) {
            return Err("it is broken");
        }
        Ok(Self { id: jwk.common.key_id.clone(), algorithm, key })
    }

    pub(super) fn key(&self) -> &DecodingKey {
        &self.key
    }

    /// Returns whether a token with this header may have been signed by this key.
    pub(super) fn fits(&self, algorithm: Algorithm, key_id: Option<&str>) -> bool {
        self.algorithm == algorithm
            && match (&self.id, key_id) {
                (Some(id), Some(key_id)) => id == key_id,
                _ => true,
            }
    }
}

/// The keys of a JWK Set, and those that cannot be used.
pub struct KeySet {
    /// The keys that verify tokens.
    pub keys: Vec<VerificationKey>,
    /// The id of each other one, and why it is ignored.
    pub unusable: Vec<String>,
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517 section 5). Keys of other kinds, or for encryption, are passed
    /// over, as the section says. A set without a usable key is still a set: its issuer has
    /// withdrawn what it had.
    ///
    /// # Errors
    /// If the text is no JWK Set.
    pub fn parse(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct JwkSet {
            keys: Vec<Value>,
        }
        let set: JwkSet = serde_json::from_slice(text).context("not a JWK Set")?;
        let mut parsed = Self { keys: Vec::new(), unusable: Vec::new() };
        for value in set.keys {
            let jwk = serde_json::from_value::<Jwk>(value.clone())
                .map_err(|_| "it is of an unknown kind, or broken");
            match jwk.and_then(|jwk| VerificationKey::from_jwk(&jwk)) {
                Ok(key) => parsed.keys.push(key),
                Err(why) => parsed.unusable.push(format!("{}: {why}", describe(&value))),
            }
        }
        Ok(parsed)
    }
}

/// Names a key that may be anything.
fn describe(value: &Value) -> String {
    let text =
        |name: &str| value.get(name).and_then(Value::as_str).filter(|text| text.len() <= 128);
    match (text("kid"), text("kty")) {
        (Some(id), _) => format!("key {id:?}"),
        (None, Some(kind)) => format!("a key of kind {kind:?} without an id"),
        (None, None) => "a key without an id".to_owned(),
    }
}

/// Returns whether the library can use the key at all: it then says that a signature is wrong, and
/// not that it cannot verify any.
fn verifies(key: &DecodingKey, algorithm: Algorithm) -> bool {
    jsonwebtoken::crypto::verify(&"A".repeat(86), b"", key, algorithm).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn jwk_set_yields_its_usable_keys_and_names_the_others() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let ed25519 = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": x });
        let others = json!([
            { "kty": "oct", "kid": "2", "k": "AAAA" },
            { "kty": "EC", "kid": "3", "crv": "P-384", "x": "AA", "y": "AA" },
            { "kty": "unheard-of", "kid": "4" },
            { "kty": "OKP", "kid": "5", "crv": "Ed25519", "use": "enc", "x": x },
            7,
        ]);
        let mut all = others.as_array().unwrap().clone();
        all.push(ed25519);
        let parse =
            |keys: &Value| KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let set = parse(&json!(all));
        assert_eq!((set.keys.len(), set.unusable.len()), (1, 5), "{:?}", set.unusable);
        for (unusable, id) in
            set.unusable.iter().zip(["\"2\"", "\"3\"", "\"4\"", "\"5\"", "without an id"])
        {
            assert!(unusable.contains(id), "{unusable}");
        }
        let key = &set.keys[0];
        assert!(key.fits(Algorithm::EdDSA, Some("1")) && key.fits(Algorithm::EdDSA, None));
        assert!(!key.fits(Algorithm::EdDSA, Some("2")) && !key.fits(Algorithm::HS256, Some("1")));
    }

    #[test]
    fn set_without_usable_keys_is_a_set_and_other_text_is_none() {
        for keys in [json!([]), json!([{ "kty": "oct", "k": "AAAA" }])] {
            assert!(
                KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
                    .unwrap()
                    .keys
                    .is_empty()
            );
        }
        for text in ["<html>", "", "{}", "[]", r#"{"keys": 7}"#] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
