//! The devices page and its files.

use axum::body::Body;
use axum::http::Request;

use crate::fixture::Fixture;

#[tokio::test]
async fn page_runs_nothing_inline_and_cannot_be_framed() {
    let fixture = Fixture::new();
    let request = Request::get("/devices").header("accept-language", "fr-CA,en;q=0.5");
    let page = fixture.public(request.body(Body::empty()).unwrap()).await;
    let policy = page.header("content-security-policy");
    assert!(!policy.contains("unsafe") && policy.starts_with("default-src 'none';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("vary"), "accept-language");
    let text = page.text();
    assert!(text.contains("<html lang=\"fr\">") && text.contains("<h1>Vos appareils</h1>"));
    assert!(!text.contains('{') && !text.contains("<style") && !text.contains(" style="), "{text}");
}

/// An application of another origin loads the element from here.
#[tokio::test]
async fn element_can_be_loaded_from_other_origins() {
    let fixture = Fixture::new();
    for (path, content_type) in [
        ("/assets/sessiond-devices.js", "text/javascript; charset=utf-8"),
        ("/assets/devices.css", "text/css; charset=utf-8"),
    ] {
        let file = fixture.get(path, None).await;
        assert_eq!((file.status.as_u16(), file.header("content-type")), (200, content_type));
        assert_eq!(file.header("cache-control"), "public, max-age=300");
        assert_eq!(file.header("x-content-type-options"), "nosniff");
    }
    let element = fixture.get("/assets/sessiond-devices.js", None).await;
    assert_eq!(element.header("access-control-allow-origin"), "*");
    assert!(element.text().contains("customElements.define(\"sessiond-devices\""));
}
