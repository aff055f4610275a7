use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jsonwebtoken::Algorithm;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::verification_key::VerificationKey;

/// Keys this old are fetched again, in the background.
const REFRESH_AFTER: Duration = Duration::from_secs(5 * 60);
/// Keys this old are used no more: an issuer that was unreachable for so long may have withdrawn them.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The least time between two fetches, however many unknown key ids are presented.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// The same while there are no keys at all.
const MIN_INTERVAL_WITHOUT_KEYS: Duration = Duration::from_secs(1);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request waits for a fetch; the fetch goes on.
const REQUEST_WAIT: Duration = Duration::from_millis(900);
/// The largest JWK Set that is read.
const MAX_BYTES: usize = 256 * 1024;

/// The keys that a token issuer publishes at a URL (RFC 7517 section 5): cached, refreshed ahead, fetched again when a token
/// names an unknown key, by one task at a time.
#[derive(Clone)]
pub struct RemoteJwks(Arc<Shared>);

/// What one fetch brought.
#[derive(Default)]
pub struct PublishedKeys {
    /// The keys that can be used.
    pub keys: Vec<VerificationKey>,
    /// Which fetch it was: what an earlier one's keys have verified is not verified by these.
    pub number: u64,
}

struct Shared {
    url: String,
    client: reqwest::Client,
    state: RwLock<State>,
    /// Held by the one task that fetches.
    fetching: Mutex<()>,
}

#[derive(Default)]
struct State {
    published: Arc<PublishedKeys>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
}

