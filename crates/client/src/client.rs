//! The calls of an application's backend.

use std::sync::Arc;

use http::{Method, header};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use crate::error::Result;
use crate::transport::{IDEMPOTENCY_KEY, InvalidSettings, Settings, Transport};
use crate::types::{
    CreateSession, CreatedSession, EditSession, EventPage, InspectedSession, ListEvents,
    ListSessions, RotatedToken, Session, SessionList, Verification,
};

/// Calls sessiond as the application's backend, with a service key. Clones share connections.
///
/// Every call may be repeated safely, and is, as [`Settings`] says. Dropping the future of a call
/// gives the call up; a change may then have been made.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<Transport>,
}

impl Client {
    /// Creates a client of the service listener at this URL, with default settings.
    ///
    /// # Errors
    /// [`InvalidSettings`] if the URL or the key cannot be one.
    pub fn new(
        url: &str,
        service_key: impl Into<SecretString>,
    ) -> std::result::Result<Self, InvalidSettings> {
        Self::with_settings(url, service_key, Settings::default())
    }

    /// Creates a client with these settings.
    ///
    /// # Errors
    /// See [`new`](Self::new).
    pub fn with_settings(
        url: &str,
        service_key: impl Into<SecretString>,
        settings: Settings,
    ) -> std::result::Result<Self, InvalidSettings> {
        Ok(Self { transport: Arc::new(Transport::new(url, &service_key.into(), settings)?) })
    }

    /// Creates a session: a sign-in.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) with `session_limit_reached` if the limit denies it, or
    /// `unprocessable_content` if the idempotency key is that of another sign-in.
    pub async fn create_session(&self, sign_in: &CreateSession) -> Result<CreatedSession> {
        let key = sign_in.idempotency_key.clone().unwrap_or_else(random_key);
        let mut call = self.transport.call(Method::POST, &["sessions"]);
        call.set_header(IDEMPOTENCY_KEY, &key)?;
        self.transport.send(call.with_body(sign_in)?).await?.read()
    }

    /// Returns a session as this user: at first hand from the near cache.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) with `session_not_found`, or `not_session_owner` if it is
    /// another user's.
    pub async fn get_session(&self, session_id: Uuid, user_id: Uuid) -> Result<Session> {
        let mut call = self.transport.call(Method::GET, &["sessions", &session_id.to_string()]);
        call.add_query("user_id", Some(user_id));
        self.transport.send(call).await?.read()
    }

    /// Returns any session with its user agent and metadata, from the database.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) with `session_not_found`.
    pub async fn inspect_session(&self, session_id: Uuid) -> Result<InspectedSession> {
        let call = self.transport.call(Method::GET, &["sessions", &session_id.to_string()]);
        self.transport.send(call).await?.inspected()
    }

    /// Returns what a session token or JWT is worth that an end user has presented. With a live
    /// session, the call counts as its activity, from that address.
    ///
    /// # Errors
    /// A token that is not good is no error: see [`Verification::status`].
    pub async fn verify_token(
        &self,
        token: &str,
        ip_address: Option<&str>,
    ) -> Result<Verification> {
        let body = json!({ "token": token, "ip_address": ip_address });
        let call = self.transport.call(Method::POST, &["sessions", "verify"]).with_body(&body)?;
        self.transport.send(call).await?.read()
    }

    /// Changes name and metadata of a session. With [`EditSession::if_match`] it is attempted once.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) with `session_not_found`, or `precondition_failed`.
    pub async fn edit_session(
        &self,
        session_id: Uuid,
        edit: &EditSession,
    ) -> Result<InspectedSession> {
        let mut call = self.transport.call(Method::PATCH, &["sessions", &session_id.to_string()]);
        if let Some(etag) = &edit.if_match {
            call.set_header(header::IF_MATCH, etag)?;
            // What the first attempt has changed would look like another one's change.
            call.once();
        }
        self.transport.send(call.with_body(edit)?).await?.inspected()
    }

    /// Records that the session was used, from this address.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) with `session_ended` if it is not live, or
    /// `session_not_found`.
    pub async fn record_activity(&self, session_id: Uuid, ip_address: Option<&str>) -> Result<()> {
        let call =
            self.transport.call(Method::POST, &["sessions", &session_id.to_string(), "activity"]);
        let body = json!({ "ip_address": ip_address });
        self.transport.send(call.with_body(&body)?).await?.done()
    }

    /// Replaces the session token of a session, or issues its first. The one before is good for a
    /// short time yet.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) with `session_ended` if the session is not live, or
    /// `session_not_found`.
    pub async fn rotate_token(&self, session_id: Uuid) -> Result<RotatedToken> {
        let call =
            self.transport.call(Method::POST, &["sessions", &session_id.to_string(), "rotate"]);
        self.transport.send(call).await?.read()
    }

    /// Returns a page of a user's sessions.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) if the cursor is none.
    pub async fn list_user_sessions(
        &self,
        user_id: Uuid,
        list: &ListSessions,
    ) -> Result<SessionList> {
        let mut call =
            self.transport.call(Method::GET, &["users", &user_id.to_string(), "sessions"]);
        call.add_query("active_only", list.active_only.then_some(true));
        call.add_query("limit", list.limit);
        call.add_query("cursor", list.cursor.as_ref());
        self.transport.send(call).await?.read()
    }

    /// Revokes a session. Returns once no node serves it as live.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) with `session_not_found`. A session that was revoked
    /// before is no error.
    pub async fn revoke_session(&self, session_id: Uuid, reason: Option<&str>) -> Result<()> {
        let call = self.transport.call(Method::DELETE, &["sessions", &session_id.to_string()]);
        self.transport.send(call.with_body(&json!({ "reason": reason }))?).await?.done()
    }

    /// Revokes all sessions of a user, but for the one that is excepted. Returns how many, once no
    /// node serves them as live.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) if the reason is too long.
    pub async fn revoke_all_user_sessions(
        &self,
        user_id: Uuid,
        reason: Option<&str>,
        except_session_id: Option<Uuid>,
    ) -> Result<u64> {
        let body = json!({ "reason": reason, "except_session_id": except_session_id });
        let call =
            self.transport.call(Method::DELETE, &["users", &user_id.to_string(), "sessions"]);
        self.transport.send(call.with_body(&body)?).await?.revoked_count()
    }

    /// Revokes sessions by their ids, at most 400. Returns how many, once no node serves them as
    /// live.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) if there are too many ids. Unknown ones are ignored.
    pub async fn revoke_sessions(&self, ids: &[Uuid], reason: Option<&str>) -> Result<u64> {
        let body = json!({ "ids": ids, "reason": reason });
        let call = self.transport.call(Method::POST, &["sessions", "revoke"]).with_body(&body)?;
        self.transport.send(call).await?.revoked_count()
    }

    /// Returns a page of the event feed.
    ///
    /// # Errors
    /// [`Refused`](crate::Error::Refused) if the limit is too high.
    pub async fn list_events(&self, list: &ListEvents) -> Result<EventPage> {
        let mut call = self.transport.call(Method::GET, &["events"]);
        call.add_query("after", list.after);
        call.add_query("limit", list.limit);
        call.add_query("session_id", list.session_id);
        call.add_query("user_id", list.user_id);
        self.transport.send(call).await?.read()
    }
}

/// Returns a key of 122 random bits: no other sign-in has it.
#[expect(clippy::disallowed_methods, reason = "an application has no IdGenerator port")]
fn random_key() -> String {
    Uuid::new_v4().to_string()
}
