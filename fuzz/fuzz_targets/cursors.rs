//! Any cursor, time, address or name: it is read in its one spelling or refused, and
//! never a 5xx.

#![no_main]

use axum::http::Uri;
use libfuzzer_sys::fuzz_target;
use fixture::Fixture;
use testkit::fixtures;

#[expect(dead_code, reason = "the tests of the HTTP interface use the rest")]
#[path = "../../crates/app/tests/http/fixture.rs"]
mod fixture;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(address) = domain::parse_ip_address(text) {
        assert_eq!(address, address.to_canonical());
        assert_eq!(domain::parse_ip_address(&address.to_string()), Some(address));
    }
    if let Ok(name) = domain::parse_name(text) {
        assert_eq!(domain::parse_name(&name).as_deref(), Ok(name.as_str()));
        assert!(!name.is_empty() && !name.chars().any(char::is_control));
    }
    let path = format!("/api/v1/sessions?cursor={text}");
    if path.parse::<Uri>().is_err() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let fixture = Fixture::new();
        fixture.store(&fixtures::session()).await;
        let response = fixture.get_in(&fixtures::session(), &path).await;
        assert!([200, 400].contains(&response.status.as_u16()), "{text}: {}", response.status);
    });
});
