//! What goes wrong, by a seed.

use std::time::{Duration, Instant};

use fastrand::Rng;
use testkit::Fault;

use crate::clients::Scene;
use crate::cluster::{NODES, state};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// A node stops in the middle of everything, and goes on.
    PausedNode,
    KilledNode,
    RestartedNode,
    PausedRedis,
    RestartedRedis,
    FlushedRedis,
    StaleFailover,
    /// Redis has again what it had a while ago.
    OldDump,
    /// Values of other keys, rubbish, something huge.
    PoisonedRedis,
    ReadOnlyRedis,
    FullRedis,
    /// A node is cut off from Redis.
    UnreachableRedis,
    RefusingRedis,
    GarbledRedis,
    TruncatedRedis,
    /// A node is cut off from the database.
    UnreachableDatabase,
    RefusingDatabase,
    DelayedDatabase,
    DelayedResponses,
    PausedDatabase,
    /// A synchronous standby takes over.
    PromotedStandby,
    /// A backend is killed, and the server recovers.
    CrashedDatabase,
    TerminatedBackends,
    LockedRows,
    /// A transaction that holds back dead rows.
    LongTransaction,
    /// The log is pruned earlier than it should be.
    PrunedLog,
    /// A copy of the database on the same server, whose node shares Redis and the key that signs
    /// values there.
    ClonedDatabase,
    /// A backup is put back in place, and then all sessions are revoked.
    RestoredDatabase,
}

use FaultKind::*;

impl FaultKind {
    pub(crate) const ALL: [Self; 28] = [
        PausedNode,
        KilledNode,
        RestartedNode,
        PausedRedis,
        RestartedRedis,
        FlushedRedis,
        StaleFailover,
        OldDump,
        PoisonedRedis,
        ReadOnlyRedis,
        FullRedis,
        UnreachableRedis,
        RefusingRedis,
        GarbledRedis,
        TruncatedRedis,
        UnreachableDatabase,
        RefusingDatabase,
        DelayedDatabase,
        DelayedResponses,
        PausedDatabase,
        PromotedStandby,
        CrashedDatabase,
        TerminatedBackends,
        LockedRows,
        LongTransaction,
        PrunedLog,
        ClonedDatabase,
        RestoredDatabase,
    ];
}

const KEEP_A_COPY: &str = "for _, key in ipairs(redis.call('KEYS', 'sess:*')) do \
    redis.call('SET', 'old:' .. key, redis.call('GET', key)) end";
const BRING_IT_BACK: &str = "local keys = redis.call('KEYS', 'old:*') for _, key in ipairs(keys) \
    do redis.call('SET', string.sub(key, 5), redis.call('GET', key)) redis.call('DEL', key) end \
    return #keys";
