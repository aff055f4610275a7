//! The keys that a token issuer publishes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jsonwebtoken::Algorithm;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::verification_key::{KeySet, VerificationKey};
use crate::loopback::is_loopback;

/// How often the keys are fetched, whether or not they are used.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// How soon a fetch that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Keys this old are used no more: an issuer that was unreachable for so long may have withdrawn
/// them.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The least time between two fetches that requests ask for, however many unknown key ids are
/// presented.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// The same after a fetch that failed.
const MIN_INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long a fetch may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request waits for a fetch; the fetch goes on.
const REQUEST_WAIT: Duration = Duration::from_millis(900);
/// The largest JWK Set that is read.
const MAX_BYTES: usize = 256 * 1024;

/// The keys that a token issuer publishes at a URL (RFC 7517 section 5): cached, refreshed by a
/// timer, and fetched again when a token names an unknown key, by one task at a time.
///
/// What the issuer publishes replaces what it had published before, also where none of it can be
/// used: a key that is gone was withdrawn. Only an issuer that cannot be asked leaves its last keys
/// in use, for a day at most.
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
    unusable: Vec<String>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
    has_failed: bool,
}

impl RemoteJwks {
    /// Creates the keys at `url`, not fetched yet.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn new(url: String) -> Result<Self> {
        let is_loopback = reqwest::Url::parse(&url).is_ok_and(|url| is_loopback(&url));
        let builder = reqwest::Client::builder()
            .timeout(FETCH_TIMEOUT)
            // A redirect could lead anywhere; the operator names the URL.
            .redirect(reqwest::redirect::Policy::none());
        let builder = if is_loopback { builder.no_proxy() } else { builder };
        let client = builder.build().context("cannot make an HTTP client")?;
        Ok(Self(Arc::new(Shared {
            url,
            client,
            state: RwLock::default(),
            fetching: Mutex::default(),
        })))
    }

    /// Fetches the keys now and every five minutes, until this is the last handle to them.
    pub async fn keep_fresh(self) {
        let shared = Arc::downgrade(&self.0);
        drop(self);
        while let Some(shared) = shared.upgrade() {
            let remote = Self(shared);
            let has_failed = !remote.refresh(Duration::ZERO).await;
            remote.report_age();
            drop(remote);
            tokio::time::sleep(if has_failed { RETRY_INTERVAL } else { REFRESH_INTERVAL }).await;
        }
    }

    /// Adopts what another one has fetched from the same URL: reading the configuration again
    /// while the issuer is down must not lose its keys.
    pub(super) fn adopt(&self, earlier: &Self) {
        if self.0.url != earlier.0.url {
            return;
        }
        let (published, fetched_at) = {
            let state = earlier.0.state.read().unwrap_or_else(PoisonError::into_inner);
            (state.published.clone(), state.fetched_at)
        };
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.fetched_at.is_none() {
            (state.published, state.fetched_at) = (published, fetched_at);
        }
    }

    /// Returns the present keys, among them one that fits if the issuer has one; `None` if it
    /// cannot be known which keys it has.
    pub async fn keys_for(
        &self,
        algorithm: Algorithm,
        key_id: Option<&str>,
    ) -> Option<Arc<PublishedKeys>> {
        let fits = |present: &Arc<PublishedKeys>| {
            present.keys.iter().any(|key| key.fits(algorithm, key_id))
        };
        if let Some(present) = self.present().filter(fits) {
            return Some(present);
        }
        let interval = if self.has_failed() { MIN_INTERVAL_AFTER_FAILURE } else { MIN_INTERVAL };
        // In a task of its own: a caller who goes away does not cancel what others wait for.
        let refresh = tokio::spawn({
            let remote = self.clone();
            async move { remote.refresh(interval).await }
        });
        let has_responded = tokio::time::timeout(REQUEST_WAIT, refresh)
            .await
            .is_ok_and(|joined| joined.unwrap_or(false));
        // A key that is unknown here may be the issuer's newest: without its response it is not
        // known.
        self.present().filter(|present| has_responded || fits(present))
    }

    /// Returns the present keys, if they may be used.
    pub fn present(&self) -> Option<Arc<PublishedKeys>> {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.fetched_at?.elapsed() < MAX_AGE).then(|| state.published.clone())
    }

    /// Fetches the keys once, and returns how many can be used, and which cannot: for the
    /// operator's `doctor`.
    ///
    /// # Errors
    /// If the issuer does not respond, or with something else.
    pub async fn fetch(&self) -> Result<KeySet> {
        self.download().await
    }

    fn has_failed(&self) -> bool {
        self.0.state.read().unwrap_or_else(PoisonError::into_inner).has_failed
    }

    /// Fetches the keys unless that was done less than `interval` ago. A caller who comes while
    /// another one fetches waits for the outcome. Returns whether the last fetch brought a set.
    async fn refresh(&self, interval: Duration) -> bool {
        let _fetching = self.0.fetching.lock().await;
        {
            let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.tried_at.is_some_and(|at| at.elapsed() < interval) {
                return !state.has_failed;
            }
        }
        let fetched = self.download().await;
        let mut state = self.0.state.write().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.tried_at = Some(now);
        state.has_failed = fetched.is_err();
        match fetched {
            Ok(set) => {
                if set.unusable != state.unusable {
                    tracing::warn!(unusable = ?set.unusable, "ignored keys that the token \
                        issuer publishes");
                }
                if set.keys.is_empty() {
                    tracing::warn!(
                        "the token issuer publishes no key that can be used: its tokens are refused"
                    );
                } else {
                    tracing::debug!(keys = set.keys.len(), "fetched the token issuer's keys");
                }
                state.unusable = set.unusable;
                state.published =
                    Arc::new(PublishedKeys { keys: set.keys, number: state.published.number + 1 });
                state.fetched_at = Some(now);
            }
            Err(error) => {
                metrics::counter!("sessiond_jwks_fetch_failures_total").increment(1);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "cannot fetch the token issuer's keys"
                );
            }
        }
        !state.has_failed
    }

    fn report_age(&self) {
        let state = self.0.state.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = state.fetched_at {
            metrics::gauge!("sessiond_jwks_age_seconds").set(at.elapsed().as_secs_f64());
        }
    }

    async fn download(&self) -> Result<KeySet> {
        let response =
            self.0.client.get(&self.0.url).send().await.map_err(reqwest::Error::without_url)?;
        let mut response = response.error_for_status().map_err(reqwest::Error::without_url)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BYTES {
                bail!("the JWK Set is larger than {MAX_BYTES} bytes");
            }
        }
        KeySet::parse(&body)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    /// A token issuer that publishes one Ed25519 key under this id, no key if the id is "-", or
    /// that responds with 503 if it is empty.
    struct Issuer {
        key_id: Arc<std::sync::Mutex<String>>,
        fetches: Arc<AtomicUsize>,
    }

    impl Issuer {
        fn start() -> (Self, RemoteJwks) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let remote =
                RemoteJwks::new(format!("http://{}/", listener.local_addr().unwrap())).unwrap();
            let issuer = Self { key_id: Arc::default(), fetches: Arc::default() };
            let key_id = issuer.key_id.clone();
            let fetches = issuer.fetches.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    fetches.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.read(&mut [0; 4096]);
                    let id = key_id.lock().unwrap().clone();
                    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
                    let status = if id.is_empty() { "503 Service Unavailable" } else { "200 OK" };
                    let kind = if id == "-" { "oct" } else { "OKP" };
                    let body =
                        json!({ "keys": [{ "kty": kind, "crv": "Ed25519", "kid": id, "x": x }] })
                            .to_string();
                    let head = format!(
                        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}",
                        body.len()
                    );
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

    /// Whether there is a key with this id; `None` if that cannot be known.
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
    async fn rotated_key_is_found_when_a_token_names_it_and_the_old_one_is_withdrawn() {
        let (issuer, remote) = Issuer::start();
        issuer.publish("old");
        assert_eq!(has(&remote, "old").await, Some(true));
        issuer.publish("new");
        assert_eq!(has(&remote, "new").await, Some(false), "asked again too soon");
        assert_eq!(issuer.fetches(), 1);

        pass(MIN_INTERVAL).await;
        assert_eq!(has(&remote, "new").await, Some(true));
        assert_eq!(remote.present().unwrap().keys.len(), 1);
        assert!(remote.present().unwrap().keys[0].fits(Algorithm::EdDSA, Some("new")));
    }

    #[tokio::test]
    async fn unknown_key_is_not_known_to_be_wrong_while_the_issuer_is_down() {
        let (issuer, remote) = Issuer::start();
        issuer.publish("old");
        assert_eq!(has(&remote, "old").await, Some(true));
        issuer.publish("");
        pass(MIN_INTERVAL).await;
        for _ in 0..3 {
            assert_eq!(has(&remote, "new").await, None);
            assert_eq!(has(&remote, "old").await, Some(true), "known ones are good as before");
        }
        assert_eq!(issuer.fetches(), 2);
        issuer.publish("new");
        pass(MIN_INTERVAL_AFTER_FAILURE).await;
        assert_eq!(has(&remote, "new").await, Some(true));
    }

    #[tokio::test]
    async fn set_without_usable_keys_withdraws_the_earlier_ones() {
        let (issuer, remote) = Issuer::start();
        issuer.publish("old");
        assert_eq!(has(&remote, "old").await, Some(true));
        issuer.publish("-");
        pass(MIN_INTERVAL).await;
        assert_eq!(has(&remote, "new").await, Some(false));
        assert_eq!(has(&remote, "old").await, Some(false));
    }

    #[tokio::test]
    async fn keys_outlive_a_reload_while_the_issuer_is_down() {
        let (issuer, remote) = Issuer::start();
        issuer.publish("only");
        assert_eq!(has(&remote, "only").await, Some(true));
        issuer.publish("");
        let reloaded = RemoteJwks::new(remote.0.url.clone()).unwrap();
        let elsewhere = RemoteJwks::new("http://127.0.0.1:1/".to_owned()).unwrap();
        reloaded.adopt(&remote);
        elsewhere.adopt(&remote);
        assert_eq!(has(&reloaded, "only").await, Some(true));
        assert!(elsewhere.present().is_none());
    }

    #[tokio::test]
    async fn keys_are_refreshed_by_a_timer_and_no_longer_than_they_are_used() {
        let (issuer, remote) = Issuer::start();
        issuer.publish("old");
        let refreshing = tokio::spawn(remote.clone().keep_fresh());
        while remote.present().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        issuer.publish("-");
        pass(REFRESH_INTERVAL).await;
        while !remote.present().unwrap().keys.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(issuer.fetches(), 2);
        drop(remote);
        pass(REFRESH_INTERVAL).await;
        refreshing.await.unwrap();
    }

    #[tokio::test]
    async fn the_last_keys_outlive_the_issuer_for_a_day_and_no_longer() {
        let (issuer, remote) = Issuer::start();
        assert_eq!(has(&remote, "only").await, None, "never had any");
        issuer.publish("only");
        pass(MIN_INTERVAL_AFTER_FAILURE).await;
        assert_eq!(has(&remote, "only").await, Some(true));
        issuer.publish("");
        pass(MAX_AGE - Duration::from_secs(60)).await;
        assert_eq!(has(&remote, "only").await, Some(true));
        pass(Duration::from_secs(60)).await;
        assert_eq!(has(&remote, "only").await, None);
    }
}
