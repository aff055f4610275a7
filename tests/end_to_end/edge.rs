//! What runs out, hangs or is sent in error at the edge of a node: descriptors, the reader of its
//! log, its database while it stops, its environment, its signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sessiond_tests::node::{ALICE, Node, mint, run, sessiond};
use testkit::TemporaryDir;
use testkit::servers::{PostgresServer, RedisServer, free_port};

/// Waits for a process to end, and returns how long that took.
async fn assert_exits(child: &mut Child, within: Duration) -> Duration {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < within, "it did not end within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends a request, and returns the head of the response.
fn exchange(stream: &mut TcpStream, request: &str) -> std::io::Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |text| text.parse().unwrap());
    stream.read_exact(&mut vec![0; length])?;
    Ok(head)
}

/// The usual limit is 1024. Idle end users must not shut out health checks, sign-ins, revocations
/// or each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_do_not_exclude_other_clients() {
    let own = std::process::id().to_string();
    assert!(
        Command::new("prlimit").args(["--pid", &own, "--nofile=8192:"]).status().unwrap().success()
    );
    let dir = TemporaryDir::new();
    let plain = sessiond(dir.path(), &[]);
    let mut command = Command::new("prlimit");
    command.arg("--nofile=1024:1024").arg(plain.get_program()).current_dir(dir.path());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let node = Node::start_command(&mut command, dir).await;
    let session = node.create(ALICE).await;
    let token = node.mint(ALICE, &session);

    let mut idle = Vec::new();
    for _ in 0..1500 {
        let mut stream = connect(&node.public);
        // One that was closed to make room is a client's everyday life.
        if exchange(&mut stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_ok() {
            idle.push(stream);
        }
    }
    assert!(idle.len() > 1000, "{} of 1500 got a response", idle.len());
    for _ in 0..20 {
        assert_eq!(node.page("/livez").await.0, 200);
        assert_eq!(node.page("/readyz").await.0, 200);
        let other = node.create(ALICE).await;
        node.revoke(&other).await;
        assert_eq!(node.read(&session, &token).await.status, 200);
    }
    assert!(!node.log().contains("Too many open files"), "{}", node.log());
    let metrics = node.page("/metrics").await.1;
    let evicted = metrics.lines().find(|line| {
        line.contains("closed_total") && line.contains("public") && line.contains("evicted")
    });
    let evicted: f64 = evicted.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(evicted >= 400.0, "{evicted} were closed");
}

