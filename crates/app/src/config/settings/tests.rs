//! Values become settings, or all their errors are shown at once.

use super::*;

const HASH: &str = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let dir = testkit::TemporaryDir::new();
    let path = dir.path().join("sessiond.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    let values =
        Values::from_sources(Some(path), environment).map_err(|error| error.to_string())?;
    Settings::from_values(&values).map_err(|error| error.to_string())
}

fn errors(file: &str) -> Vec<String> {
    load(file, &[]).err().unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn defaults_are_a_configuration() {
    let settings = load("", &[]).unwrap();
    assert!(
        !settings.auth.has_token_keys()
            && settings.auth.service_keys.is_empty()
            && settings.prepared
    );
    assert_eq!(settings.idle_timeout, Duration::from_secs(75));
}

#[test]
fn every_error_is_shown_at_once_and_no_value() {
    let file = r#"
        [server]
        listen = "s3cret"
        idle_timeout = "s3cret"
        lisen = "s3cret"
        [store]
        pool_size = "s3cret"
        url = "s3cret"
        [auth]
        service_keys = ["s3cret"]
        service_key_hashes = "s3cret"
        [auth.jwt]
        hs256_secret = "s3cret"
        jwks_url = "s3cret"
        [sessions]
        lifetime = "s3cret"
        on_limit = "s3cret"
        [limits]
        in_flight = "s3cret"
        user_rate = 2026-01-01
    "#;
    let errors = errors(file);
    for key in [
        "server.listen",
        "server.idle_timeout",
        "server.lisen",
        "store.pool_size",
        "store.url",
        "auth.service_keys",
        "auth.service_key_hashes",
        "auth.jwt.jwks_url",
        "sessions.lifetime",
        "sessions.on_limit",
        "limits.in_flight",
        "limits.user_rate",
    ] {
        assert!(errors.iter().any(|error| error.contains(key)), "{key}: {errors:#?}");
    }
    assert!(errors.iter().all(|error| !error.contains("s3cret")), "{errors:#?}");
}

#[test]
fn secret_file_is_trimmed_and_an_empty_one_is_an_error() {
    let dir = testkit::TemporaryDir::new();
    let path = dir.path().join("secret");
    let shown = path.display().to_string();
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load("", &[("SESSIOND_AUTH__JWT__HS256_SECRET_FILE", &shown)])
    };
    let secret = "0123456789abcdef0123456789abcdef";
    for text in [format!("{secret}\n"), format!("\u{FEFF}{secret}\r\n"), format!("  {secret} \n\n")]
    {
        let settings = with(&text).unwrap();
        let found =
            settings.auth.issuers[0].hs256_secret.as_ref().unwrap().expose_secret().to_owned();
        assert_eq!(found, secret, "{text:?}");
    }
    for text in ["", "\n", " \u{FEFF}\n"] {
        let error = with(text).err().unwrap();
        assert!(error.contains("auth.jwt.hs256_secret_file") && error.contains(&shown), "{error}");
    }
}

#[test]
fn empty_value_is_an_absent_one() {
    let file = "[cache]\nurl = \"\"\n[auth.jwt]\nissuer = \"  \"\naudience = []";
    let settings =
        load(file, &[("SESSIOND_STORE__URL", ""), ("SESSIOND_SERVER__LISTEN", " ")]).unwrap();
    assert!(settings.cache.url.is_none() && settings.auth.development.issuer.is_none());
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
    assert!(matches!(settings.store_url, StoreUrl::Sqlite(url) if url == "sqlite://sessiond.db"));
}

