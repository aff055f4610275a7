use std::path::Path;

use anyhow::{Context, Result, bail};
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
    /// The key in a PEM file (SubjectPublicKeyInfo), of whichever of the accepted kinds it is.
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
        .with_context(|| format!("{} holds no RSA, EC P-256 or Ed25519 public key in PEM", path.display()))?;
        Ok(Self { id: None, algorithm, key })
    }

    /// The usable keys of a JWK Set (RFC 7517 section 5). Keys of other kinds, or for encryption, are passed over, as the
    /// section says; so are symmetric ones, which nobody may publish.
    ///
    /// # Errors
    /// If the text is no JWK Set, or has no usable key.
    pub fn from_jwk_set(text: &[u8]) -> Result<Vec<Self>> {
        #[derive(Deserialize)]
        struct JwkSet {
            keys: Vec<Value>,
        }
        let set: JwkSet = serde_json::from_slice(text).context("not a JWK Set")?;
        let jwks = set.keys.into_iter().filter_map(|value| serde_json::from_value::<Jwk>(value).ok());
        let keys: Vec<_> = jwks.filter_map(|jwk| Self::from_jwk(&jwk)).collect();
        if keys.is_empty() {
            bail!("the JWK Set has no RSA, EC P-256 or Ed25519 key for signatures");
        }
        Ok(keys)
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let for_signatures = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let for_algorithm = jwk.common.key_algorithm.is_none_or(|name| name.to_string() == format!("{algorithm:?}"));
        if !for_signatures || !for_algorithm {
            return None;
        }
        Some(Self { id: jwk.common.key_id.clone(), algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
    }

    pub(super) fn key(&self) -> &DecodingKey {
        &self.key
    }

    /// Whether a token with this header may have been signed by this key.
    pub(super) fn fits(&self, algorithm: Algorithm, key_id: Option<&str>) -> bool {
        self.algorithm == algorithm
            && match (&self.id, key_id) {
                (Some(id), Some(key_id)) => id == key_id,
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_jwk_set_yields_its_usable_keys() {
        let ed25519 =
            json!({ "kty": "OKP", "crv": "Ed25519", "kid": "1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        let others = json!([
            { "kty": "oct", "kid": "2", "k": "AAAA" },
            { "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" },
            { "kty": "unheard-of" },
            { "kty": "OKP", "crv": "Ed25519", "use": "enc", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
        ]);
        let mut all = others.as_array().unwrap().clone();
        all.push(ed25519);
        let keys = VerificationKey::from_jwk_set(json!({ "keys": all }).to_string().as_bytes()).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys[0].fits(Algorithm::EdDSA, Some("1")) && keys[0].fits(Algorithm::EdDSA, None));
        assert!(!keys[0].fits(Algorithm::EdDSA, Some("2")) && !keys[0].fits(Algorithm::HS256, Some("1")));

        assert!(VerificationKey::from_jwk_set(json!({ "keys": others }).to_string().as_bytes()).is_err());
        assert!(VerificationKey::from_jwk_set(b"<html>").is_err());
    }
}