/// Starts a node whose standard error is not read; returns it with its listeners and the reader's
/// end.
fn start_unread(dir: &TemporaryDir) -> (Child, String, String, std::process::ChildStderr) {
    let (public, service) =
        (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let settings = [
        ("SESSIOND_SERVER__LISTEN", public.as_str()),
        ("SESSIOND_SERVER__SERVICE_LISTEN", service.as_str()),
        ("SESSIOND_LOG__LEVEL", "debug"),
    ];
    let mut command = sessiond(dir.path(), &settings);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    while TcpStream::connect(&service).is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "it did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let stderr = child.stderr.take().unwrap();
    (child, public, service, stderr)
}

/// A reader of the log that stalls, or goes away, costs lines and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_log_stops_nothing() {
    for is_closed in [false, true] {
        let dir = TemporaryDir::new();
        let (mut child, public, service, stderr) = start_unread(&dir);
        let reader = if is_closed {
            drop(stderr);
            None
        } else {
            Some(stderr)
        };
        let mut stream = connect(&public);
        // At debug each is a line or more: many times what a pipe holds.
        for _ in 0..12_000 {
            let head =
                exchange(&mut stream, "GET /api/v1/sessions/current HTTP/1.1\r\nHost: x\r\n\r\n")
                    .unwrap();
            assert!(head.starts_with("http/1.1 401") || head.starts_with("http/1.1 429"), "{head}");
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        let page =
            async |path: &str| reqwest::get(format!("http://{service}{path}")).await.unwrap();
        assert_eq!(
            page("/readyz").await.json::<Value>().await.unwrap()["cached_sessions"],
            "used",
            "its tasks go on"
        );
        let metrics = page("/metrics").await.text().await.unwrap();
        let dropped = metrics
            .lines()
            .find(|line| line.starts_with("sessiond_log_lines_dropped_total "))
            .unwrap();
        let dropped: f64 = dropped.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(is_closed || dropped > 0.0, "{dropped} lines were dropped");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_exits(&mut child, Duration::from_secs(5)).await;
        assert!(child.wait().unwrap().success(), "closed: {is_closed}");
        drop(reader);
    }
}

/// What hangs is given up when the limit is reached, and at once where a person insists.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_takes_no_longer_than_its_limit_while_the_database_hangs() {
    for (signals, within) in [(&["TERM"][..], 12), (&["TERM", "TERM"][..], 3)] {
        let server = Arc::new(PostgresServer::start());
        let database = server.database();
        let mut node = Node::start(&[("SESSIOND_STORE__URL", &database.url())]).await;
        let session = node.create(ALICE).await;
        assert_eq!(node.read(&session, &node.mint(ALICE, &session)).await.status, 200);
        server.signal("STOP");
        for signal in signals {
            node.signal(signal);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_exits(&mut node.child, Duration::from_secs(within)).await;
        assert!(node.child.wait().unwrap().success());
        server.signal("CONT");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_signal_waits_for_no_request() {
    let mut node = Node::start(&[]).await;
    let mut slow = connect(&node.service);
    let head = format!(
        "POST /service/v1/sessions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \
            {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        node.service_key()
    );
    slow.write_all(head.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    node.signal("TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(node.child.try_wait().unwrap().is_none(), "a request that has begun is waited for");
    node.signal("TERM");
    assert_exits(&mut node.child, Duration::from_secs(2)).await;
}

/// Without Redis, from the start or since, stopping takes milliseconds.
#[tokio::test]
async fn stopping_does_not_wait_for_a_redis_that_is_not_there() {
    let redis = RedisServer::start();
    let absent = format!("redis://127.0.0.1:{}", free_port());
    for url in [absent, redis.url()] {
        let mut node = Node::start(&[("SESSIOND_CACHE__URL", &url)]).await;
        redis.signal("STOP");
        node.signal("INT");
        let took = assert_exits(&mut node.child, Duration::from_secs(5)).await;
        assert!(took < Duration::from_millis(1500), "{took:?}");
    }
    redis.signal("CONT");
}

/// SIGHUP takes over what was rotated, and what cannot be read changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hangup_reads_secrets_keys_and_log_level_again() {
    let first = "0123456789abcdef0123456789abcdef";
    let second = "fedcba9876543210fedcba9876543210";
    // printf %s "$KEY" | sha256sum
    let hashes = [
        ("key", "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"),
        ("password", "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"),
    ];
    let dir = TemporaryDir::new();
    let path = dir.path().to_owned();
    let configure = |hash: &str, level: &str| {
        let text = format!(
            "[auth]\nservice_key_hashes = \"{hash}\"\n[auth.jwt]\nhs256_secret_file = \
                \"secret\"\n[log]\nlevel = \"{level}\"\n"
        );
        std::fs::write(path.join("sessiond.toml"), text).unwrap();
    };
    std::fs::write(path.join("secret"), first).unwrap();
    configure(hashes[0].1, "info");
    let (public, service) =
        (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let settings = [
        ("SESSIOND_SERVER__LISTEN", public.as_str()),
        ("SESSIOND_SERVER__SERVICE_LISTEN", service.as_str()),
    ];
    let log_file = std::fs::File::create(path.join("log")).unwrap();
    let mut child = sessiond(&path, &settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log_file)
        .spawn()
        .unwrap();
    let log = || std::fs::read_to_string(path.join("log")).unwrap();
    let started = Instant::now();
    while !log().contains("ready") {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let http = reqwest::Client::new();
    let sign_in = async |key: &str| {
        let request = http.post(format!("http://{service}/service/v1/sessions")).bearer_auth(key);
        request.json(&json!({ "user_id": ALICE })).send().await.unwrap()
    };
    let session =
        sign_in("key").await.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    let read = async |secret: &str| {
        let url = format!("http://{public}/api/v1/sessions/current");
        http.get(url)
            .bearer_auth(mint(secret, ALICE, &session))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    assert_eq!((read(first).await, read(second).await), (200, 401));

    let pid = child.id().to_string();
    let hang_up = async |wanted: &str, times: usize| {
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        let started = Instant::now();
        while log().matches(wanted).count() < times {
            assert!(started.elapsed() < Duration::from_secs(10), "{wanted} {}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    std::fs::write(path.join("secret"), "short").unwrap();
    hang_up("cannot reload", 1).await;
    assert!(!log().contains("short"), "{}", log());
    assert_eq!((read(first).await, read(second).await), (200, 401));
    assert_eq!(sign_in("key").await.status(), 201);

    std::fs::write(path.join("secret"), format!("{second}\n")).unwrap();
    configure(hashes[1].1, "debug");
    hang_up("read secrets", 1).await;
    assert_eq!((read(first).await, read(second).await), (401, 200));
    assert_eq!(
        (sign_in("key").await.status(), sign_in("password").await.status()),
        (403.try_into().unwrap(), 201.try_into().unwrap())
    );
    assert!(log().contains("DEBUG"), "{}", log());
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_exits(&mut child, Duration::from_secs(5)).await;
    assert!(child.wait().unwrap().success());
}

/// The passwords of database and Redis are rotated: new connections use what the files say then,
/// also while something else that is read again is damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hangup_applies_rotated_passwords_beside_a_damaged_geoip_file() {
    let server = Arc::new(PostgresServer::start());
    let redis = RedisServer::start_with(&["--requirepass", "first"]);
    let redis_url = |password: &str| format!("redis://:{password}@127.0.0.1:{}", redis.port());
    let database = server.database();
    let dir = TemporaryDir::new();
    let path = dir.path().to_owned();
    std::fs::write(path.join("url"), database.tcp_url_with_password()).unwrap();
    std::fs::write(path.join("redis"), redis_url("first")).unwrap();
    let places =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/adapters-maxmind/tests/places.mmdb");
    std::fs::copy(places, path.join("places")).unwrap();
    let settings = [
        ("SESSIOND_STORE__URL_FILE", "url"),
        ("SESSIOND_CACHE__URL_FILE", "redis"),
        ("SESSIOND_CACHE__NEAR_ENTRIES", "0"),
        ("SESSIOND_ENRICH__GEOIP_FILE", "places"),
    ];
    let node = Node::start_in(dir, &settings).await;
    let session = node.create(ALICE).await;
    database.psql("ALTER ROLE postgres PASSWORD 'rotated'");
    redis.cli(&["-a", "first", "CONFIG", "SET", "requirepass", "rotated"]);
    std::fs::write(path.join("url"), format!("{}\n", database.tcp_url("rotated"))).unwrap();
    std::fs::write(path.join("redis"), redis_url("rotated")).unwrap();
    std::fs::write(path.join("places"), "damaged").unwrap();
    node.signal("HUP");
    let started = Instant::now();
    while !node.log().contains("cannot reload this; the rest was read again") {
        assert!(started.elapsed() < Duration::from_secs(10), "{}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(node.log().contains("enrich.geoip_file"), "{}", node.log());
    assert!(!node.log().contains("rotated"), "{}", node.log());
    redis.cli(&["-a", "rotated", "CLIENT", "KILL", "TYPE", "normal"]);
    node.read_from_cache(&session, ALICE, "redis").await;
    database.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name \
        = 'sessiond'",
    );
    let started = Instant::now();
    while node.sign_in(ALICE).await != 201 || node.page("/readyz").await.0 != 200 {
        assert!(started.elapsed() < Duration::from_secs(10), "{}", node.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Reads go on where a primary refuses writes; but requests had better go elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_whose_database_refuses_writes_is_not_ready() {
    let server = Arc::new(PostgresServer::start());
    let database = server.database();
    let node = Node::start(&[("SESSIOND_STORE__URL", &database.url())]).await;
    // Where it may write, also if that database refuses.
    let other = server.database();
    let name = database.psql("SELECT current_database()");
    let read_only = async |value: &str, readiness: u16| {
        other.psql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}"));
        other.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name \
            = 'sessiond'",
        );
        let started = Instant::now();
        while node.page("/readyz").await.0 != readiness {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "read-only {value}: {}",
                node.page("/readyz").await.1
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(node.page("/readyz").await.0, 200);
    read_only("on", 503).await;
    assert_eq!(node.sign_in(ALICE).await, 503);
    read_only("off", 200).await;
}

/// The variables of a Kubernetes Service of that name do not keep a node from starting.
#[tokio::test]
async fn variables_of_others_are_passed_over() {
    let node = Node::start(&[
        ("SESSIOND_SERVICE_HOST", "10.0.0.1"),
        ("SESSIOND_PORT", "tcp://10.0.0.1:8080"),
        ("SESSIOND_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("SESSIOND_NAME", "/web/sessiond"),
        ("SESSIOND_CACHE__URL", ""),
    ])
    .await;
    node.create(ALICE).await;
    assert!(
        node.log().contains("SESSIOND_NAME") && !node.log().contains("SESSIOND_PORT"),
        "{}",
        node.log()
    );
}

/// A proxy of the environment is not asked for loopback: it would be given the service key.
#[tokio::test]
async fn command_line_asks_no_proxy_for_loopback() {
    let node = Node::start(&[]).await;
    let session = node.create(ALICE).await;
    let proxy = format!("http://127.0.0.1:{}", free_port());
    let settings = [("http_proxy", proxy.as_str()), ("HTTP_PROXY", &proxy), ("ALL_PROXY", &proxy)];
    let output = run(sessiond(node.dir.path(), &settings).args([
        "session",
        "get",
        &session,
        "--url",
        &node.service,
    ]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What an operator does with a token that is refused.
#[tokio::test]
async fn inspected_token_says_what_is_wrong_with_it() {
    let node = Node::start(&[]).await;
    let session = node.create(ALICE).await;
    let inspect = |token: &str| {
        let output = run(sessiond(node.dir.path(), &[]).args(["token", "inspect", token]));
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let good = node.mint(ALICE, &session);
    let (code, text) = inspect(&good);
    assert!(
        code == Some(0) && text.contains("accepted: user") && text.contains(&session),
        "{text}"
    );
    let (code, text) = inspect(&mint("another secret of enough bytes!!", ALICE, &session));
    assert!(code == Some(1) && text.contains("refused (signature)"), "{text}");
    let (code, text) = inspect(&node.mint("alice", &session));
    assert!(
        code == Some(1) && text.contains("refused (subject)") && text.contains("uuid5"),
        "{text}"
    );
    assert!(
        !text.contains(&good.rsplit('.').next().unwrap().to_owned()),
        "a token could be used: {text}"
    );
}

/// A start that fails leaves no keys behind that no node knows, and says the true reason first.
#[tokio::test]
async fn failed_start_leaves_no_keys() {
    let dir = TemporaryDir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = run(&mut sessiond(dir.path(), &[("SESSIOND_SERVER__LISTEN", &address)]));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("server.listen"), "{refused:?}");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("dev")), "{left:?}");

    let node = Node::start(&[]).await;
    let address = node.public.trim_start_matches("http://").to_owned();
    let second = run(&mut sessiond(node.dir.path(), &[("SESSIOND_SERVER__LISTEN", &address)]));
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("store.url") && !error.contains("server.listen"), "{error}");
}
