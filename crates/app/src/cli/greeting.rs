//! What `sessiond` prints when it has started: where it listens, and a first session to try.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::demo::Demo;
use super::print;
use crate::auth::DevKeys;
use crate::composition::credentials::Credentials;
use crate::composition::node::Node;

/// The user of the first session that the greeting suggests.
const EXAMPLE_USER: &str = "00000000-0000-4000-8000-000000000001";

/// What a person who has just started sessiond wants to know.
pub(super) struct Greeting<'a> {
    pub(super) node: &'a Node,
    pub(super) public_addr: SocketAddr,
    pub(super) service_addr: SocketAddr,
    pub(super) demo: Option<&'a Demo>,
}

impl Greeting<'_> {
    /// Prints it where a person reads it: on a terminal, or where there are development keys. Among
    /// the lines of a log it would be noise.
    pub(super) fn print(&self, credentials: &Credentials, dev_keys: &DevKeys) -> Result<()> {
        let has_dev_keys = credentials.dev_token_secret || credentials.dev_service_key;
        if has_dev_keys || std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            print(&self.text(credentials, dev_keys))?;
        }
        Ok(())
    }

    fn text(&self, credentials: &Credentials, dev_keys: &DevKeys) -> String {
        let mut text = format!(
            "sessiond {}\n  end users   http://{}\n  service     http://{}\n  data        {}\n  \
             cache       {}\n",
            env!("CARGO_PKG_VERSION"),
            self.public_addr,
            self.service_addr,
            self.node.store_description,
            self.node.cache_description,
        );
        let mut keys = Vec::new();
        if credentials.dev_token_secret {
            keys.push(dev_keys.token_secret_path());
        }
        if credentials.dev_service_key {
            keys.push(dev_keys.service_key_path());
        }
        for path in &keys {
            text.push_str(&format!(
                "  key         {} (for development: loopback only)\n",
                path.display()
            ));
        }
        match self.demo {
            Some(demo) => text.push_str(&demo.text(self.public_addr, self.service_addr)),
            None if keys.len() == 2 => text.push_str(&self.first_steps(dev_keys)),
            None => {}
        }
        text
    }

    /// Lines that work as they are, in any directory that they are pasted in.
    fn first_steps(&self, dev_keys: &DevKeys) -> String {
        let sessiond = std::env::current_exe().unwrap_or_else(|_| "sessiond".into());
        let sessiond = quoted(&sessiond);
        let secret = quoted(&dev_keys.token_secret_path());
        let key = quoted(&dev_keys.service_key_path());
        let public = self.public_addr;
        let service = self.service_addr;
        format!(
            r#"
Create a session and read it, in another terminal:

  USER_ID={EXAMPLE_USER}
  SESSION_ID=$(curl -sS http://{service}/service/v1/sessions \
    -H "Authorization: Bearer $(cat {key})" -H "Content-Type: application/json" \
    -d "{{\"user_id\": \"$USER_ID\", \"user_agent\": \"curl\"}}" |
    sed 's/.*"id":"\([^"]*\)","user_id".*/\1/')
  TOKEN=$({sessiond} token mint --key-file {secret} --user "$USER_ID" --session "$SESSION_ID")
  curl -i http://{public}/api/v1/sessions/$SESSION_ID -H "Authorization: Bearer $TOKEN"

"#
        )
    }
}

/// Returns a path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/srv/sessiond-1")), "/srv/sessiond-1");
        assert_eq!(quoted(Path::new("/home/Zoë's files")), r"'/home/Zoë'\''s files'");
    }
}
