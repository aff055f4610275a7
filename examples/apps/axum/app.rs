//! A small application over sessiond: sign in, see your devices, sign out this one or the others.

use std::{collections::HashMap, env, net::SocketAddr};

use axum::extract::{ConnectInfo, Form, State};
use axum::http::header::{LOCATION, RETRY_AFTER, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, StatusCode, request::Parts};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use sessiond_client::{
    Client, CreateSession, Error, ExposeSecret, ListSessions, RequireSession, Session, clear_cookie,
};

/// Name, password and id. Checking passwords is the application's own: store hashes of them.
const USERS: [[&str; 3]; 2] = [
    ["ada", "lovelace", "00000000-0000-4000-8000-00000000000a"],
    ["alan", "turing", "00000000-0000-4000-8000-00000000000b"],
];

const FORM: &str = r#"<form method="post" action="/sign-in"><input name="name" placeholder="name">
<input name="password" type="password" placeholder="password"><button>Sign in</button></form>"#;

const BUTTONS: &str = r#"<form method="post" action="/sign-out"><button>Sign out</button></form>
<form method="post" action="/sign-out-others"><button>Sign out other devices</button></form>"#;

/// The response where sessiond refuses a call or cannot be reached: that signs no user out.
type Failed = (StatusCode, [(HeaderName, &'static str); 1], &'static str);

fn unavailable(error: Error) -> Failed {
    eprintln!("{error}");
    let text = "Sessions cannot be reached at present. Please try again.";
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text)
}

async fn sign_in(
    State(sessions): State<Client>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Result<Response, Failed> {
    let field = |name| form.get(name).map_or("", String::as_str);
    let credentials = [field("name"), field("password")];
    let Some(user) = USERS.iter().find(|user| user[..2] == credentials) else {
        let page = Html(format!("<p>Wrong name or password.</p>{FORM}"));
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    let sign_in = CreateSession {
        user_id: user[2].parse().ok(),
        ip_address: Some(peer.ip().to_string()),
        user_agent: user_agent.map(str::to_owned),
        issue_token: true,
        ..CreateSession::default()
    };
    let created = sessions.create_session(&sign_in).await.map_err(unavailable)?;
    let cookie = created.set_cookie.as_ref().map_or("", ExposeSecret::expose_secret);
    Ok((StatusCode::SEE_OTHER, [(SET_COOKIE, cookie), (LOCATION, "/")]).into_response())
}

async fn page(
    State(sessions): State<Client>,
    Extension(own): Extension<Session>,
) -> Result<Html<String>, Failed> {
    let list = ListSessions { active_only: true, ..ListSessions::default() };
    let list = sessions.list_user_sessions(own.user_id, &list).await.map_err(unavailable)?;
    let user = USERS.iter().find(|user| user[2] == own.user_id.to_string());
    let mut page = format!("<h1>Hello, {}</h1><ul>", user.map_or("stranger", |user| user[0]));
    for session in list.sessions {
        let device = session.device_info.as_deref().unwrap_or("unknown device");
        let address = session.ip_address.as_deref().unwrap_or("unknown address");
        let this = if session.id == own.id { ", this device" } else { "" };
        page += &format!("<li>{}, {}{this}</li>", escaped(device), escaped(address));
    }
    Ok(Html(page + "</ul>" + BUTTONS))
}

async fn sign_out(
    State(sessions): State<Client>,
    Extension(own): Extension<Session>,
) -> Result<impl IntoResponse, Failed> {
    sessions.revoke_session(own.id, Some("signed out")).await.map_err(unavailable)?;
    Ok(([(SET_COOKIE, clear_cookie("__Host-session"))], Redirect::to("/sign-in")))
}

async fn sign_out_others(
    State(sessions): State<Client>,
    Extension(own): Extension<Session>,
) -> Result<Redirect, Failed> {
    let reason = Some("signed out elsewhere");
    let revoked = sessions.revoke_all_user_sessions(own.user_id, reason, Some(own.id));
    revoked.await.map_err(unavailable)?;
    Ok(Redirect::to("/"))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn peer(request: &Parts) -> Option<std::net::IpAddr> {
    request.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Client::new(&env::var("SESSIOND_URL")?, env::var("SESSIOND_KEY")?)?;
    let guard = RequireSession::new(sessions.clone()).sign_in_path("/sign-in").ip_address(peer);
    let app = Router::new()
        .route("/", get(page))
        .route("/sign-out", post(sign_out))
        .route("/sign-out-others", post(sign_out_others))
        .layer(guard)
        .route("/sign-in", get(Html(FORM)).post(sign_in))
        .with_state(sessions);
    let address = format!("127.0.0.1:{}", env::var("PORT")?);
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?)
}
