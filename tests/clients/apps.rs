//! The applications of `examples/apps`, driven as browsers drive them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use reqwest::{Client, Response, redirect::Policy};
use sessiond_tests::node::Node;

const CHROME: &str = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 \
                      (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A running application; killed when dropped.
struct Application {
    child: Child,
    url: String,
}

impl Application {
    /// Starts an application over this node, and waits until it listens.
    fn start(command: &mut Command, node: &Node) -> Self {
        command.env("SESSIOND_URL", &node.service).env("SESSIOND_KEY", node.service_key());
        command.env("PORT", "0").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let url = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{command:?} does not say where it listens, but {line:?}"));
        let url = url.to_owned();
        // The pipe must not fill up.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, url }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser with at most one cookie.
struct Browser<'a> {
    application: &'a Application,
    http: Client,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(application: &'a Application, user_agent: &str) -> Self {
        let http = Client::builder().redirect(Policy::none()).user_agent(user_agent);
        Self { application, http: http.build().unwrap(), cookie: String::new() }
    }

    async fn get(&self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.application.url));
        request.header("cookie", &self.cookie).send().await.unwrap()
    }

    /// Sends a form, as a page of this site or of another.
    async fn post(&self, path: &str, form: &'static str, fetched_from: &str) -> Response {
        let request = self.http.post(format!("{}{path}", self.application.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("sec-fetch-site", fetched_from);
        request.header("cookie", &self.cookie).body(form).send().await.unwrap()
    }

    /// Signs Ada in, and keeps the cookie.
    async fn sign_in(&mut self) {
        let response = self.post("/sign-in", "name=ada&password=lovelace", "same-origin").await;
        assert_redirect(&response, "/");
        let cookie = header(&response, "set-cookie");
        assert!(cookie.starts_with("__Host-session=sds_"), "no session cookie");
        assert!(cookie.contains("; HttpOnly; SameSite=Lax; Secure; Path=/"), "not protected");
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    async fn page(&self) -> String {
        let response = self.get("/").await;
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn assert_redirect(response: &Response, path: &str) {
    assert_eq!((response.status().as_u16(), header(response, "location")), (303, path));
}

/// Walks through an application that this command starts.
pub(crate) async fn walk_through(command: &mut Command) {
    let mut node = Node::start(&[]).await;
    let application = Application::start(command, &node);
    let mut laptop = Browser::new(&application, CHROME);
    let mut phone = Browser::new(&application, FIREFOX);
    let mut hostile = Browser::new(&application, "<script>alert(1)</script>");

    assert_redirect(&laptop.get("/").await, "/sign-in");
    assert!(laptop.get("/sign-in").await.text().await.unwrap().contains("<form"));
    let refused = laptop.post("/sign-in", "name=ada&password=byron", "same-origin").await;
    assert_eq!(refused.status(), 401);
    assert!(refused.text().await.unwrap().contains("Wrong name or password."));

    laptop.sign_in().await;
    let page = laptop.page().await;
    assert!(page.contains("<h1>Hello, ada</h1>"), "{page}");
    assert!(page.contains("Chrome on macOS, 127.0.0.1, this device"), "{page}");
    phone.sign_in().await;
    hostile.sign_in().await;
    let page = phone.page().await;
    assert_eq!((page.matches("<li>").count(), page.matches("this device").count()), (3, 1));
    assert!(page.contains("Firefox on Linux, 127.0.0.1, this device"), "{page}");
    assert!(!page.contains("<script"), "{page}");

    let forged = laptop.post("/sign-out-others", "", "cross-site").await;
    assert_eq!(forged.status(), 403);
    assert_eq!(phone.page().await.matches("<li>").count(), 3);
    assert_redirect(&laptop.post("/sign-out-others", "", "same-origin").await, "/");
    assert_redirect(&phone.get("/").await, "/sign-in");
    assert_eq!(phone.post("/sign-out", "", "same-origin").await.status(), 401);
    assert_eq!(laptop.page().await.matches("<li>").count(), 1);

    phone.sign_in().await;
    let signed_out = laptop.post("/sign-out", "", "same-origin").await;
    assert_redirect(&signed_out, "/sign-in");
    assert!(header(&signed_out, "set-cookie").starts_with("__Host-session=;"));
    assert!(header(&signed_out, "set-cookie").ends_with("Max-Age=0"));
    assert_redirect(&laptop.get("/").await, "/sign-in");

    // An outage signs no user out.
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    for response in [
        phone.get("/").await,
        phone.post("/sign-out", "", "same-origin").await,
        phone.post("/sign-in", "name=ada&password=lovelace", "same-origin").await,
    ] {
        assert_eq!(response.status(), 503, "{}", response.url());
        assert_eq!(header(&response, "retry-after"), "1", "{}", response.url());
    }
}
