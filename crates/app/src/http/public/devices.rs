//! The devices page: the custom element `<sessiond-devices>`, for the account pages of
//! applications, and a page that shows it. The files are part of the binary.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::PublicState;
use crate::http::wire::page::{module, page, stylesheet};

const PAGE: &str = include_str!("../../../assets/devices.html");
const STYLE: &str = include_str!("../../../assets/devices.css");
const ELEMENT: &str = include_str!("../../../assets/sessiond-devices.js");

/// The languages that the element has texts in, with the title of the page. The first is for those
/// who prefer another one.
const TITLES: [(&str, &str); 5] = [
    ("en", "Your devices"),
    ("de", "Ihre Geräte"),
    ("fr", "Vos appareils"),
    ("es", "Tus dispositivos"),
    ("ja", "お使いのデバイス"),
];

/// Returns the routes of the page and of its files. They need no credentials: the element presents
/// those of its user.
pub(super) fn routes() -> [(&'static str, MethodRouter<PublicState>); 3] {
    [
        ("/devices", get(devices_page)),
        ("/assets/devices.css", get(devices_style)),
        ("/assets/sessiond-devices.js", get(devices_element)),
    ]
}

async fn devices_page(headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let (language, title) = preferred(accepted.unwrap_or_default());
    let text = PAGE.replace("{language}", language).replace("{title}", title);
    let vary = [(header::VARY, HeaderValue::from_static("accept-language"))];
    (vary, page(text)).into_response()
}

/// Returns the first language of an `Accept-Language` header that there are texts in, with its
/// title. Browsers list languages by preference, so weights are not compared.
fn preferred(accepted: &str) -> (&'static str, &'static str) {
    let primary = |tag: &str| tag.split([';', '-']).next().map(|tag| tag.trim().to_lowercase());
    let of =
        |tag: &str| TITLES.into_iter().find(|(known, _)| primary(tag).as_deref() == Some(known));
    accepted.split(',').find_map(of).unwrap_or(TITLES[0])
}

async fn devices_style() -> Response {
    stylesheet(STYLE)
}

/// The element without comments and indentation, which browsers have no use for.
static SERVED_ELEMENT: LazyLock<String> = LazyLock::new(|| {
    let is_code =
        |line: &&str| !line.is_empty() && !line.starts_with("//") && !line.starts_with("/**");
    ELEMENT.lines().map(str::trim).filter(is_code).flat_map(|line| [line, "\n"]).collect()
});

/// Applications of other origins load the module as well, which takes CORS (Fetch, section 3.3).
async fn devices_element() -> Response {
    let anyone = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        ),
    ];
    (anyone, module(SERVED_ELEMENT.as_str())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_in_the_first_language_that_there_are_texts_in() {
        for (accepted, language) in [
            ("", "en"),
            ("ja", "ja"),
            ("de-AT,de;q=0.9,en;q=0.8", "de"),
            ("it-IT, fr-CA;q=0.9", "fr"),
            ("ar", "en"),
            ("EN-gb,de", "en"),
            (";;;,,-", "en"),
        ] {
            assert_eq!(preferred(accepted).0, language, "{accepted}");
        }
    }

    #[test]
    fn element_is_under_20_kb_and_has_texts_in_every_language_of_the_page() {
        assert!(SERVED_ELEMENT.len() < 20_000, "{}", SERVED_ELEMENT.len());
        for (language, title) in TITLES {
            assert!(SERVED_ELEMENT.contains(&format!("\n{language}: {{\ntitle: \"{title}\",")));
        }
    }
}