#[test]
fn service_keys_have_names_and_scopes_in_both_forms() {
    let all = Scopes { read: true, write: true, operate: true };
    let read = Scopes { read: true, write: false, operate: false };
    let table = format!(
        "[[auth.service_keys]]\nname = \"billing\"\nsha256 = \"{HASH}\"\nscopes = [\"read\"]\n\
        [[auth.service_keys]]\nname = \"ops\"\nsha256 = \"{HASH}  -\"\n"
    );
    let keys = load(&table, &[]).unwrap().auth.service_keys;
    let found: Vec<_> = keys.iter().map(|key| (key.name.as_deref().unwrap(), key.scopes)).collect();
    assert_eq!(found, [("billing", read), ("ops", all)]);

    let text = format!("billing:{HASH}:read, ops:{}", HASH.to_uppercase());
    let hashes = format!("{HASH}  -");
    let environment = [
        ("SESSIOND_AUTH__SERVICE_KEYS", text.as_str()),
        ("SESSIOND_AUTH__SERVICE_KEY_HASHES", hashes.as_str()),
    ];
    let both = load("", &environment).unwrap().auth.service_keys;
    assert_eq!(both[..2], keys[..]);
    assert_eq!(both[2], ServiceKeySettings { name: None, ..keys[1].clone() });

    for (text, wanted) in [
        (format!("Billing:{HASH}"), "name"),
        (format!(":{HASH}"), "name"),
        (HASH.to_owned(), "name"),
        ("billing".to_owned(), "sha256sum"),
        ("billing:abc".to_owned(), "sha256sum"),
        (format!("billing:{HASH}:admin"), "scopes"),
        (format!("billing:{HASH}:"), "scopes"),
        (format!("billing:{HASH},billing:{HASH}"), "same name"),
    ] {
        let error = load("", &[("SESSIOND_AUTH__SERVICE_KEYS", &text)]).err().unwrap();
        assert!(error.contains("auth.service_keys") && error.contains(wanted), "{text}: {error}");
    }
    let table =
        format!("[[auth.service_keys]]\nname = \"a\"\nsha256 = \"{HASH}\"\nscope = \"read\"");
    assert!(load(&table, &[]).err().unwrap().contains("auth.service_keys"));
}

#[test]
fn issuers_are_tables_with_keys_of_their_own() {
    let file = r#"
        [[auth.issuers]]
        issuer = "https://a/"
        audience = ["x", "y"]
        jwks_url = "https://a/jwks"
        subject = "uuid5"
        [[auth.issuers]]
        issuer = "https://b/"
        hs256_secret = "0123456789abcdef0123456789abcdef"
        session_claim = "session"
        types = "jwt"
    "#;
    let issuers = load(file, &[]).unwrap().auth.issuers;
    assert_eq!(issuers.len(), 2);
    assert_eq!(issuers[0].audiences, ["x", "y"]);
    assert_eq!(
        (issuers[0].subject, issuers[1].subject),
        (SubjectMapping::Uuid5, SubjectMapping::Uuid)
    );
    assert_eq!(
        (issuers[0].session_claim.as_str(), issuers[1].session_claim.as_str()),
        ("sid", "session")
    );
    assert_eq!((issuers[0].types.len(), issuers[1].types.len()), (2, 1));
    let environment = [
        ("SESSIOND_AUTH__ISSUERS__0__ISSUER", "https://a/"),
        ("SESSIOND_AUTH__ISSUERS__0__JWKS_URL", "https://a/jwks"),
    ];
    assert_eq!(
        load("", &environment).unwrap().auth.issuers[0].issuer.as_deref(),
        Some("https://a/")
    );

    let one = "[[auth.issuers]]\nissuer = \"https://a/\"\njwks_url = \"https://a/jwks\"\n";
    for (file, wanted) in [
        ("[[auth.issuers]]\njwks_url = \"https://a/jwks\"".to_owned(), "auth.issuers[0].issuer"),
        ("[[auth.issuers]]\nissuer = \"https://a/\"".to_owned(), "has no key"),
        (format!("{one}{one}"), "another table"),
        (format!("{one}jwksurl = 1"), "did you mean jwks_url?"),
        (format!("{one}subject = \"email\""), "auth.issuers[0].subject"),
        (format!("{one}[auth.jwt]\njwks_url = \"https://c/\""), "one of the two"),
        ("[auth.jwt]\nissuer = \"a,b\"".to_owned(), "[[auth.issuers]]"),
        ("[auth.jwt]\nsubject = \"uuid5\"".to_owned(), "auth.jwt.subject"),
    ] {
        let error = load(&file, &[]).err().unwrap();
        assert!(error.contains(wanted), "{file}: {error}");
    }
}

#[test]
fn network_in_ipv4_mapped_spelling_is_ipv4() {
    let networks = |text: &str| {
        let proxies = load("", &[("SESSIOND_SERVER__TRUSTED_PROXIES", text)])?.trusted_proxies;
        Ok::<_, String>(proxies.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        networks("::ffff:127.0.0.0/104, ::ffff:10.0.0.1").unwrap(),
        ["127.0.0.0/8", "10.0.0.1/32"]
    );
    assert_eq!(networks("10.0.0.0/8,2001:db8::/32").unwrap(), ["10.0.0.0/8", "2001:db8::/32"]);
    for text in ["10.0.0.0/33", "*", "localhost", "::ffff:10.0.0.0/95", "10.0.0.0/8 192.0.2.0/24"] {
        assert!(networks(text).err().unwrap().contains("server.trusted_proxies"), "{text}");
    }
}
