//! Clients that read, sign in and revoke while faults are injected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use fastrand::Rng;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sessiond_tests::node::{Node, mint};
use tokio::sync::Mutex;

use crate::cluster::{Cluster, NODES, SECRET};
use crate::ledger::{ACTIVITY, Asked, Id, Ledger, Response};

pub(crate) const USERS: usize = 40;
/// Live sessions that are kept.
const SESSIONS: usize = 160;
/// How long a client waits for a response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// When a revocation by direct SQL is effective: after max_staleness, and what a busy machine adds.
const DIRECT_SQL: Duration = Duration::from_millis(550);

/// How far names may be behind: a minute of the caches in the processes after ten of Redis, and an
/// response on its way.
const LAG: Duration = Duration::from_secs(11 * 60 + 5);
/// How long a change of unknown outcome may still happen.
const OUTCOME: Duration = Duration::from_secs(15);

/// What the clients have in common.
pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) ledger: Ledger,
    pub(crate) over: AtomicBool,
    /// A user's sign-ins, and revocations of all of a user's sessions, are one after the other:
    /// else it was unknown which are meant.
    pub(crate) users: Vec<Mutex<()>>,
}

impl Scene {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn some_session(&self, rng: &mut Rng, fits: impl Fn(bool) -> bool) -> Option<(Id, String)> {
        let book = self.ledger.book();
        // Those of some time ago are all over.
        let recent = &book.ids[book.ids.len().saturating_sub(600)..];
        if recent.is_empty() {
            return None;
        }
        (0..30).find_map(|_| {
            let id = &recent[rng.usize(..recent.len())];
            let entry = &book.sessions[id];
            fits(entry.doubtful).then(|| (id.clone(), entry.user.clone()))
        })
    }