const POISON: &str = "local keys = redis.call('KEYS', 'sess:*') for n, key in ipairs(keys) do
    local other = redis.call('GET', keys[#keys + 1 - n])
    local poison = { other, 'rubbish', n < 20 and string.rep('x', 1000000) or 'x', string.sub(other
    or '', 1, 20), '' }
    redis.call('SET', key, poison[n % 5 + 1] or '')
end return #keys";

/// Lets one thing go wrong for a while. Returns whether that had an effect.
pub(crate) async fn inflict(scene: &Scene, kind: FaultKind, rng: &mut Rng) -> bool {
    let cluster = &scene.cluster;
    let place = rng.usize(..NODES);
    let at = &cluster.places[place];
    let mut millis = |from, to| Duration::from_millis(rng.u64(from..to));
    let while_it_lasts = millis(300, 2500);
    match kind {
        PausedNode => {
            let Some(node) = cluster.node(place).await else { return false };
            let trouble = scene.ledger.trouble(Some(place));
            node.signal("STOP");
            tokio::time::sleep(while_it_lasts).await;
            let stopped = state(node.child.id()) == Some('T');
            node.signal("CONT");
            scene.ledger.trouble_is_over(trouble);
            stopped
        }
        KilledNode | RestartedNode => {
            let trouble = scene.ledger.trouble(Some(place));
            cluster.end_node(place, if kind == KilledNode { "KILL" } else { "TERM" }).await;
            cluster.start_node(place).await;
            scene.ledger.trouble_is_over(trouble);
            true
        }
        PausedRedis => {
            let redis = cluster.redis.lock().await;
            redis.primary.signal("STOP");
            tokio::time::sleep(while_it_lasts).await;
            redis.primary.signal("CONT");
            true
        }
        RestartedRedis => {
            cluster.redis.lock().await.restart_empty(&cluster.places, while_it_lasts).await;
            true
        }
        FlushedRedis => {
            let redis = cluster.redis.lock().await;
            let had = redis.primary.cli(&["DBSIZE"]);
            redis.primary.cli(&["FLUSHALL"]);
            had != "0"
        }
        StaleFailover => {
            let mut redis = cluster.redis.lock().await;
            redis.fail_over_to_a_stale_replica(&cluster.places, while_it_lasts).await
        }
        OldDump => {
            let redis = cluster.redis.lock().await;
            redis.primary.cli(&["EVAL", KEEP_A_COPY, "0"]);
            tokio::time::sleep(while_it_lasts).await;
            redis.primary.cli(&["EVAL", BRING_IT_BACK, "0"]) != "0"
        }
        PoisonedRedis => cluster.redis.lock().await.primary.cli(&["EVAL", POISON, "0"]) != "0",
        ReadOnlyRedis => {
            let redis = cluster.redis.lock().await;
            let millis = while_it_lasts.as_millis().to_string();
            redis.primary.cli(&["CLIENT", "PAUSE", &millis, "WRITE"]);
            tokio::time::sleep(while_it_lasts).await;
            true
        }
        FullRedis => {
            let redis = cluster.redis.lock().await;
            redis.primary.cli(&["CONFIG", "SET", "maxmemory", "1"]);
            tokio::time::sleep(while_it_lasts).await;
            let refused = redis.primary.cli(&["SET", "one", "more"]).contains("OOM");
            redis.primary.cli(&["CONFIG", "SET", "maxmemory", "0"]);
            refused
        }
        UnreachableRedis => through(&at.to_redis, Fault::Stall, while_it_lasts).await,
        RefusingRedis => through(&at.to_redis, Fault::Refuse, while_it_lasts).await,
        GarbledRedis => through(&at.to_redis, Fault::Garble, while_it_lasts).await,
        TruncatedRedis => through(&at.to_redis, Fault::Truncate, while_it_lasts).await,
        UnreachableDatabase | RefusingDatabase | DelayedDatabase | DelayedResponses => {
            let fault = match kind {
                UnreachableDatabase => Fault::Stall,
                RefusingDatabase => Fault::Refuse,
                DelayedDatabase => Fault::Delay(millis(100, 350)),
                _ => Fault::DelayResponses(millis(600, 850)),
            };
            let trouble = scene.ledger.trouble(None);
            let harmed =
                through(&at.to_postgres, fault, while_it_lasts + Duration::from_secs(1)).await;
            scene.ledger.trouble_is_over(trouble);
            harmed
        }
        PausedDatabase => {
            let trouble = scene.ledger.trouble(None);
            let database = cluster.database();
            database.server.signal("STOP");
            tokio::time::sleep(while_it_lasts).await;
            database.server.signal("CONT");
            scene.ledger.trouble_is_over(trouble);
            true
        }
        PromotedStandby => {
            let trouble = scene.ledger.trouble(None);
            let promoted = cluster.promote_a_standby().await;
            scene.ledger.trouble_is_over(trouble);
            promoted
        }
        CrashedDatabase => {
            let trouble = scene.ledger.trouble(None);
            let backend =
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'sessiond' LIMIT 1";
            let pid = cluster.sql(backend).await.unwrap_or_default();
            let killed = std::process::Command::new("kill").args(["-KILL", &pid]).status();
            let began = Instant::now();
            tokio::time::sleep(Duration::from_millis(100)).await;
            while cluster.sql("SELECT 1").await.is_err() {
                assert!(began.elapsed() < Duration::from_secs(30), "the database did not recover");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            scene.ledger.trouble_is_over(trouble);
            killed.is_ok_and(|status| status.success())
        }
        TerminatedBackends => {
            let trouble = scene.ledger.trouble(None);
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE \
                application_name = 'sessiond'";
            let ended = cluster.sql(sql).await;
            scene.ledger.trouble_is_over(trouble);
            ended.is_ok_and(|count| count != "0")
        }
        LockedRows => {
            let trouble = scene.ledger.trouble(None);
            let seconds = while_it_lasts.as_secs_f64();
            let sql = format!(
                "BEGIN; SELECT count(*) FROM (SELECT id FROM sessions WHERE revoked_at IS NULL \
                    ORDER BY id DESC LIMIT 40 FOR UPDATE SKIP LOCKED) AS _; SELECT \
                    pg_sleep({seconds}); COMMIT"
            );
            let locked = cluster.sql(&sql).await;
            scene.ledger.trouble_is_over(trouble);
            locked.is_ok_and(|text| !text.starts_with('0'))
        }
        LongTransaction => {
            let seconds = while_it_lasts.as_secs_f64();
            let sql =
                format!("BEGIN; SELECT pg_current_xact_id(); SELECT pg_sleep({seconds}); COMMIT");
            cluster.sql(&sql).await.is_ok()
        }
        PrunedLog => {
            // As the product does it, but at once, and not like a deletion by direct SQL from the
            // log: that would begin a life.
            let trigger = async |sql: &str| {
                cluster.sql(&format!("ALTER TABLE revocation_log {sql}")).await.is_ok()
            };
            if !trigger("DISABLE TRIGGER revocation_log_record_pruning").await {
                return false;
            }
            let sql = "WITH gone AS (DELETE FROM revocation_log RETURNING xid), noted AS (
                    UPDATE database_incarnation SET written_by = pg_current_xact_id(),
                    retained_from = greatest(retained_from,
                        (SELECT (xid::text::bigint + 1)::text::xid8 FROM gone ORDER BY xid DESC
                        LIMIT 1))
                ) SELECT count(*) FROM gone";
            let began = Instant::now();
            let mut cleared = false;
            while began.elapsed() < while_it_lasts {
                cleared |= cluster.sql(sql).await.is_ok_and(|count| count != "0");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            trigger("ENABLE ALWAYS TRIGGER revocation_log_record_pruning").await && cleared
        }
        ClonedDatabase => cluster.read_at_a_copy(&recent(scene), while_it_lasts).await,
        RestoredDatabase => {
            let Ok(backup) = cluster.dump().await else { return false };
            tokio::time::sleep(while_it_lasts).await;
            // Otherwise it would be unknown which of the sign-ins of this instant are revoked.
            let mut alone = Vec::new();
            for user in &scene.users {
                alone.push(user.lock().await);
            }
            let trouble = scene.ledger.trouble(None);
            scene.ledger.restoring();
            let was_put_back = cluster.restore(&backup).await;
            revoke_all(scene).await;
            scene.ledger.restored(was_put_back.is_ok());
            scene.ledger.trouble_is_over(trouble);
            was_put_back.is_ok()
        }
    }
}

/// Recent sessions, with their users.
fn recent(scene: &Scene) -> Vec<(String, String)> {
    let book = scene.ledger.book();
    let recent = &book.ids[book.ids.len().saturating_sub(200)..];
    recent.iter().map(|id| (id.clone(), book.sessions[id].user.clone())).collect()
}

/// Revokes all sessions, until that is acknowledged.
async fn revoke_all(scene: &Scene) {
    let began = Instant::now();
    loop {
        for place in 0..NODES {
            let Some(node) = scene.cluster.node(place).await else { continue };
            let url = format!("{}/service/v1/sessions/revoke", node.service);
            let request = node
                .http
                .post(url)
                .bearer_auth(node.service_key())
                .json(&serde_json::json!({ "all": true }));
            let reply = request.timeout(Duration::from_secs(10)).send().await;
            if reply.is_ok_and(|reply| reply.status().as_u16() == 200) {
                return;
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no node revokes all sessions");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn through(proxy: &testkit::FaultProxy, fault: Fault, while_it_lasts: Duration) -> bool {
    let before = proxy.harmed();
    proxy.set(fault);
    tokio::time::sleep(while_it_lasts).await;
    proxy.set(Fault::None);
    proxy.harmed() > before
}
