//! The servers and nodes of a run, and the networks between them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use sessiond_tests::node::Node;
use testkit::servers::{PostgresServer, RedisServer, TestDatabase};
use testkit::{Fault, FaultProxy};
use tokio::sync::{Mutex, RwLock};

pub(crate) const NODES: usize = 3;
/// Live sessions that a user may have.
pub(crate) const LIMIT: usize = 6;
/// Signs the end users' tokens.
pub(crate) const SECRET: &str = "a secret of thirty-two bytes or more";

pub(crate) struct Cluster {
    database: std::sync::RwLock<Arc<Database>>,
    pub(crate) redis: Mutex<RedisPair>,
    pub(crate) places: Vec<Place>,
    bug: Option<&'static str>,
}

/// Whichever server is the primary now.
pub(crate) struct Database {
    pub(crate) server: Arc<PostgresServer>,
    database: TestDatabase,
}

/// Where a node runs, behind networks of its own.
pub(crate) struct Place {
    pub(crate) to_postgres: FaultProxy,
    pub(crate) to_redis: FaultProxy,
    node: RwLock<Option<Arc<Node>>>,
}

/// A primary with a replica.
pub(crate) struct RedisPair {
    pub(crate) primary: RedisServer,
    replica: RedisServer,
    /// From the replica to the primary.
    link: FaultProxy,
}

impl Cluster {
    pub(crate) async fn start(bug: Option<&'static str>) -> Self {
        let postgres = Arc::new(PostgresServer::start());
        let database = postgres.database();
        let redis = RedisPair::start().await;
        let mut places = Vec::new();
        for _ in 0..NODES {
            let to_postgres = FaultProxy::start(postgres.port()).await;
            let to_redis = FaultProxy::start(redis.primary.port()).await;
            places.push(Place { to_postgres, to_redis, node: RwLock::new(None) });
        }
        let name = database.psql("SELECT current_database()");
        // Direct SQL has to survive a crash too.
        database.psql(&format!("ALTER DATABASE {name} SET synchronous_commit = on"));
        // The nodes set what they depend on; this is what other clients have.
        database.psql(&format!(
            "ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"
        ));
        let database = std::sync::RwLock::new(Arc::new(Database { server: postgres, database }));
        let cluster = Self { database, redis: Mutex::new(redis), places, bug };
        for place in 0..NODES {
            cluster.start_node(place).await;
        }
        cluster
    }

    /// The node of a place, if there is one now.
    pub(crate) async fn node(&self, place: usize) -> Option<Arc<Node>> {
        self.places[place].node.read().await.clone()
    }

    /// Starts the node of a place, and waits until it serves.
    pub(crate) async fn start_node(&self, place: usize) {
        let at = &self.places[place];
        let now = self.database();
        let direct = format!(":{}/", now.server.port());
        let store = now
            .database
            .tcp_url_with_password()
            .replace(&direct, &format!(":{}/", at.to_postgres.port()));
        let cache = format!("redis://127.0.0.1:{}", at.to_redis.port());
        let limit = LIMIT.to_string();
        let mut settings = vec![
            ("SESSIOND_STORE__URL", store.as_str()),
            ("SESSIOND_CACHE__URL", &cache),
            ("SESSIOND_AUTH__JWT__HS256_SECRET", SECRET),
            ("SESSIOND_SESSIONS__MAX_PER_USER", &limit),
            // A token that was replaced is no good at once.
            ("SESSIOND_AUTH__ROTATION_GRACE", "0s"),
            ("SESSIOND_LOG__LEVEL", "warn"),
        ];
        let in_the_binary = self.bug.filter(|bug| bug.starts_with("bug-"));
        let failpoints = in_the_binary.map(|bug| format!("{bug}=return"));
        if let Some(failpoints) = &failpoints {
            settings.push(("FAILPOINTS", failpoints));
        }
        // This one dawdles, which should not keep the node from learning meanwhile.
        if in_the_binary == Some("bug-freshness-after-the-map") {
            settings.push(("TOKIO_WORKER_THREADS", "16"));
        }
        let node = Node::start(&settings).await;
        *at.node.write().await = Some(Arc::new(node));
    }

