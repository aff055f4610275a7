//! Tests of token verification, with a corpus of forged and broken tokens.

use chrono::TimeDelta;
use jsonwebtoken::{EncodingKey, encode};
use serde_json::json;
use testkit::{FixedClock, fixtures};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn rules() -> TokenRules {
    TokenRules {
        issuer: None,
        audiences: Vec::new(),
        subject: Subject::Uuid,
        session_claim: "sid".into(),
        types: vec!["at+jwt".into(), "jwt".into()],
    }
}

fn verifier() -> TokenVerifier {
    with_rules(rules())
}

fn with_rules(rules: TokenRules) -> TokenVerifier {
    TokenVerifier::new(vec![Issuer::new(rules).with_secret(SECRET)], fixtures::clock())
}

fn now() -> i64 {
    fixtures::now().timestamp()
}

fn claims() -> Value {
    let session = fixtures::session();
    json!({ "sub": session.user_id.to_string(), "sid": session.id.to_string(), "exp": now() + 60 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn sign(header: &Header, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn hs256(claims: &Value) -> String {
    sign(&Header::new(Algorithm::HS256), claims)
}

async fn refused(verifier: &TokenVerifier, token: &str) -> bool {
    refusal(verifier, token).await.is_some()
}

async fn refusal(verifier: &TokenVerifier, token: &str) -> Option<Refusal> {
    match verifier.verify(token).await {
        Err(TokenError::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

#[tokio::test]
async fn a_good_token_names_user_and_session() {
    let session = fixtures::session();
    let verified = verifier().verify(&hs256(&claims())).await.unwrap();
    assert_eq!((verified.user_id, verified.session_id), (session.user_id, session.id));
    let exp = claims()["exp"].as_i64().unwrap();
    assert_eq!(verified.expires_at.timestamp(), exp + 5, "with the leeway");
}

#[tokio::test]
async fn a_token_that_was_accepted_lends_nothing_to_any_other_nor_to_itself_once_it_is_over() {
    let clock = Arc::new(FixedClock::at(fixtures::now()));
    let verifier =
        TokenVerifier::new(vec![Issuer::new(rules()).with_secret(SECRET)], clock.clone());
    let token = hs256(&claims());
    for _ in 0..2 {
        assert!(verifier.verify(&token).await.is_ok());
    }
    for index in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        assert!(refused(&verifier, std::str::from_utf8(&changed).unwrap()).await, "{index}");
    }
    assert!(refused(&verifier, &token[..token.len() - 1]).await);
    clock.advance(TimeDelta::seconds(65));
    assert!(refused(&verifier, &token).await);
}

#[tokio::test]
async fn times_are_checked_with_five_seconds_of_leeway() {
    for (name, offset, accepted) in [
        ("exp", -4, true),
        ("exp", -5, false),
        ("exp", -3600, false),
        ("nbf", 5, true),
        ("nbf", 6, false),
        ("nbf", -60, true),
    ] {
        let token = hs256(&with(name, json!(now() + offset)));
        assert_eq!(verifier().verify(&token).await.is_ok(), accepted, "{name} {offset}");
    }
    for exp in [json!("9999999999"), json!(null), json!(true), json!([]), json!(-1)] {
        assert!(refused(&verifier(), &hs256(&with("exp", exp.clone()))).await, "exp {exp}");
    }
    assert!(verifier().verify(&hs256(&with("exp", json!(now() as f64 + 0.5)))).await.is_ok());
}

#[tokio::test]
async fn claims_have_to_be_there_and_to_be_ids() {
    for name in ["sub", "sid", "exp"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert!(refused(&verifier(), &hs256(&claims)).await, "without {name}");
    }
    for (name, value) in [
        ("sub", json!("alice")),
        ("sub", json!(7)),
        ("sid", json!("' OR 1=1")),
        ("sid", json!(null)),
    ] {
        assert!(refused(&verifier(), &hs256(&with(name, value.clone()))).await, "{name} = {value}");
    }
}

#[tokio::test]
async fn the_session_claim_is_configurable() {
    let rules = TokenRules { session_claim: "session_id".into(), ..rules() };
    let verifier = with_rules(rules);
    assert!(
        verifier
            .verify(&hs256(&with("session_id", json!(fixtures::session().id.to_string()))))
            .await
            .is_ok()
    );
    assert!(refused(&verifier, &hs256(&claims())).await);
}

#[tokio::test]
async fn issuer_and_audience_are_required_where_they_are_configured() {
    let rules = TokenRules {
        issuer: Some("https://id".into()),
        audiences: vec!["a".into(), "b".into()],
        ..rules()
    };
    let strict = with_rules(rules);
    let token = |iss: Value, aud: Value| {
        let mut claims = claims();
        (claims["iss"], claims["aud"]) = (iss, aud);
        hs256(&claims)
    };
    assert!(strict.verify(&token(json!("https://id"), json!("b"))).await.is_ok());
    assert!(strict.verify(&token(json!("https://id"), json!(["x", "a"]))).await.is_ok());
    for (iss, aud) in [
        (json!("https://evil"), json!("a")),
        (json!("https://id"), json!("x")),
        (json!("https://id"), json!([])),
        (json!(null), json!("a")),
        (json!("https://id"), json!(null)),
    ] {
        assert!(refused(&strict, &token(iss.clone(), aud.clone())).await, "{iss} {aud}");
    }
    assert!(refused(&strict, &hs256(&claims())).await);
    // Not configured, they do not matter.
    assert!(verifier().verify(&token(json!("any"), json!("anything"))).await.is_ok());
}

#[tokio::test]
async fn types_are_an_allow_list() {
    let typed = |typ: Option<&str>| {
        sign(&Header { typ: typ.map(str::to_owned), ..Header::new(Algorithm::HS256) }, &claims())
    };
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("application/at+JWT")] {
        assert!(verifier().verify(&typed(typ)).await.is_ok(), "{typ:?}");
    }
    for typ in ["id+jwt", "logout+jwt", "", "application/"] {
        assert!(refused(&verifier(), &typed(Some(typ))).await, "{typ}");
    }
    let rules = TokenRules { types: vec!["at+jwt".into()], ..rules() };
    let strict = with_rules(rules);
    assert!(strict.verify(&typed(Some("at+jwt"))).await.is_ok());
    assert!(refused(&strict, &typed(Some("JWT"))).await && refused(&strict, &typed(None)).await);
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let good = hs256(&claims());
    let [header, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let other_body = hs256(&with("sub", json!(fixtures::another_user().to_string())));
    let other_body = other_body.split('.').nth(1).unwrap();
    let none = |alg: &str| {
        use std::fmt::Write;
        // Base64url without padding of a small JSON text, written manually.
        let json = format!("{{\"alg\":\"{alg}\",\"typ\":\"JWT\"}}");
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = String::new();
        for chunk in json.as_bytes().chunks(3) {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - chunk.len()));
            for i in 0..=chunk.len() {
                write!(text, "{}", alphabet[(bits >> (18 - 6 * i) & 63) as usize] as char).unwrap();
            }
        }
        text
    };
    let tokens = [
        String::new(),
        "nonsense".into(),
        "..".into(),
        format!("{header}.{body}."),
        format!("{header}.{body}"),
        format!("{header}.{other_body}.{signature}"),
        format!("{header}.{body}.{}", signature.chars().rev().collect::<String>()),
        format!("{good}.{good}"),
        format!("{}.{body}.", none("none")),
        format!("{}.{body}.", none("None")),
        format!("{}.{body}.{signature}", none("HS384")),
        format!("{}.{body}.{signature}", none("RS256")),
        encode(
            &Header::new(Algorithm::HS256),
            &claims(),
            &EncodingKey::from_secret(b"another secret"),
        )
        .unwrap(),
        encode(&Header::new(Algorithm::HS512), &claims(), &EncodingKey::from_secret(SECRET))
            .unwrap(),
        sign(
            &Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::HS256) },
            &claims(),
        ),
        hs256(&with("padding", json!("x".repeat(MAX_TOKEN_BYTES)))),
    ];
    for token in tokens {
        assert!(refused(&verifier(), &token).await, "{token}");
    }
    assert!(
        refused(&TokenVerifier::new(Vec::new(), fixtures::clock()), &good).await,
        "without any issuer"
    );
}

#[test]
fn a_claim_that_occurs_twice_is_refused() {
    assert!(serde_json::from_str::<Claims>(r#"{"sub": "a", "sid": "b"}"#).is_ok());
    assert!(serde_json::from_str::<Claims>(r#"{"sub": "a", "sub": "a"}"#).is_err());
    assert!(serde_json::from_str::<Claims>(r#"["sub"]"#).is_err());
}

/// The commonest errors of a first installation, each under its own name.
#[tokio::test]
async fn refusal_says_what_is_wrong() {
    let rules =
        TokenRules { issuer: Some("https://id/".into()), audiences: vec!["app".into()], ..rules() };
    let verifier = with_rules(rules);
    let good = || {
        let mut claims = claims();
        (claims["iss"], claims["aud"]) = (json!("https://id/"), json!("app"));
        claims
    };
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        hs256(&claims)
    };
    let without = |name: &str| {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        hs256(&claims)
    };
    assert!(verifier.verify(&hs256(&good())).await.is_ok());
    let other_key = EncodingKey::from_secret(b"another secret of enough bytes!!");
    let typed = Header { typ: Some("id+jwt".into()), ..Header::new(Algorithm::HS256) };
    let critical = Header { crit: Some(vec!["exp".into()]), ..Header::new(Algorithm::HS256) };
    let huge = with("groups", json!("x".repeat(MAX_TOKEN_BYTES)));
    for (token, expected) in [
        (with("iss", json!("https://id")), Refusal::Issuer),
        (without("iss"), Refusal::Issuer),
        (with("aud", json!("other")), Refusal::Audience),
        (without("aud"), Refusal::Audience),
        (with("exp", json!(now() - 60)), Refusal::Expired),
        (without("exp"), Refusal::NoExpiry),
        (with("exp", json!("soon")), Refusal::Time),
        (with("exp", json!(1e300)), Refusal::Time),
        (with("nbf", json!(now() + 60)), Refusal::NotYetValid),
        (with("sub", json!("auth0|1")), Refusal::Subject),
        (without("sub"), Refusal::Subject),
        (without("sid"), Refusal::SessionClaim),
        (encode(&Header::new(Algorithm::HS256), &good(), &other_key).unwrap(), Refusal::Signature),
        (
            encode(&Header::new(Algorithm::HS512), &good(), &EncodingKey::from_secret(SECRET))
                .unwrap(),
            Refusal::Algorithm,
        ),
        (sign(&typed, &good()), Refusal::Type),
        (sign(&critical, &good()), Refusal::CriticalHeader),
        (huge, Refusal::TooLong),
        ("nonsense".into(), Refusal::Malformed),
    ] {
        assert_eq!(refusal(&verifier, &token).await, Some(expected));
    }
    assert!(Refusal::ALL.iter().all(|refusal| !refusal.explain().is_empty()));
}

/// Long lists of groups are common; a token may be as long as the head that it stands in.
#[tokio::test]
async fn long_token_is_accepted() {
    let token = hs256(&with("groups", json!("x".repeat(11_000))));
    assert!(token.len() > 14_000 && verifier().verify(&token).await.is_ok());
}

#[tokio::test]
async fn keys_of_one_issuer_do_not_sign_for_another() {
    let rules = |issuer: &str| TokenRules { issuer: Some(issuer.into()), ..rules() };
    let other_secret = b"another secret of enough bytes!!";
    let issuers = vec![
        Issuer::new(rules("https://a/")).with_secret(SECRET),
        Issuer::new(rules("https://b/")).with_secret(other_secret),
    ];
    let verifier = TokenVerifier::new(issuers, fixtures::clock());
    for (issuer, secret, accepted) in [
        ("https://a/", SECRET, true),
        ("https://b/", &other_secret[..], true),
        ("https://a/", &other_secret[..], false),
        ("https://b/", SECRET, false),
        ("https://c/", SECRET, false),
    ] {
        let claims = with("iss", json!(issuer));
        let token =
            encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
                .unwrap();
        assert_eq!(verifier.verify(&token).await.is_ok(), accepted, "{issuer}");
    }
}

#[tokio::test]
async fn subject_that_is_no_uuid_is_a_user_of_its_issuer() {
    let rules =
        TokenRules { issuer: Some("https://id/".into()), subject: Subject::Uuid5, ..rules() };
    let verifier = with_rules(rules);
    let mut claims = with("iss", json!("https://id/"));
    for subject in [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "110169484474386276334",
        &fixtures::another_user().to_string(),
    ] {
        claims["sub"] = json!(subject);
        let verified = verifier.verify(&hs256(&claims)).await.unwrap();
        assert_eq!(verified.user_id, UserId::of_subject("https://id/", subject));
    }
    for subject in [json!(""), json!(7), json!("x".repeat(MAX_SUBJECT_BYTES + 1)), Value::Null] {
        claims["sub"] = subject.clone();
        assert_eq!(refusal(&verifier, &hs256(&claims)).await, Some(Refusal::Subject), "{subject}");
    }
}

/// Base64url without padding (RFC 7515 section 2).
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] as char);
        }
    }
    text
}

/// Returns a token of this header and these claims, as they are written, signed well with the
/// secret as HS256.
fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// Forged, broken and odd tokens: each is refused, and the good one is not, with the same means.
#[tokio::test]
async fn corpus_of_forged_and_broken_tokens_is_refused() {
    let user = fixtures::session().user_id;
    let sid = fixtures::session().id;
    let exp = now() + 60;
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let good = format!(r#"{{"sub":"{user}","sid":"{sid}","exp":{exp}}}"#);
    let verifier = verifier();
    assert!(verifier.verify(&signed(header, &good)).await.is_ok());

    let mut corpus = Vec::new();
    // Headers, over good claims and with a good signature of HS256.
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"NONE"}"#,
        r#"{"alg":"nOnE"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"alg":7}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"RS512"}"#,
        r#"{"alg":"PS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES384"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"HS256 "}"#,
        r#"{"typ":"JWT"}"#,
        "{}",
        "[]",
        "null",
        "",
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"id+jwt"}"#,
        r#"{"alg":"HS256","typ":"logout+jwt"}"#,
        r#"{"alg":"HS256","typ":""}"#,
        r#"{"alg":"HS256","typ":7}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"alg":"HS256","jwk":"x"}"#,
        "{\"alg\":\"HS256\"",
    ] {
        corpus.push(signed(header, &good));
    }
    // Claims, under a good header and signature.
    let claims = |sub: &str, sid: &str, rest: &str| format!(r#"{{"sub":{sub},"sid":{sid}{rest}}}"#);
    let quoted_user = format!("\"{user}\"");
    let quoted_sid = format!("\"{sid}\"");
    let with_exp = |exp: &str| claims(&quoted_user, &quoted_sid, &format!(",\"exp\":{exp}"));
    let end = format!(",\"exp\":{exp}");
    for claims in [
        claims(&quoted_user, &quoted_sid, ""),
        with_exp("0"),
        with_exp("-1"),
        with_exp("null"),
        with_exp("\"9999999999\""),
        with_exp("1e300"),
        with_exp("1e400"),
        with_exp("true"),
        with_exp("[]"),
        with_exp(&(now() - 60).to_string()),
        claims(&quoted_user, &quoted_sid, &format!("{end},\"nbf\":{}", now() + 60)),
        claims(&quoted_user, &quoted_sid, &format!("{end},\"nbf\":null")),
        claims(&quoted_user, &quoted_sid, &format!("{end},\"exp\":{exp}")),
        claims(&quoted_user, &quoted_sid, &format!("{end},\"sub\":{quoted_user}")),
        claims("null", &quoted_sid, &end),
        claims("7", &quoted_sid, &end),
        claims("\"\"", &quoted_sid, &end),
        claims("\"alice\"", &quoted_sid, &end),
        claims(&format!("\"{{{user}}}\""), &quoted_sid, &end),
        claims(&format!("\"urn:uuid:{user}\""), &quoted_sid, &end),
        claims(&format!("\"{}\"", user.0.simple()), &quoted_sid, &end),
        claims(&format!("[{quoted_user}]"), &quoted_sid, &end),
        claims(&quoted_user, "null", &end),
        claims(&quoted_user, "\"' OR 1=1\"", &end),
        claims(&quoted_user, "\"../../etc\"", &end),
        claims(&quoted_user, &format!("\"{sid} \""), &end),
        "[]".into(),
        "null".into(),
        "7".into(),
        "\"text\"".into(),
        String::new(),
        "{".into(),
        format!("{}{}", "[".repeat(3000), "]".repeat(3000)),
        format!("{good}{good}"),
    ] {
        corpus.push(signed(header, &claims));
    }
    // The text of a good token, changed.
    let token = signed(header, &good);
    let [head, body, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    corpus.extend([
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{head}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{token}."),
        format!("{token}.{signature}"),
        format!("{token}="),
        format!("{token} "),
        format!(" {token}"),
        format!("{head}.{body}=.{signature}"),
        format!("{head}.{body}.{}", signature.to_lowercase()),
        format!("{head}.{body}.{}", &signature[..signature.len() - 2]),
        token.replace('.', ","),
        token.replace('.', ".."),
        format!("{body}.{head}.{signature}"),
        "..".into(),
        ".".into(),
        "\u{1F4F1}.\u{1F4F1}.\u{1F4F1}".into(),
    ]);
    assert!(corpus.len() >= 60, "{}", corpus.len());
    for token in &corpus {
        assert!(refused(&verifier, token).await, "{token}");
    }
}
