//! Private Redis servers, Sentinels and clusters.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use super::supervised::{Supervised, free_port};
use crate::temporary_dir::temporary_dir;

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A private Redis server on a free port of the loopback interface.
pub struct RedisServer {
    process: Supervised,
    port: u16,
}

/// A private Redis server, and a sentinel that knows it as `mymaster`.
pub struct RedisSentinel {
    master: RedisServer,
    _sentinel: Supervised,
    port: u16,
}

/// Three private Redis servers, masters of one cluster.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisServer {
    /// Starts a new, empty server.
    ///
    /// # Panics
    /// If there is no `redis-server`: a test that lacks its server fails.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a new, empty server with more settings, as on its command line.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_on(free_port(), settings)
    }

    /// Starts a new, empty server on this port: to bring back one that was killed.
    pub fn start_on(port: u16, settings: &[&str]) -> Self {
        let dir = temporary_dir("redis");
        let port_text = port.to_string();
        let dir_text = dir.display().to_string();
        let mut command =
            vec!["redis-server", "--port", &port_text, "--bind", "127.0.0.1", "--dir", &dir_text];
        command.extend(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.extend(settings);
        let process = Supervised::start(dir, None, "TERM", &command);
        wait_until_it_responds(&process, port);
        Self { process, port }
    }

    /// Returns where the server is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends the server a signal, such as `STOP`, `CONT` or `KILL`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Runs a command as an operator would, by `redis-cli`, and returns what it printed.
    pub fn cli(&self, arguments: &[&str]) -> String {
        redis_cli(&[&["-p", &self.port.to_string()], arguments].concat())
    }
}

impl RedisSentinel {
    /// Starts a new, empty server with its sentinel.
    pub fn start() -> Self {
        let master = RedisServer::start();
        let dir = temporary_dir("sentinel");
        let port = free_port();
        let config = dir.join("sentinel.conf");
        let monitor = format!("sentinel monitor mymaster 127.0.0.1 {} 1", master.port);
        let text = format!("port {port}\nbind 127.0.0.1\ndir {}\n{monitor}\n", dir.display());
        std::fs::write(&config, text).expect("a configuration file");
        let config = config.display().to_string();
        let sentinel =
            Supervised::start(dir, None, "TERM", &["redis-server", &config, "--sentinel"]);
        wait_until_it_responds(&sentinel, port);
        Self { master, _sentinel: sentinel, port }
    }

    /// Returns where the sentinel is, and whom to ask it for.
    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=mymaster", self.port)
    }

    /// Returns the server that it points to.
    pub fn master(&self) -> &RedisServer {
        &self.master
    }
}

impl RedisCluster {
    /// Starts a new, empty cluster that is ready to serve.
    pub fn start() -> Self {
        let nodes: Vec<_> = (0..3)
            .map(|_| {
                RedisServer::start_with(&[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    &free_port().to_string(),
                ])
            })
            .collect();
        // The servers know each other by explicit bus ports, so they are introduced manually:
        // `redis-cli --cluster create` takes the bus port to be the port plus 10000.
        let slots = ["0 5460", "5461 10922", "10923 16383"];
        for (node, range) in nodes.iter().zip(slots) {
            let (first, last) = range.split_once(' ').expect("two numbers");
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for node in &nodes[1..] {
            let bus = node.cli(&["CONFIG", "GET", "cluster-port"]);
            let bus = bus.lines().last().expect("the bus port").trim();
            nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), bus]);
        }
        let started = Instant::now();
        while !nodes.iter().all(|node| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        {
            assert!(started.elapsed() < START_TIMEOUT, "the Redis cluster did not form");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { nodes }
    }

    /// Returns where the cluster is: one node, from which a client learns of the others.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[0].port)
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }
}

fn wait_until_it_responds(process: &Supervised, port: u16) {
    let started = Instant::now();
    while !responds_to_ping(port) {
        let log = process.log();
        assert!(
            !log.contains("not found"),
            "this test needs Redis: install it (Debian: apt-get install redis-server), or set \
                REDIS_URL: {log}"
        );
        assert!(started.elapsed() < START_TIMEOUT, "Redis did not start: {log}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn responds_to_ping(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let mut response = [0; 5];
    // A server that asks for a password is up too.
    stream.write_all(b"PING\r\n").is_ok()
        && stream.read_exact(&mut response).is_ok()
        && matches!(&response, b"+PONG" | b"-NOAU")
}

fn redis_cli(arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(arguments).output().expect("redis-cli to run");
    assert!(
        output.status.success(),
        "redis-cli {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