    /// Ends the node of a place with a signal; it is not used any more.
    pub(crate) async fn end_node(&self, place: usize, signal: &str) {
        let Some(node) = self.places[place].node.write().await.take() else { return };
        node.signal(signal);
        let started = Instant::now();
        while state(node.child.id()).is_some_and(|state| state != 'Z') {
            assert!(
                started.elapsed() < Duration::from_secs(15),
                "the node did not end: {}",
                node.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Runs SQL as an operator, on a connection that nothing is done to.
    pub(crate) async fn sql(&self, sql: &str) -> Result<String, String> {
        let now = self.database();
        tokio::task::block_in_place(|| now.database.try_psql(sql))
    }

    /// Dumps the database so that it can be put back in place.
    pub(crate) async fn dump(&self) -> Result<Vec<u8>, String> {
        self.pg_dump(&["--clean", "--if-exists"])
    }

    fn pg_dump(&self, options: &[&str]) -> Result<Vec<u8>, String> {
        let url = self.database().database.url();
        let dumped =
            tokio::task::block_in_place(|| Command::new("pg_dump").args(options).arg(url).output());
        let dumped = dumped.map_err(|error| error.to_string())?;
        if dumped.status.success() {
            Ok(dumped.stdout)
        } else {
            Err(String::from_utf8_lossy(&dumped.stderr).into_owned())
        }
    }

    /// Puts a backup back, while the nodes go on.
    pub(crate) async fn restore(&self, backup: &[u8]) -> Result<(), String> {
        let url = self.database().database.url();
        tokio::task::block_in_place(|| psql(&url, backup))
    }

    /// Copies the database on its server, and lets a node of the copy, which shares Redis, read
    /// these sessions again and again: there they were not revoked since. Returns whether it found
    /// any live.
    pub(crate) async fn read_at_a_copy(
        &self,
        sessions: &[(String, String)],
        while_it_lasts: Duration,
    ) -> bool {
        let copy = self.database().server.database();
        let Ok(dump) = self.pg_dump(&[]) else { return false };
        if tokio::task::block_in_place(|| psql(&copy.url(), &dump)).is_err() {
            return false;
        }
        let cache = format!("redis://127.0.0.1:{}", self.redis.lock().await.primary.port());
        let store = copy.tcp_url_with_password();
        let mut settings = vec![
            ("SESSIOND_STORE__URL", store.as_str()),
            ("SESSIOND_CACHE__URL", &cache),
            ("SESSIOND_CACHE__NEAR_ENTRIES", "0"),
            ("SESSIOND_LOG__LEVEL", "warn"),
        ];
        let failpoints = self.bug.map(|bug| format!("{bug}=return"));
        if let Some(failpoints) = &failpoints {
            settings.push(("FAILPOINTS", failpoints));
        }
        let node = Node::start(&settings).await;
        let began = Instant::now();
        let mut live = 0;
        while began.elapsed() < while_it_lasts.max(Duration::from_secs(1)) {
            for (id, user) in sessions {
                let (_, body) = node
                    .service(Method::GET, &format!("sessions/{id}?user_id={user}"), json!({}))
                    .await;
                live += u32::from(body["status"] == "live");
            }
        }
        live > 0
    }

    /// The database, where it is now.
    pub(crate) fn database(&self) -> Arc<Database> {
        self.database.read().unwrap().clone()
    }

    /// A synchronous standby takes the place of the primary, which used up numbers that the standby
    /// knows nothing of, and that never returns.
    pub(crate) async fn promote_a_standby(&self) -> bool {
        let old = self.database();
        let link = FaultProxy::start(old.server.port()).await;
        let standby = tokio::task::block_in_place(|| Arc::new(old.server.standby(link.port())));
        let made_synchronous = async {
            self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
            self.sql("SELECT pg_reload_conf()").await?;
            let began = Instant::now();
            while self.sql("SELECT sync_state FROM pg_stat_replication").await? != "sync" {
                assert!(began.elapsed() < Duration::from_secs(20), "the standby does not follow");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            // Commits before that were not waited for.
            tokio::time::sleep(Duration::from_millis(500)).await;
            link.set(Fault::Stall);
            let use_up = "DO $$ BEGIN PERFORM set_config('synchronous_commit', 'off', false);
                FOR n IN 1..2000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$";
            self.sql(use_up).await
        };
        if let Err(error) = made_synchronous.await {
            // A standby that takes over without having everything would lose what was acknowledged.
            println!("    {error}");
            link.set(Fault::None);
            let reset = self.sql("ALTER SYSTEM RESET synchronous_standby_names").await;
            let _ = (reset, self.sql("SELECT pg_reload_conf()").await);
            return false;
        }
        // Time for a poll.
        tokio::time::sleep(Duration::from_millis(300)).await;
        for place in &self.places {
            place.to_postgres.set(Fault::Refuse);
        }
        old.server.signal("KILL");
        tokio::task::block_in_place(|| standby.promote());
        let database = old.database.on(standby.clone());
        for place in &self.places {
            place.to_postgres.redirect(standby.port());
            place.to_postgres.set(Fault::None);
        }
        *self.database.write().unwrap() = Arc::new(Database { server: standby, database });
        true
    }
}

/// Runs a script as one transaction.
fn psql(url: &str, script: &[u8]) -> Result<(), String> {
    let options = ["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--single-transaction", url];
    let mut psql = Command::new("psql");
    let psql =
        psql.args(options).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = psql.spawn().map_err(|error| error.to_string())?;
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(script));
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    match written {
        Some(Ok(())) if output.status.success() => Ok(()),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

impl RedisPair {
    async fn start() -> Self {
        let primary = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        let link = FaultProxy::start(primary.port()).await;
        let replica = replica_of(&link);
        Self { primary, replica, link }
    }

    /// The replica receives nothing from the primary for `behind`, which then dies, and takes its
    /// place.
    pub(crate) async fn fail_over_to_a_stale_replica(
        &mut self,
        places: &[Place],
        behind: Duration,
    ) -> bool {
        let in_step = self.replica.cli(&["INFO", "replication"]).contains("master_link_status:up");
        self.link.set(Fault::Stall);
        tokio::time::sleep(behind).await;
        self.primary.signal("KILL");
        self.replica.cli(&["REPLICAOF", "NO", "ONE"]);
        self.link.set(Fault::Refuse);
        let is_filled = self.replica.cli(&["DBSIZE"]) != "0";
        for place in places {
            place.to_redis.redirect(self.replica.port());
        }
        self.link.redirect(self.replica.port());
        self.link.set(Fault::None);
        let new = tokio::task::block_in_place(|| replica_of(&self.link));
        self.primary = std::mem::replace(&mut self.replica, new);
        in_step && is_filled
    }

    /// The primary dies and comes back with nothing.
    pub(crate) async fn restart_empty(&mut self, places: &[Place], down: Duration) {
        self.primary.signal("KILL");
        tokio::time::sleep(down).await;
        self.primary = tokio::task::block_in_place(|| {
            RedisServer::start_with(&["--repl-diskless-sync-delay", "0"])
        });
        for place in places {
            place.to_redis.redirect(self.primary.port());
        }
        self.link.set(Fault::Refuse);
        self.link.redirect(self.primary.port());
        self.link.set(Fault::None);
    }
}

fn replica_of(link: &FaultProxy) -> RedisServer {
    let port = link.port().to_string();
    RedisServer::start_with(&["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &port])
}

/// A process's state, such as `T` where it is stopped.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A process's open descriptors, and its resident memory in MiB.
pub(crate) fn footprint(pid: u32) -> (usize, u64) {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    (descriptors, resident.unwrap_or(0_u64) / 1024)
}
