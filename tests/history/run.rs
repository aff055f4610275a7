//! A run: clients, faults, and what comes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use reqwest::Method;
use serde_json::json;

use crate::clients::{Scene, USERS, creator, ender, hot, namer, reader, rotator};
use crate::cluster::{Cluster, LIMIT, NODES, footprint};
use crate::faults::{FaultKind, inflict};
use crate::ledger::{Counts, Ledger};

const READERS: usize = 10;
const CREATORS: usize = 3;
const ENDERS: usize = 4;
const HOT: usize = 2;
/// How long everything has to be well before all nodes say what the database says.
const HEALED: Duration = Duration::from_secs(10);
/// How often a broken promise is shown.
const SHOWN: usize = 5;

/// What a run is made of.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) faults: Vec<FaultKind>,
    /// The bug that is switched on, and the promise that it breaks: the run ends as soon as it is
    /// broken.
    pub(crate) bug: Option<(&'static str, &'static str)>,
}

/// What came of a run.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) took: Duration,
    pub(crate) violations: Vec<String>,
    counts: Counts,
    /// How often each fault was inflicted, and how often that had an effect.
    faults: BTreeMap<FaultKind, (u32, u32)>,
    /// How often the machine stalled, and for how long in all.
    stalls: (usize, Duration),
    /// How descriptors and memory of each node that was not replaced have grown.
    growth: Vec<String>,
    /// What each node logged, if a promise is broken.
    logs: Vec<String>,
}

pub(crate) async fn run(plan: Plan) -> Report {
    println!(
        "seed {}, {} s{}",
        plan.seed,
        plan.length.as_secs(),
        plan.bug.map_or(String::new(), |(bug, _)| format!(", {bug}"))
    );
    let began = Instant::now();
    let scene = Arc::new(Scene {
        cluster: Cluster::start(plan.bug.map(|(bug, _)| bug)).await,
        ledger: Ledger::new(),
        over: AtomicBool::new(false),
        users: (0..USERS).map(|_| tokio::sync::Mutex::default()).collect(),
    });
    let mut rng = Rng::with_seed(plan.seed);
    let start = scene.ledger.trouble(None);
    let mut clients = Vec::new();
    for _ in 0..READERS {
        clients.push(tokio::spawn(reader(scene.clone(), rng.fork())));
    }
    for _ in 0..CREATORS {
        clients.push(tokio::spawn(creator(scene.clone(), rng.fork())));
    }
    for _ in 0..ENDERS {
        clients.push(tokio::spawn(ender(scene.clone(), rng.fork())));
    }
    for _ in 0..HOT {
        clients.push(tokio::spawn(hot(scene.clone(), rng.fork())));
    }
    // Of its own seed, so that those that are known go on meaning the same faults.
    clients.push(tokio::spawn(namer(scene.clone(), Rng::with_seed(plan.seed + 1))));
    clients.push(tokio::spawn(rotator(scene.clone(), Rng::with_seed(plan.seed + 2))));
    let watching = tokio::spawn(watch(scene.clone()));
    let measured = scene.clone();
    let measuring = std::thread::spawn(move || {
        while !measured.is_over() {
            measured.ledger.measure_stall();
        }
    });

    // A node may be busy connecting in its first second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.ledger.trouble_is_over(start);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut faults: BTreeMap<FaultKind, (u32, u32)> = BTreeMap::new();
    let is_found = || {
        plan.bug.is_some_and(|(_, promise)| {
            let is_broken = |text: &str| text.split(' ').next() == Some(promise);
            scene.ledger.book().violations.iter().any(|(_, text)| is_broken(text))
        })
    };
    let mut footprints = Vec::new();
    let mut order = plan.faults.clone();
    'run: loop {
        // Each of them once, in a new order, and again.
        rng.shuffle(&mut order);
        for kind in &order {
            if began.elapsed() >= plan.length || is_found() {
                break 'run;
            }
            let now = chrono::Utc::now().format("%H:%M:%S%.3f");
            println!("  {:6.1} s {now} {kind:?}", scene.ledger.elapsed().as_secs_f64());
            let had_effect = inflict(&scene, *kind, &mut rng).await;
            let (times, effective) = faults.entry(*kind).or_default();
            *times += 1;
            *effective += u32::from(had_effect);
            tokio::time::sleep(Duration::from_millis(rng.u64(1200..2200))).await;
            if began.elapsed() > plan.length / 4 && footprints.is_empty() {
                footprints = measure(&scene).await;
            }
        }
    }
    if plan.bug.is_none() {
        tokio::time::sleep(HEALED).await;
    }
    scene.over.store(true, Ordering::Relaxed);
    for client in clients.into_iter().chain([watching]) {
        client.await.unwrap();
    }
    measuring.join().unwrap();
    scene.ledger.judge_late_responses();
    let mut growth = Vec::new();
    if plan.bug.is_none() {
        all_agree(&scene).await;
        growth = compare(&scene, &footprints).await;
    }
    let mut logs = Vec::new();
    if !scene.ledger.book().violations.is_empty() && plan.bug.is_none() {
        for place in 0..NODES {
            logs.push(scene.cluster.node(place).await.unwrap().log());
        }
    }
    let book = scene.ledger.book();
    let at = |at: &Instant| scene.ledger.elapsed().saturating_sub(at.elapsed()).as_secs_f64();
    let violations =
        book.violations.iter().map(|(time, text)| format!("{text} ({:.1} s)", at(time))).collect();
    let took = began.elapsed();
    Report {
        seed: plan.seed,
        took,
        violations,
        counts: book.counts,
        faults,
        stalls: book.stalls(),
        growth,
        logs,
    }
}

