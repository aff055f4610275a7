//! Real keys: HS256 from a file, RS256, ES256 and EdDSA from PEM, JWK Sets from a file and a URL;
//! service keys by hash.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use testkit::TemporaryDir;

use crate::openssl::key_pair;
use sessiond_tests::node::{ALICE, Node, run, sessiond};

struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    public_pem: String,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        let dir = TemporaryDir::new();
        let (private, public_pem) = match algorithm {
            Algorithm::RS256 => key_pair(dir.path(), "RSA", &["rsa_keygen_bits:2048"]),
            Algorithm::ES256 => key_pair(dir.path(), "EC", &["ec_paramgen_curve:P-256"]),
            _ => key_pair(dir.path(), "ED25519", &[]),
        };
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(private.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(private.as_bytes()),
            _ => EncodingKey::from_ed_pem(private.as_bytes()),
        };
        Self { algorithm, key: key.unwrap(), public_pem }
    }

    fn jwk(&self, id: &str) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn token(&self, id: Option<&str>, session: &str) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(self.algorithm) };
        encode(&header, &claims(session), &self.key).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "the binary under test reads the real clock")]
fn claims(session: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({ "sub": ALICE, "sid": session, "exp": now + 600 })
}

async fn status(node: &Node, session: &str, token: &str) -> u16 {
    node.read(session, token).await.status
}

#[tokio::test]
async fn each_kind_of_public_key_is_read_from_pem_and_is_no_secret() {
    for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA] {
        let signer = Signer::new(algorithm);
        let other = Signer::new(algorithm);
        let dir = TemporaryDir::new();
        std::fs::write(dir.path().join("key.pem"), &signer.public_pem).unwrap();
        let node = Node::start_in(dir, &[("SESSIOND_AUTH__JWT__PUBLIC_KEY_FILE", "key.pem")]).await;
        let session = node.create(ALICE).await;
        assert_eq!(
            status(&node, &session, &signer.token(None, &session)).await,
            200,
            "{algorithm:?}"
        );
        assert_eq!(
            status(&node, &session, &signer.token(Some("any"), &session)).await,
            200,
            "{algorithm:?}"
        );
        assert_eq!(
            status(&node, &session, &other.token(None, &session)).await,
            401,
            "{algorithm:?}"
        );

        // The public key, taken for the secret of an HS256 token.
        let secret = EncodingKey::from_secret(signer.public_pem.as_bytes());
        let confused = encode(&Header::new(Algorithm::HS256), &claims(&session), &secret).unwrap();
        assert_eq!(status(&node, &session, &confused).await, 401, "{algorithm:?}");

        // With real keys there is no development secret, and tokens are not minted with one.
        assert!(!node.dir.path().join("sessiond-dev-token-secret").exists());
        let mint = ["token", "mint", "--user", ALICE, "--session", &session];
        let settings = [("SESSIOND_AUTH__JWT__PUBLIC_KEY_FILE", "key.pem")];
        let refused = run(sessiond(node.dir.path(), &settings).args(mint));
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("development key only"));
    }
}

#[tokio::test]
async fn a_secret_is_read_from_a_file_and_a_jwk_set_beside_it() {
    let signers = [Signer::new(Algorithm::ES256), Signer::new(Algorithm::EdDSA)];
    let dir = TemporaryDir::new();
    let secret = "0123456789abcdef0123456789abcdef";
    std::fs::write(dir.path().join("secret"), format!("{secret}\n")).unwrap();
    let keys = json!({ "keys": [signers[0].jwk("a"), signers[1].jwk("b")] });
    std::fs::write(dir.path().join("jwks.json"), keys.to_string()).unwrap();
    let settings = [
        ("SESSIOND_AUTH__JWT__HS256_SECRET_FILE", "secret"),
        ("SESSIOND_AUTH__JWT__JWKS_FILE", "jwks.json"),
        ("SESSIOND_AUTH__JWT__SESSION_CLAIM", "session_id"),
    ];
    let node = Node::start_in(dir, &settings).await;
    let session = node.create(ALICE).await;
    let mut claims = claims(&session);
    claims["session_id"] = claims["sid"].take();
    for (header, key) in [
        (Header::new(Algorithm::HS256), &EncodingKey::from_secret(secret.as_bytes())),
        (Header { kid: Some("a".into()), ..Header::new(Algorithm::ES256) }, &signers[0].key),
        (Header { kid: Some("b".into()), ..Header::new(Algorithm::EdDSA) }, &signers[1].key),
        (Header::new(Algorithm::EdDSA), &signers[1].key),
    ] {
        assert_eq!(
            status(&node, &session, &encode(&header, &claims, key).unwrap()).await,
            200,
            "{header:?}"
        );
    }
    let wrong_id = Header { kid: Some("b".into()), ..Header::new(Algorithm::ES256) };
    assert_eq!(
        status(&node, &session, &encode(&wrong_id, &claims, &signers[0].key).unwrap()).await,
        401
    );
}

