//! A running `sessiond`, and a client that speaks to it.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use testkit::TemporaryDir;

/// A user.
pub const ALICE: &str = "00000000-0000-4000-8000-00000000000a";
/// Another user.
pub const BOB: &str = "00000000-0000-4000-8000-00000000000b";

/// Returns the program that is tested, built from the present sources: `sessiond` with fail points
/// compiled in, which are off unless `FAILPOINTS` is set. `tests/documents` runs the binary that is
/// shipped.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| example("sessiond-with-fail-points"))
}

/// Builds an example of the tests, and returns its path.
pub fn example(example: &str) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    // The same selection as `cargo test --workspace`, so that nothing is compiled twice.
    build.args(["build", "--quiet", "--workspace", "--example", example]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
    assert!(built.success(), "{example} does not build");
    profile_dir().join("examples").join(example)
}

/// Returns where cargo puts what it builds in the profile of this test, such as `target/debug`.
pub fn profile_dir() -> PathBuf {
    // This test is target/<profile>/deps/<name>.
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().to_owned()
}

/// Returns a `sessiond` command in this directory, on free ports, with no configuration but
/// `settings`.
pub fn sessiond(dir: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(dir);
    use_free_ports(&mut command);
    // Nothing balances the load of most tests.
    command.env("SESSIOND_SERVER__SHUTDOWN_DELAY", "0s");
    command.envs(settings.iter().copied());
    command
}

/// Makes a command listen on free ports, without the configuration that this process has in its
/// environment.
pub fn use_free_ports(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SESSIOND_")) {
        command.env_remove(name);
    }
    command
        .env("SESSIOND_SERVER__LISTEN", "127.0.0.1:0")
        .env("SESSIOND_SERVER__SERVICE_LISTEN", "127.0.0.1:0");
}