/// Checks the database repeatedly: the limit holds, and revoked rows stay as they are.
async fn watch(scene: Arc<Scene>) {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let mut restores = 0;
    while !scene.is_over() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let restores_before = std::mem::replace(&mut restores, scene.ledger.restores());
        if restores != restores_before {
            known.clear();
        }
        let crowded = format!(
            "SELECT user_id FROM sessions WHERE revoked_at IS NULL AND ends_at > now() + interval \
                '1 second' GROUP BY user_id HAVING count(*) > {LIMIT}"
        );
        if let Ok(crowded) = scene.cluster.sql(&crowded).await
            && !crowded.is_empty()
        {
            scene.ledger.violate(format!("I3 more than {LIMIT} live sessions: {crowded}"));
        }
        let revoked = "SELECT id || ' ' || revoked_at FROM sessions WHERE revoked_at > now() - \
            interval '20 seconds'";
        let rows = scene.cluster.sql(revoked).await.unwrap_or_default();
        if scene.ledger.restores() != restores {
            continue;
        }
        for line in rows.lines() {
            let (id, at) = line.split_once(' ').unwrap();
            let first = known.entry(id.to_owned()).or_insert_with(|| at.to_owned());
            if first != at {
                scene
                    .ledger
                    .violate(format!("I4 session {id} was revoked at {first}, and then at {at}"));
            }
        }
        let unlogged = "SELECT count(*) FROM sessions WHERE revoked_at > now() - interval
            '5 seconds' AND NOT EXISTS (
            SELECT FROM revocation_log AS log WHERE log.session_id = sessions.id OR log.user_id =
            sessions.user_id
                OR (log.session_id IS NULL AND log.user_id IS NULL))
            AND (SELECT retained_from = '1' AND revoked_at > began_at + interval '1 second' FROM
            database_incarnation)";
        if let Ok(count) = scene.cluster.sql(unlogged).await
            && count != "0"
        {
            scene.ledger.violate(format!("I15 {count} revocations have no entry in the log"));
        }
    }
    let revoked = "SELECT id || ' ' || revoked_at FROM sessions WHERE revoked_at IS NOT NULL";
    let rows = scene.cluster.sql(revoked).await.unwrap();
    let in_the_end: BTreeMap<_, _> = rows.lines().filter_map(|line| line.split_once(' ')).collect();
    for (id, first) in known {
        let now = in_the_end.get(id.as_str());
        if now != Some(&first.as_str()) {
            scene.ledger.violate(format!(
                "I4 session {id} was revoked at {first}, and in the end at {now:?}"
            ));
        }
    }
}

/// Every node says of every session what the database says; and sessions that were not revoked are
/// live there.
async fn all_agree(scene: &Scene) {
    let sessions: Vec<_> = {
        let book = scene.ledger.book();
        let recent = &book.ids[book.ids.len().saturating_sub(400)..];
        let facts = |id: &String| {
            let entry = &book.sessions[id];
            (id.clone(), entry.user.clone(), entry.doubtful, entry.may_be_gone)
        };
        recent.iter().map(facts).collect()
    };
    let sql = "SELECT id || ' ' || CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN ends_at \
        <= now() THEN 'expired' ELSE 'live' END FROM sessions";
    let rows = scene.cluster.sql(sql).await.unwrap();
    let truth: BTreeMap<_, _> = rows.lines().filter_map(|line| line.split_once(' ')).collect();
    for (id, user, doubtful, may_be_gone) in sessions {
        let Some(expected) = truth.get(id.as_str()) else {
            if may_be_gone {
                continue;
            }
            scene.ledger.violate(format!("I7 session {id} is gone"));
            continue;
        };
        if *expected == "revoked" && !doubtful {
            scene.ledger.violate(format!("I2 session {id} is revoked, and no client revoked it"));
        }
        for place in 0..NODES {
            let node = scene.cluster.node(place).await.unwrap();
            let (status, body) = node
                .service(Method::GET, &format!("sessions/{id}?user_id={user}"), json!({}))
                .await;
            let returned = body["status"].as_str().unwrap_or_default();
            if status != 200
                || returned != *expected && *expected == "revoked"
                || returned == "revoked" && *expected != "revoked"
            {
                scene.ledger.violate(format!(
                    "I11 session {id}: node {place} returns {status} {returned}, the database \
                        {expected}"
                ));
            }
        }
    }
}

