//! Any value in Redis: it is refused unless it is signed, and what is signed is a session of
//! that key or refused.

#![no_main]

use std::sync::LazyLock;

use adapters_redis::cached_value::{Signer, VERSION, decode};
use libfuzzer_sys::fuzz_target;
use testkit::fixtures;

static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::new(&[7; 32]));

fuzz_target!(|data: &[u8]| {
    let session = fixtures::session();
    let key = b"sess:key";
    let decode =
        |value: &[u8]| decode(value, &SIGNER, key, session.id, session.user_id, fixtures::now());
    assert!(decode(data).is_err());
    let mut signed = vec![VERSION];
    signed.extend_from_slice(&SIGNER.sign(key, data));
    signed.extend_from_slice(data);
    if let Ok((found, _)) = decode(&signed) {
        assert_eq!((found.id, found.user_id), (session.id, session.user_id));
        assert!(!found.is_revoked() && found.is_live(fixtures::now()));
    }
});