/// Runs a command to its end. Panics after 30 seconds: a command that should fail must not serve
/// instead.
pub fn run(command: &mut Command) -> Output {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(30) {
            let _ = child.kill();
            panic!("{command:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// A running node; killed when dropped.
pub struct Node {
    /// Its process.
    pub child: Child,
    /// Its working directory.
    pub dir: TemporaryDir,
    /// Where its public listener is.
    pub public: String,
    /// Where its service listener is.
    pub service: String,
    /// Speaks to it.
    pub http: reqwest::Client,
    service_key: String,
    /// Empty, if it has other keys than those for development.
    token_secret: String,
}

/// Returns an HS256 token that is good for an hour.
#[expect(clippy::disallowed_methods, reason = "the program under test reads the real clock")]
pub fn mint(secret: &str, user: &str, session: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({ "sub": user, "sid": session, "exp": now + 3600 });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// Returns a session without what its own requests change.
pub fn but_for_use(mut session: Value) -> Value {
    for field in ["last_activity_at", "last_ip_address"] {
        assert!(session.as_object_mut().unwrap().remove(field).is_some());
    }
    session
}

/// Sends a request again for ten seconds while the response is 503, as a client should: tests that
/// are about something else must not fail because the machine writes slowly.
async fn send_until_available(request: reqwest::RequestBuilder) -> reqwest::Response {
    let started = Instant::now();
    loop {
        let response = request.try_clone().unwrap().send().await.unwrap();
        if response.status() != 503 || started.elapsed() > Duration::from_secs(10) {
            return response;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was read of a session.
pub struct Reply {
    /// The status of the response.
    pub status: u16,
    /// Its header of that name.
    pub cache_status: String,
    /// Its body, if that is JSON.
    pub body: Value,
}

impl Node {
    /// Starts a node and waits until it serves.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_in(TemporaryDir::new(), settings).await
    }

    /// Starts a node in this directory.
    pub async fn start_in(dir: TemporaryDir, settings: &[(&str, &str)]) -> Self {
        Self::start_command(&mut sessiond(dir.path(), settings), dir).await
    }

    /// Starts the demo with this seed. Its folder is in the node's.
    pub async fn start_demo(seed: u64) -> Self {
        let dir = TemporaryDir::new();
        let mut command = sessiond(dir.path(), &[]);
        command.args(["demo", "--seed", &seed.to_string(), "--listen", "127.0.0.1:0"]);
        command.args(["--service-listen", "127.0.0.1:0"]).env("TMPDIR", dir.path());
        Self::start_command(&mut command, dir).await
    }

    /// Starts a node by this command, whose data are in this directory.
    pub async fn start_command(command: &mut Command, dir: TemporaryDir) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        // The last line of the greeting that every node prints.
        while !greeting.lines().any(|line| line.trim_start().starts_with("cache ")) {
            if lines.read_line(&mut greeting).unwrap() == 0 {
                panic!("sessiond ended: {}", rest(child.stderr.take().unwrap()));
            }
        }
        let address = |name: &str| {
            let line = greeting.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.split_whitespace().last().unwrap().to_owned()
        };
        let public = address("end users");
        let service = address("service");
        // The pipes must not fill up.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let mut errors = child.stderr.take().unwrap();
        let log = dir.path().join("log");
        let mut file = std::fs::File::create(log).unwrap();
        std::thread::spawn(move || std::io::copy(&mut errors, &mut file));
        let key = |name: &str| {
            std::fs::read_to_string(dir.path().join(name)).unwrap_or_default().trim().to_owned()
        };
        let (service_key, token_secret) =
            (key("sessiond-dev-service-key"), key("sessiond-dev-token-secret"));
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        Self { child, dir, public, service, http, service_key, token_secret }
    }

    /// Returns the key of the service listener.
    pub fn service_key(&self) -> &str {
        &self.service_key
    }

    /// Returns what the node has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Uses another service key than the development key.
    pub fn with_service_key(mut self, key: &str) -> Self {
        self.service_key = key.to_owned();
        self
    }

    /// Signs a user in; the status.
    pub async fn sign_in(&self, user: &str) -> u16 {
        self.post_session(user).send().await.unwrap().status().as_u16()
    }

    fn post_session(&self, user: &str) -> reqwest::RequestBuilder {
        let body = json!({ "user_id": user, "ip_address": "192.0.2.7", "user_agent": "curl/8.0" });
        let request = self.http.post(format!("{}/service/v1/sessions", self.service));
        request.bearer_auth(&self.service_key).json(&body)
    }

    /// Signs a user in; the session's id. Tried again while the node is too busy.
    pub async fn create(&self, user: &str) -> String {
        let response = send_until_available(self.post_session(user)).await;
        assert_eq!(response.status(), 201);
        response.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Sends a GET with a bearer token.
    pub async fn get(&self, url: &str, token: &str) -> Reply {
        let response = self.http.get(url).bearer_auth(token).send().await.unwrap();
        let header = |name: &str| {
            response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let status = response.status().as_u16();
        let cache_status = header("cache-status");
        Reply { status, cache_status, body: response.json().await.unwrap_or_default() }
    }

    /// Reads a session as an end user; all of them, if it is empty.
    pub async fn read(&self, session: &str, token: &str) -> Reply {
        self.get(&self.session_url(session), token).await
    }

    /// Revokes a session as an end user; all others, if it is empty. Returns the status.
    pub async fn delete(&self, session: &str, token: &str) -> u16 {
        let request = self.http.delete(self.session_url(session)).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    }

    /// Names a device as an end user. Returns the status.
    pub async fn rename(&self, session: &str, token: &str, name: &str) -> u16 {
        let request = self
            .http
            .patch(self.session_url(session))
            .bearer_auth(token)
            .json(&json!({ "name": name }));
        request.send().await.unwrap().status().as_u16()
    }

    fn session_url(&self, session: &str) -> String {
        format!("{}/api/v1/sessions/{session}", self.public).trim_end_matches('/').to_owned()
    }

    /// Reads a session as the backend, for a user.
    pub async fn service_read(&self, session: &str, user: &str) -> Reply {
        let url = format!("{}/service/v1/sessions/{session}?user_id={user}", self.service);
        self.get(&url, &self.service_key).await
    }

    /// Reads a session for a user until a cache serves it, such as `near` or `redis`, and returns
    /// that reply. A cache may be passed over where the machine is busy: Redis after 30 ms, every
    /// cache after half a second without a poll.
    pub async fn read_from_cache(&self, session: &str, user: &str, cache: &str) -> Reply {
        let started = Instant::now();
        let expected = format!("sessiond; hit; detail={cache}");
        loop {
            let reply = self.service_read(session, user).await;
            assert!(matches!(reply.status, 200 | 503), "{}: {}", reply.status, reply.body);
            if reply.cache_status == expected {
                return reply;
            }
            let log = self.log();
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{cache} does not serve it: {}\n{log}",
                reply.cache_status
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a request of the backend, with a JSON body; returns status and body. Tried again while
    /// the node is too busy.
    pub async fn service(&self, method: reqwest::Method, path: &str, body: Value) -> (u16, Value) {
        let response = send_until_available(self.service_request(method, path, &body)).await;
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Sends a request of the backend once, for tests of 503; returns status and body.
    pub async fn service_once(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let response = self.service_request(method, path, &body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    fn service_request(
        &self,
        method: reqwest::Method,
        path: &str,
        body: &Value,
    ) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}/service/v1/{path}", self.service));
        request.bearer_auth(&self.service_key).json(body)
    }

    /// Revokes a session as the backend, and waits until that is effective. Tried again while the
    /// node is too busy.
    pub async fn revoke(&self, session: &str) {
        let url = format!("{}/service/v1/sessions/{session}", self.service);
        let response =
            send_until_available(self.http.delete(url).bearer_auth(&self.service_key)).await;
        assert_eq!(response.status(), 204);
    }

    /// Ends a session, and does not wait until that is final; returns status and body.
    pub async fn revoke_without_waiting(&self, session: &str) -> (u16, Value) {
        let request = self.http.delete(format!("{}/service/v1/sessions/{session}", self.service));
        let request = request.bearer_auth(&self.service_key).header("prefer", "respond-async");
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Opens a stream of events after this id.
    pub async fn event_stream(&self, last_event_id: Option<&str>) -> reqwest::Response {
        let request = self.http.get(format!("{}/service/v1/events/stream", self.service));
        let mut request = request.timeout(Duration::from_secs(300));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = request.bearer_auth(&self.service_key).send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    }

    /// Returns what a command prints that speaks to this node.
    pub fn command(&self, arguments: &[&str]) -> String {
        let settings = [("SESSIOND_CLIENT__SERVICE_KEY", self.service_key.as_str())];
        let output = run(sessiond(self.dir.path(), &settings)
            .args(arguments)
            .args(["--url", &self.service]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends the node in order, and returns how long that took.
    pub fn stop(&mut self) -> Duration {
        self.signal("TERM");
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return started.elapsed();
            }
            assert!(started.elapsed() < Duration::from_secs(15), "did not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Gets a page without a key, such as `/metrics`.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.service)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Returns a token for a user in a session, signed with the development key as
    /// `sessiond token mint` does, but in this process.
    pub fn mint(&self, user: &str, session: &str) -> String {
        mint(&self.token_secret, user, session)
    }

    /// Sends the node a signal.
    pub fn signal(&self, name: &str) {
        let kill =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn rest(mut stderr: ChildStderr) -> String {
    let mut text = String::new();
    let _ = stderr.read_to_string(&mut text);
    text
}