impl RemoteJwks {
    /// The keys at `url`, not fetched yet.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(url: String) -> Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // A redirect could lead anywhere; the operator names the place.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self(Arc::new(Shared { url, client, state: RwLock::default(), fetching: Mutex::default() })))
    }

    /// The present keys, among them one that fits if the issuer has one; `None` if there are none that may be used.
    pub async fn keys_for(&self, algorithm: Algorithm, key_id: Option<&str>) -> Option<Arc<PublishedKeys>> {
        let present = self.present();
        if present.as_ref().is_some_and(|present| present.keys.iter().any(|key| key.fits(algorithm, key_id))) {
            return present;
        }
        // In a task of its own: a caller who goes away does not cancel what others wait for.
        let _ = tokio::time::timeout(REQUEST_WAIT, tokio::spawn(self.clone().refresh())).await;
        self.present()
    }

    /// The present keys, if they may be used. Old ones are fetched again, in the background.
    pub fn present(&self) -> Option<Arc<PublishedKeys>> {
        let (published, age) = {
            let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.published.clone(), state.fetched_at?.elapsed())
        };
        // One task, not one a request: whoever finds it fetching leaves it alone.
        if age >= REFRESH_AFTER && self.may_fetch() && self.0.fetching.try_lock().is_ok() {
            tokio::spawn(self.clone().refresh());
        }
        (age < MAX_AGE).then_some(published)
    }

    /// Fetches the keys once, whatever is there already: for the operator's `doctor`.
    ///
    /// # Errors
    /// If the issuer does not answer, or with something else.
    pub async fn fetch(&self) -> Result<usize> {
        let keys = self.download().await?;
        Ok(keys.len())
    }

    /// Whether the last fetch is long enough ago.
    fn may_fetch(&self) -> bool {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        let interval = if state.fetched_at.is_some() { MIN_INTERVAL } else { MIN_INTERVAL_WITHOUT_KEYS };
        state.tried_at.is_none_or(|at| at.elapsed() >= interval)
    }

    /// Fetches the keys unless somebody did a moment ago. Whoever comes while one fetches waits for its outcome.
    async fn refresh(self) {
        let _fetching = self.0.fetching.lock().await;
        if !self.may_fetch() {
            return;
        }
        let fetched = self.download().await;
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.tried_at = Some(now);
        match fetched {
            Ok(keys) => {
                tracing::info!(keys = keys.len(), "fetched the token issuer's keys");
                state.published = Arc::new(PublishedKeys { keys, number: state.published.number + 1 });
                state.fetched_at = Some(now);
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot fetch the token issuer's keys"),
        }
    }

    async fn download(&self) -> Result<Vec<VerificationKey>> {
        let response = self.0.client.get(&self.0.url).send().await.map_err(reqwest::Error::without_url)?;
        let mut response = response.error_for_status().map_err(reqwest::Error::without_url)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                bail!("the JWK Set is larger than {MAX_BYTES} bytes");
            }
        }
        VerificationKey::from_jwk_set(&body)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    /// A token issuer that publishes one Ed25519 key under this id, or nothing if it is empty.
    struct Issuer {
        key_id: Arc<std::sync::Mutex<String>>,
        fetches: Arc<AtomicUsize>,
    }

    impl Issuer {
        fn start() -> (Self, RemoteJwks) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let remote = RemoteJwks::new(format!("http://{}/", listener.local_addr().unwrap())).unwrap();
            let issuer = Self { key_id: Arc::default(), fetches: Arc::default() };
            let (key_id, fetches) = (issuer.key_id.clone(), issuer.fetches.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    fetches.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.read(&mut [0; 4096]);
                    let (id, x) = (key_id.lock().unwrap().clone(), "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
                    let status = if id.is_empty() { "503 Service Unavailable" } else { "200 OK" };
                    let body = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": x }] }).to_string();
                    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}", body.len());
                    let _ = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
                }
            });
            (issuer, remote)
        }

        fn publish(&self, key_id: &str) {
            *self.key_id.lock().unwrap() = key_id.to_owned();
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::SeqCst)
        }
    }

    /// Whether there are keys, and one with this id among them.
    async fn has(remote: &RemoteJwks, key_id: &str) -> Option<bool> {
        let published = remote.keys_for(Algorithm::EdDSA, Some(key_id)).await?;
        Some(published.keys.iter().any(|key| key.fits(Algorithm::EdDSA, Some(key_id))))
    }

    async fn pass(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn a_rotated_key_is_found_when_it_is_asked_for_and_the_old_one_is_withdrawn() {
        let (issuer, remote) = Issuer::start();
        issuer.publish("old");
        assert_eq!(has(&remote, "old").await, Some(true));
        issuer.publish("new");
        assert_eq!(has(&remote, "new").await, Some(false), "asked again too soon");
        assert_eq!(issuer.fetches(), 1);

        pass(MIN_INTERVAL).await;
        assert_eq!(has(&remote, "new").await, Some(true));
        assert_eq!((has(&remote, "old").await, issuer.fetches()), (Some(false), 2));
    }

    #[tokio::test]
    async fn keys_are_refreshed_ahead_in_the_background() {
        let (issuer, remote) = Issuer::start();
        issuer.publish("old");
        assert_eq!(has(&remote, "old").await, Some(true));
        issuer.publish("new");
        pass(REFRESH_AFTER).await;
        // Answered at once from what is there; fetched meanwhile.
        assert_eq!(has(&remote, "old").await, Some(true));
        while has(&remote, "old").await == Some(true) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((has(&remote, "new").await, issuer.fetches()), (Some(true), 2));
    }

    #[tokio::test]
    async fn the_last_keys_outlive_the_issuer_for_a_day_and_no_longer() {
        let (issuer, remote) = Issuer::start();
        assert_eq!(has(&remote, "only").await, None, "never had any");
        issuer.publish("only");
        pass(MIN_INTERVAL_WITHOUT_KEYS).await;
        assert_eq!(has(&remote, "only").await, Some(true));
        issuer.publish("");
        pass(MAX_AGE - Duration::from_secs(60)).await;
        assert_eq!(has(&remote, "only").await, Some(true));
        pass(Duration::from_secs(60)).await;
        assert_eq!(has(&remote, "only").await, None);
    }
}