async fn measure(scene: &Scene) -> Vec<(u32, (usize, u64))> {
    let mut footprints = Vec::new();
    for place in 0..NODES {
        if let Some(node) = scene.cluster.node(place).await {
            footprints.push((node.child.id(), footprint(node.child.id())));
        }
    }
    footprints
}

/// Processes that were there at the beginning have not grown; a node's near cache may fill up
/// meanwhile.
async fn compare(scene: &Scene, before: &[(u32, (usize, u64))]) -> Vec<String> {
    let mut growth = Vec::new();
    for (pid, (descriptors, resident)) in measure(scene).await {
        let Some((_, (at_first, memory_at_first))) = before.iter().find(|(other, _)| *other == pid)
        else {
            continue;
        };
        let text = format!(
            "a node had {at_first} descriptors and {memory_at_first} MiB, and in the end \
                {descriptors} and {resident}"
        );
        // Clients keep connections, as many as ever were used at a time.
        if descriptors > at_first + 120 || resident > memory_at_first * 3 / 2 + 20 {
            scene.ledger.violate(format!("I16 {text}"));
        }
        growth.push(text);
    }
    growth
}

impl Report {
    /// Why this run shows nothing, if it does not.
    pub(crate) fn void(&self) -> Option<String> {
        let Counts {
            quiet_reads, quiet_reads_from_caches, reads_after_an_end, token_reads, ..
        } = self.counts;
        if let Some((kind, _)) =
            self.faults.iter().find(|(_, (times, effective))| *times > 1 && *effective == 0)
        {
            return Some(format!("{kind:?} never had an effect"));
        }
        if 2 * quiet_reads_from_caches < quiet_reads {
            return Some(format!(
                "caches served {quiet_reads_from_caches} of {quiet_reads} reads while all was \
                    well"
            ));
        }
        if token_reads == 0 {
            return Some("no session was read by its token".to_owned());
        }
        (reads_after_an_end == 0).then(|| "no revoked session was read".to_owned())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        writeln!(f, "seed {}, {:.0} s", self.seed, self.took.as_secs_f64())?;
        writeln!(
            f,
            "sessions: {} created, {} revocations acknowledged, {} of unknown outcome",
            c.created, c.revoked, c.unknown_ends
        )?;
        let share = 100 * c.quiet_reads_from_caches / c.quiet_reads.max(1);
        writeln!(
            f,
            "reads: {}, of them {} after the revocation was acknowledged, {} live from caches, {} \
                without a response ({} while all was well)",
            c.reads, c.reads_after_an_end, c.cached, c.unavailable, c.unexplained
        )?;
        writeln!(f, "while all was well: {} live responses, {share} % from caches", c.quiet_reads)?;
        writeln!(f, "reads by a token that is rotated: {}", c.token_reads)?;
        writeln!(f, "names were behind by {:.0} s at most", c.behind.as_secs_f64())?;
        let faults = self
            .faults
            .iter()
            .map(|(kind, (times, effective))| format!("{kind:?} {effective}/{times}"));
        writeln!(f, "faults with an effect: {}", faults.collect::<Vec<_>>().join(", "))?;
        writeln!(f, "the slowest response took {:.1} s", c.slowest.as_secs_f64())?;
        let (times, stalled) = self.stalls;
        writeln!(f, "the machine stalled {times} times, for {:.1} s", stalled.as_secs_f64())?;
        self.growth.iter().try_for_each(|text| writeln!(f, "{text}"))?;
        writeln!(f, "broken promises: {}", self.violations.len())?;
        let mut shown: BTreeMap<_, usize> = BTreeMap::new();
        for violation in &self.violations {
            let times = shown.entry(violation.split(' ').next()).or_default();
            *times += 1;
            if *times <= SHOWN {
                writeln!(f, "  {violation}")?;
            }
        }
        // Last, because they are long, and a reader of a long output may see its beginning only.
        for (place, log) in self.logs.iter().enumerate() {
            writeln!(f, "node {place}:")?;
            log.lines().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        Ok(())
    }
}
