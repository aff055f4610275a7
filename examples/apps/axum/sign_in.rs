//! Signs a user in, verifies the session's token, and signs the user out.

use std::env;

use sessiond_client::{Client, CreateSession, ExposeSecret};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = Client::new(&env::var("SESSIOND_URL")?, env::var("SESSIOND_KEY")?)?;
    let user_id = Some("00000000-0000-4000-8000-000000000001".parse()?);
    let sign_in = CreateSession { user_id, issue_token: true, ..Default::default() };
    let created = sessions.create_session(&sign_in).await?;
    let token = created.token.ok_or("no token")?;
    println!("{:?}", sessions.verify_token(token.expose_secret(), None).await?.status); // Live
    sessions.revoke_session(created.session.id, Some("signed out")).await?;
    println!("{:?}", sessions.verify_token(token.expose_secret(), None).await?.status); // Revoked
    Ok(())
}