    /// A place with a node, now.
    async fn some_node(&self, rng: &mut Rng) -> (usize, Arc<Node>) {
        loop {
            let place = rng.usize(..NODES);
            if let Some(node) = self.cluster.node(place).await {
                return (place, node);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn user(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

type Reply = Option<(u16, bool, Value)>;

/// Sends a request, and waits for the whole response.
async fn send(request: RequestBuilder) -> Reply {
    send_within(request, REQUEST_TIMEOUT).await
}

async fn send_within(request: RequestBuilder, timeout: Duration) -> Reply {
    let response = request.timeout(timeout).send().await.ok()?;
    let status = response.status().as_u16();
    let cached = response
        .headers()
        .get("cache-status")
        .is_some_and(|value| value.to_str().unwrap().contains("hit"));
    Some((status, cached, response.json().await.unwrap_or_default()))
}

fn response(reply: &Option<(u16, bool, Value)>) -> Response {
    let Some((status, cached, body)) = reply else { return Response::Nothing };
    match (*status, body["status"].as_str().unwrap_or_default()) {
        (200, "live") => Response::Live { cached: *cached },
        // The activity of a live session.
        (204, _) => Response::Live { cached: *cached },
        (200, "revoked") => Response::Revoked,
        (200, _) => Response::Over,
        (401 | 409, _) if body["code"] == "session_ended" => Response::Ended,
        (404, _) => Response::NotFound,
        (403, _) => Response::NotOwner,
        (503, _) => Response::Unavailable,
        (other, _) => Response::Other(other),
    }
}

/// Asks about a session, as its owner's backend, as a stranger's, as its owner.
pub(crate) async fn reader(scene: Arc<Scene>, mut rng: Rng) {
    while !scene.is_over() {
        let wants_live = rng.f32() < 0.6;
        let found = scene.some_session(&mut rng, |doubtful| doubtful != wants_live);
        let Some((id, user_id)) = found else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (place, node) = scene.some_node(&mut rng).await;
        let url = |user: &str| format!("{}/service/v1/sessions/{id}?user_id={user}", node.service);
        match rng.u32(..20) {
            0 => {
                let asked = Asked::now(place, "a stranger's read");
                let request = node.http.get(url(&user(USERS + 1))).bearer_auth(node.service_key());
                let reply = send(request).await;
                scene.ledger.read_by_a_stranger(asked, &id, response(&reply));
            }
            1 => {
                let asked = Asked::now(place, "an owner's read");
                let request = node.http.get(format!("{}/api/v1/sessions/current", node.public));
                let reply = send(request.bearer_auth(token(&user_id, &id))).await;
                let about = reply.as_ref().and_then(|reply| reply.2["id"].as_str());
                scene.ledger.read(asked, &id, response(&reply), about);
            }
            // Its response says "live" too.
            2..4 => {
                let asked = Asked::now(place, ACTIVITY);
                let url = format!("{}/service/v1/sessions/{id}/activity", node.service);
                let reply = send(node.http.post(url).bearer_auth(node.service_key())).await;
                scene.ledger.read(asked, &id, response(&reply), None);
            }
            _ => {
                let asked = Asked::now(place, "a read");
                let reply =
                    send(node.http.get(url(&user_id)).bearer_auth(node.service_key())).await;
                let about = reply.as_ref().and_then(|reply| reply.2["id"].as_str());
                scene.ledger.read(asked, &id, response(&reply), about);
            }
        }
        tokio::time::sleep(Duration::from_micros(rng.u64(500..4000))).await;
    }
}

/// Ends a session that many are asking about, at a node that is not asked.
pub(crate) async fn hot(scene: Arc<Scene>, mut rng: Rng) {
    while !scene.is_over() {
        tokio::time::sleep(Duration::from_millis(rng.u64(50..300))).await;
        let Some((id, user_id)) = scene.some_session(&mut rng, |doubtful| !doubtful) else {
            continue;
        };
        let (place, node) = scene.some_node(&mut rng).await;
        let (other_place, other) = scene.some_node(&mut rng).await;
        let mut asking = Vec::new();
        let ending_after = rng.usize(1..10);
        for n in 0..40 {
            if n == ending_after {
                scene.ledger.doubt(std::slice::from_ref(&id));
                let scene = scene.clone();
                let other = other.clone();
                let id = id.clone();
                asking.push(tokio::spawn(async move {
                    let asked = Asked::now(other_place, "the revocation of a hot session");
                    let request =
                        other.http.delete(format!("{}/service/v1/sessions/{id}", other.service));
                    judge(
                        &scene,
                        asked,
                        &[id],
                        send(request.bearer_auth(other.service_key())).await,
                    );
                }));
            }
            let (scene, node, id, user_id) =
                (scene.clone(), node.clone(), id.clone(), user_id.clone());
            asking.push(tokio::spawn(async move {
                let url = format!("{}/service/v1/sessions/{id}?user_id={user_id}", node.service);
                let asked = Asked::now(place, "one of many reads");
                let reply = send(node.http.get(url).bearer_auth(node.service_key())).await;
                let about = reply.as_ref().and_then(|reply| reply.2["id"].as_str());
                scene.ledger.read(asked, &id, response(&reply), about);
            }));
            tokio::time::sleep(Duration::from_millis(rng.u64(10..50))).await;
        }
        for task in asking {
            task.await.unwrap();
        }
    }
}

/// Signs users in, as long as there are few live sessions.
pub(crate) async fn creator(scene: Arc<Scene>, mut rng: Rng) {
    while !scene.is_over() {
        let live = {
            let book = scene.ledger.book();
            let recent = &book.ids[book.ids.len().saturating_sub(600)..];
            recent.iter().filter(|id| !book.sessions[*id].doubtful).count()
        };
        if live >= SESSIONS {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let user_number = rng.usize(..USERS);
        let user_id = user(user_number);
        let lives_for = (rng.u32(..10) == 0).then(|| Duration::from_millis(rng.u64(2000..5000)));
        let expires = lives_for.map(|lives_for| SystemTime::now() + lives_for);
        let expires_at = expires.map(|at| chrono::DateTime::<chrono::Utc>::from(at).to_rfc3339());
        let _alone = scene.users[user_number].lock().await;
        scene.ledger.signing_in(&user_id);
        let body = json!({ "user_id": user_id, "expires_at": expires_at });
        let (asked, reply) = sign_in(&scene, &mut rng, &body).await;
        match reply {
            Some((201, _, body)) => {
                let ids = body["evicted"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|id| id.as_str().unwrap().to_owned());
                let evicted: Vec<Id> = ids.collect();
                if !evicted.is_empty() {
                    scene.ledger.revoked(asked, &evicted);
                }
                scene.ledger.created(body["id"].as_str().unwrap(), &user_id, expires);
                scene.ledger.signed_in(&user_id, true);
            }
            reply => {
                scene.ledger.outcome_unknown(asked, response(&reply));
                scene.ledger.signed_in(&user_id, false);
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.u64(1..10))).await;
    }
}

/// Signs in; half of the time with an idempotency key. Then the client may be impatient, and repeat
/// it at another node. Returns when the last attempt began, and its reply.
async fn sign_in(scene: &Scene, rng: &mut Rng, body: &Value) -> (Asked, Reply) {
    let key = rng.bool().then(|| format!("{:x}", rng.u128(..)));
    let attempts = if key.is_some() { rng.u32(1..4) } else { 1 };
    for attempt in 1.. {
        let (place, node) = scene.some_node(rng).await;
        let mut request =
            node.http.post(format!("{}/service/v1/sessions", node.service)).json(body);
        if let Some(key) = &key {
            request = request.header("Idempotency-Key", key);
        }
        let asked =
            Asked::now(place, if attempt == 1 { "a sign-in" } else { "a repeated sign-in" });
        let is_last = attempt == attempts;
        let timeout =
            if is_last { REQUEST_TIMEOUT } else { Duration::from_millis(rng.u64(2..150)) };
        // Of half a response the client learns nothing.
        let reply = send_within(request.bearer_auth(node.service_key()), timeout).await;
        let reply = reply.filter(|(status, _, body)| *status != 201 || body["id"].is_string());
        if is_last || reply.as_ref().is_some_and(|reply| reply.0 == 201) {
            return (asked, reply);
        }
    }
    unreachable!("the last attempt returns")
}

/// Ends sessions in every way there is.
pub(crate) async fn ender(scene: Arc<Scene>, mut rng: Rng) {
    while !scene.is_over() {
        tokio::time::sleep(Duration::from_millis(rng.u64(20..120))).await;
        let Some((id, user_id)) = scene.some_session(&mut rng, |doubtful| !doubtful) else {
            continue;
        };
        let ids = std::slice::from_ref(&id);
        let (place, node) = scene.some_node(&mut rng).await;
        let request = |node: &Node, method: Method, path: &str| {
            node.http
                .request(method, format!("{}/service/v1/{path}", node.service))
                .bearer_auth(node.service_key())
        };
        let one = format!("sessions/{id}");
        match rng.u32(..20) {
            0..10 => {
                scene.ledger.doubt(ids);
                let asked = Asked::now(place, "a revocation");
                judge(&scene, asked, ids, send(request(&node, Method::DELETE, &one)).await);
            }
            // Twice at once, at two nodes.
            10..14 => {
                scene.ledger.doubt(ids);
                let (other_place, other) = scene.some_node(&mut rng).await;
                let first = async {
                    let asked = Asked::now(place, "one of two revocations");
                    judge(&scene, asked, ids, send(request(&node, Method::DELETE, &one)).await);
                };
                let second = async {
                    tokio::time::sleep(Duration::from_millis(15)).await;
                    let asked = Asked::now(other_place, "the other of two revocations");
                    judge(&scene, asked, ids, send(request(&other, Method::DELETE, &one)).await);
                };
                let ((), ()) = tokio::join!(first, second);
            }
            14..16 => {
                let number = usize::from_str_radix(&user_id[24..], 16).unwrap();
                let _alone = scene.users[number].lock().await;
                let all = doubt_all_but(&scene, &user_id, &id);
                let asked = Asked::now(place, "the revocation of all others");
                let request = request(&node, Method::DELETE, &format!("users/{user_id}/sessions"));
                let reply = send(request.json(&json!({ "except_session_id": id }))).await;
                if reply.as_ref().is_none_or(|reply| reply.0 != 200) {
                    scene.ledger.taint(&user_id);
                }
                judge(&scene, asked, &all, reply);
            }
            16..18 => {
                scene.ledger.doubt(ids);
                let asked = Asked::now(place, "a logout");
                let request = node.http.delete(format!("{}/api/v1/sessions/current", node.public));
                match send(request.bearer_auth(token(&user_id, &id))).await {
                    // It had expired already.
                    Some((401, ..)) => {}
                    reply => judge(&scene, asked, ids, reply),
                }
            }
            _ => {
                scene.ledger.doubt(ids);
                let asked = Asked::now(place, "a revocation by direct SQL");
                // Others commit meanwhile, with greater numbers.
                let sql = format!(
                    "BEGIN; UPDATE sessions SET revoked_at = now() WHERE id = '{id}' AND \
                        revoked_at IS NULL; SELECT pg_sleep(0.1); COMMIT"
                );
                if scene.cluster.sql(&sql).await.is_ok() {
                    tokio::time::sleep(DIRECT_SQL).await;
                    let asked = Asked { at: Instant::now(), ..asked };
                    scene.ledger.revoked(asked, ids);
                }
            }
        }
    }
}

/// Gives a session that is never revoked a new name repeatedly, a number, and checks how old the
/// names are that are served.
pub(crate) async fn namer(scene: Arc<Scene>, mut rng: Rng) {
    let user_id = user(USERS + 2);
    let mut id = None;
    // When which name was given, as far as that is known; before the first, it has none.
    let mut given: Vec<Option<Instant>> = Vec::new();
    let mut next = Instant::now();
    while !scene.is_over() {
        tokio::time::sleep(Duration::from_millis(rng.u64(20..100))).await;
        let (place, node) = scene.some_node(&mut rng).await;
        let url = |path: &str| format!("{}/service/v1/sessions{path}", node.service);
        let Some(known) = &id else {
            let request = node.http.post(url("")).bearer_auth(node.service_key());
            let reply = send(request.json(&json!({ "user_id": user_id }))).await;
            id = reply.and_then(|(_, _, body)| body["id"].as_str().map(str::to_owned));
            continue;
        };
        if Instant::now() >= next {
            let request =
                node.http.patch(url(&format!("/{known}"))).bearer_auth(node.service_key());
            let reply = send(request.json(&json!({ "name": given.len().to_string() }))).await;
            let is_given = reply.is_some_and(|(status, ..)| status == 200);
            given.push(is_given.then(Instant::now));
            next = Instant::now()
                + if is_given { Duration::from_millis(rng.u64(500..3000)) } else { OUTCOME };
        }
        let asked = Asked::now(place, "a read of a name");
        let request = node
            .http
            .get(url(&format!("/{known}?user_id={user_id}")))
            .bearer_auth(node.service_key());
        let body = match send(request).await {
            Some((200, _, body)) => body,
            // A restore has taken it away.
            Some((404, ..)) => {
                (id, given) = (None, Vec::new());
                continue;
            }
            _ => continue,
        };
        let newer = match body["name"].as_str().map(str::parse::<usize>) {
            None => &given[..],
            Some(Ok(number)) if number < given.len() => &given[number + 1..],
            _ => {
                scene.ledger.violate(format!(
                    "I10 session {known}: it was never given the name {}",
                    body["name"]
                ));
                continue;
            }
        };
        let Some(replaced) = newer.iter().flatten().next() else { continue };
        let behind = asked.at.saturating_duration_since(*replaced);
        scene.ledger.behind(behind);
        if behind > LAG {
            scene.ledger.violate(format!(
                "I10 session {known}: node {place} is {behind:?} behind with its name"
            ));
        }
    }
}

/// Rotates the token of sessions of its own. Grace is off, so once a rotation is acknowledged no
/// node accepts the token before, from any cache, and every node accepts the new one.
pub(crate) async fn rotator(scene: Arc<Scene>, mut rng: Rng) {
    let user_id = user(USERS + 3);
    let mut tokens: Option<(String, String)> = None;
    let mut restores = scene.ledger.restores();
    while !scene.is_over() {
        tokio::time::sleep(Duration::from_millis(rng.u64(5..50))).await;
        let (place, node) = scene.some_node(&mut rng).await;
        // A backup brings back the tokens of its time, and all its sessions are revoked.
        if std::mem::replace(&mut restores, scene.ledger.restores()) != restores {
            tokens = None;
        }
        let Some((before, current)) = &tokens else {
            let request = node.http.post(format!("{}/service/v1/sessions", node.service));
            let body = json!({ "user_id": user_id, "issue_token": true });
            let reply = send(request.bearer_auth(node.service_key()).json(&body)).await;
            let token = reply.and_then(|(_, _, body)| body["token"].as_str().map(str::to_owned));
            tokens = token.map(|token| (String::new(), token));
            continue;
        };
        if before.is_empty() || rng.u32(..20) == 0 {
            let request = node.http.post(format!("{}/api/v1/sessions/current/rotate", node.public));
            let reply = send(request.bearer_auth(current)).await;
            let token = reply.and_then(|(_, _, body)| body["token"].as_str().map(str::to_owned));
            // Without one it is unknown which of the two is good: another session has to do.
            tokens = token.map(|token| (current.clone(), token));
            continue;
        }
        let asked_for_current = rng.bool();
        let token = if asked_for_current { current } else { before };
        let request = node.http.get(format!("{}/api/v1/sessions/current", node.public));
        let reply = send(request.bearer_auth(token)).await;
        let status = reply.as_ref().map(|(status, ..)| *status);
        let code = reply.as_ref().and_then(|(_, _, body)| body["code"].as_str());
        scene.ledger.token_read();
        if scene.ledger.restores() != restores || restores % 2 == 1 || code == Some("session_ended")
        {
            tokens = None;
        } else if !asked_for_current && status == Some(200) {
            scene.ledger.violate(format!("I17 node {place} accepts a token that was replaced"));
        } else if asked_for_current && status == Some(401) {
            scene.ledger.violate(format!("I18 node {place} refuses the current token"));
        }
    }
}

fn judge(scene: &Scene, asked: Asked, ids: &[Id], reply: Option<(u16, bool, Value)>) {
    match reply {
        Some((200 | 204, ..)) => scene.ledger.revoked(asked, ids),
        reply => scene.ledger.outcome_unknown(asked, response(&reply)),
    }
}

/// All of a user's sessions that are known of, but one.
fn doubt_all_but(scene: &Scene, user: &str, except: &str) -> Vec<Id> {
    let all: Vec<Id> = {
        let book = scene.ledger.book();
        let recent = &book.ids[book.ids.len().saturating_sub(600)..];
        recent
            .iter()
            .filter(|id| book.sessions[*id].user == user && id.as_str() != except)
            .cloned()
            .collect()
    };
    scene.ledger.doubt(&all);
    all
}

/// An end user's token.
fn token(user: &str, session: &str) -> String {
    mint(SECRET, user, session)
}