/// A token issuer that publishes a JWK Set, and counts how often it is asked.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Option<Value>>>,
    fetches: Arc<AtomicUsize>,
}

impl Issuer {
    /// `None`: it responds with 500.
    fn start(keys: Option<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        let issuer = Self { url, keys: Arc::new(Mutex::new(keys)), fetches: Arc::default() };
        let keys = issuer.keys.clone();
        let fetches = issuer.fetches.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                fetches.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]);
                let response = match &*keys.lock().unwrap() {
                    None => {
                        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: \
                            close\r\n\r\n"
                            .into()
                    }
                    Some(keys) => {
                        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n";
                        let body = keys.to_string();
                        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
                    }
                };
                let _ = stream.write_all(response.as_bytes());
            }
        });
        issuer
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_keys_are_fetched_once_for_many_and_not_again_for_every_unknown_id() {
    let signer = Signer::new(Algorithm::ES256);
    let issuer = Issuer::start(Some(json!({ "keys": [signer.jwk("1")] })));
    let node = Arc::new(Node::start(&[("SESSIOND_AUTH__JWT__JWKS_URL", &issuer.url)]).await);
    let session = node.create(ALICE).await;

    let token = signer.token(Some("1"), &session);
    let readers: Vec<_> = (0..16)
        .map(|_| {
            let node = node.clone();
            let session = session.clone();
            let token = token.clone();
            tokio::spawn(async move { node.read(&session, &token).await.status })
        })
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), 200);
    }
    assert_eq!(issuer.fetches(), 1, "at the start, and not for each reader");

    for id in 0..20 {
        assert_eq!(
            status(&node, &session, &signer.token(Some(&format!("unknown-{id}")), &session)).await,
            401
        );
    }
    assert_eq!(issuer.fetches(), 1, "a flood of unknown ids is not passed on");

    // The issuer going away changes nothing for those whose keys are known.
    *issuer.keys.lock().unwrap() = None;
    assert_eq!(status(&node, &session, &token).await, 200);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_503_and_not_logged_out() {
    let signer = Signer::new(Algorithm::EdDSA);
    let issuer = Issuer::start(None);
    let node = Node::start(&[("SESSIOND_AUTH__JWT__JWKS_URL", &issuer.url)]).await;
    let session = node.create(ALICE).await;
    let token = signer.token(Some("1"), &session);
    let reply = node.read(&session, &token).await;
    assert_eq!((reply.status, reply.body["code"].as_str()), (503, Some("dependency_unavailable")));

    // Asked again a second later, it is back, and so is the user.
    *issuer.keys.lock().unwrap() = Some(json!({ "keys": [signer.jwk("1")] }));
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(status(&node, &session, &token).await, 200);
}

#[tokio::test]
async fn service_keys_are_known_by_their_hashes() {
    // printf %s "$KEY" | sha256sum
    let hashes = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683, \
                  5E884898DA28047151D0E56F8DC6292773603D0D6AABBDD62A11EF721D1542D8";
    for key in ["key", "password"] {
        let node = Node::start(&[("SESSIOND_AUTH__SERVICE_KEY_HASHES", hashes)]).await;
        assert!(!node.dir.path().join("sessiond-dev-service-key").exists());
        let url = node.service.clone();
        let node = node.with_service_key(key);
        let session = node.create(ALICE).await;
        assert_eq!(
            node.get(&format!("{url}/service/v1/sessions/{session}"), "wrong").await.status,
            403
        );

        let settings = [("SESSIOND_CLIENT__SERVICE_KEY", key)];
        let output =
            run(sessiond(node.dir.path(), &settings)
                .args(["session", "get", &session, "--url", &url]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
