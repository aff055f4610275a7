//! What the parts of a read take: `cargo bench -p sessiond-bench`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use adapters_memory::MemorySessionCache;
use adapters_redis::cached_value::{self, Signer};
use application::coherence::{CoherentSessionCache, RevocationFollower, RevocationState};
use application::queries::GetSession;
use application::queries::handlers::GetSessionHandler;
use criterion::{Criterion, criterion_group, criterion_main};
use domain::coherence::{
    LogPage, MonotonicInstant, RevocationEntry, RevocationMap, Scope, Snapshot,
};
use domain::ports::{Clock, SessionCache, SessionRepository};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use sessiond::auth::{Issuer, Subject, TokenRules, TokenVerifier};
use sessiond::system::{SystemClock, SystemMonotonicClock};
use testkit::fixtures;
use testkit::memory::{MemoryDatabase, MemoryNodes, MemoryRevocationFeed, MemorySessionRepository};
use uuid::Uuid;

/// The whole handler, with the clocks of the product: the near cache and the check, or the database
/// and all caches.
fn handler(criterion: &mut Criterion) {
    let clock = Arc::new(SystemClock);
    let monotonic = Arc::new(SystemMonotonicClock::default());
    let database = MemoryDatabase::default();
    let repo = Arc::new(MemorySessionRepository::new(database.clone()));
    let feed =
        MemoryRevocationFeed::new(database.clone(), MemoryNodes::default(), Uuid::from_u128(1));
    // There are no further polls during the measurement, so the one poll stays valid.
    let state = Arc::new(RevocationState::new(monotonic.clone(), Duration::from_secs(3600)));
    RevocationFollower::new(Arc::new(feed), state.clone()).poll().now_or_never();
    let now = clock.now();
    let session = domain::Session {
        created_at: now,
        last_activity_at: now,
        expires_at: now + chrono::TimeDelta::days(1),
        ..sessiond_bench::session(1)
    };
    repo.insert(&session, None).now_or_never();
    let query = GetSession { session_id: session.id, user_id: session.user_id };
    let handler = |near: Option<Arc<dyn SessionCache>>| {
        let cache = CoherentSessionCache::new(near, None, state.clone());
        GetSessionHandler::new(repo.clone(), Arc::new(cache))
    };
    let with_near = handler(Some(Arc::new(MemorySessionCache::new(1000, clock.clone()))));
    let without = handler(None);
    for (name, handler) in [("get_session/near", with_near), ("get_session/database", without)] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| black_box(handler.handle(black_box(query)).now_or_never()));
        });
    }
}

/// The check of a cached session, with no entries and with as many as a busy service has in twelve
/// minutes.
fn check(criterion: &mut Criterion) {
    let session = sessiond_bench::session(1);
    let version = sessiond_bench::read_version();
    for count in [0, 1000, 100_000] {
        let entry = |n: u64| RevocationEntry {
            sequence: n,
            scope: Scope::Session(sessiond_bench::session(n + 2).id),
        };
        let page = LogPage {
            incarnation: version.incarnation,
            entries: (0..count).map(entry).collect(),
            snapshot: Snapshot::below(count),
            is_last: true,
            starts_over: Some(Snapshot::default()),
        };
        let mut map = RevocationMap::default();
        map.apply(&page, MonotonicInstant::default(), Duration::from_secs(1));
        let now = MonotonicInstant::default();
        criterion.bench_function(&format!("check/{count}_entries"), |bencher| {
            bencher.iter(|| {
                black_box(map.check(session.id, session.user_id, black_box(&version), now))
            });
        });
    }
}

/// A token that was seen before, and one that was not.
fn token(criterion: &mut Criterion) {
    const SECRET: &[u8] = b"a secret of the bench, thirty-two characters";
    let rules = || TokenRules {
        issuer: None,
        subject: Subject::Uuid,
        audiences: Vec::new(),
        session_claim: "sid".into(),
        types: vec!["at+jwt".into(), "jwt".into()],
    };
    let verifier =
        || TokenVerifier::new(vec![Issuer::new(rules()).with_secret(SECRET)], fixtures::clock());
    let session = sessiond_bench::session(1);
    let token = |n: i64| {
        let claims = json!({
            "sub": session.user_id.to_string(),
            "sid": session.id.to_string(),
            "exp": fixtures::now().timestamp() + 60 + n
        });
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(SECRET))
            .unwrap_or_default()
    };
    let known = token(0);
    let verifier_of_known = verifier();
    criterion.bench_function("token/known", |bencher| {
        bencher.iter(|| black_box(verifier_of_known.verify(black_box(&known)).now_or_never()));
    });
    // More than the cache holds.
    let tokens: Vec<_> = (0..200_000).map(token).collect();
    let verifier = verifier();
    let mut n = 0;
    criterion.bench_function("token/new_hs256", |bencher| {
        bencher.iter(|| {
            n = (n + 1) % tokens.len();
            black_box(verifier.verify(black_box(&tokens[n])).now_or_never())
        });
    });
}

/// What is kept in Redis.
fn codec(criterion: &mut Criterion) {
    let signer = Signer::new(&[7; 32]);
    let key = b"prefix:a key of thirty-two bytes, as ids";
    let session = sessiond_bench::session(1);
    let version = sessiond_bench::read_version();
    criterion.bench_function("codec/encode", |bencher| {
        bencher
            .iter(|| black_box(cached_value::encode(black_box(&session), &version, &signer, key)));
    });
    let value = cached_value::encode(&session, &version, &signer, key).unwrap_or_default();
    let now = fixtures::now();
    criterion.bench_function("codec/decode", |bencher| {
        bencher.iter(|| {
            black_box(cached_value::decode(
                black_box(&value),
                &signer,
                key,
                session.id,
                session.user_id,
                now,
            ))
        });
    });
}

criterion_group!(benches, handler, check, token, codec);
criterion_main!(benches);
