//! A server that plays the responses of a case, and counts the requests that it gets.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// The requests of one case: their headers, with names in lower case.
type Requests = Vec<HashMap<String, String>>;

/// Plays `/{framework}/{index of the case}/...`. It ends with the process.
pub(crate) struct ScriptedServer {
    /// Where it is.
    pub(crate) url: String,
    requests: Arc<Mutex<HashMap<String, Requests>>>,
}

impl ScriptedServer {
    /// Starts a server for these cases.
    pub(crate) fn start(cases: &[Value]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(HashMap::new()));
        let cases = cases.to_vec();
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let cases = cases.clone();
                let seen = seen.clone();
                std::thread::spawn(move || serve(&stream, &cases, &seen));
            }
        });
        Self { url, requests }
    }

    /// Checks that a framework's client has sent the requests that a case expects.
    pub(crate) fn check(&self, framework: &str, index: usize, case: &Value) {
        let name = format!("{framework}: {}", case["name"].as_str().unwrap());
        let requests = self.requests.lock().unwrap();
        let requests = requests.get(&format!("{framework}/{index}")).map_or(&[][..], Vec::as_slice);
        if case.get("responses").is_none() {
            return;
        }
        assert!(!requests.is_empty(), "{name}: the case was not run");
        let expected = case["requests"].as_u64();
        assert!(expected.is_none_or(|it| it == requests.len() as u64), "{name}: {requests:?}");
        if let Some(header) = case["same_header"].as_str() {
            let first = requests[0].get(header).unwrap_or_else(|| panic!("{name}: no {header}"));
            assert!(first.len() >= 16, "{name}: {first} is no random key");
            assert!(requests.iter().all(|request| request.get(header) == Some(first)), "{name}");
        }
    }
}

/// Serves one request, and closes the connection.
fn serve(
    mut stream: &TcpStream,
    cases: &[Value],
    seen: &Mutex<HashMap<String, Requests>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
    reader.read_exact(&mut vec![0; length]).ok()?;

    let mut parts = path.trim_start_matches('/').split('/');
    let framework = parts.next()?;
    let index = parts.next()?;
    let responses = cases.get(index.parse::<usize>().ok()?)?["responses"].as_array()?;
    let number = {
        let mut seen = seen.lock().unwrap();
        let requests = seen.entry(format!("{framework}/{index}")).or_default();
        requests.push(headers);
        requests.len() - 1
    };
    match &responses[number.min(responses.len() - 1)] {
        Value::String(what) if what == "close" => {}
        Value::String(what) if what == "hang" => std::thread::sleep(Duration::from_secs(30)),
        response => stream.write_all(text_of(response).as_bytes()).ok()?,
    }
    Some(())
}

fn text_of(response: &Value) -> String {
    let status = &response["status"];
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\n");
    for (name, value) in response["headers"].as_object().into_iter().flatten() {
        head += &format!("{name}: {}\r\n", value.as_str().unwrap());
    }
    let body = match response["problem"].as_str() {
        Some(code) => {
            head += "Content-Type: application/problem+json\r\n";
            let kind = format!("urn:sessiond:problem:{code}");
            json!({ "type": kind, "title": "Scripted", "status": status, "code": code }).to_string()
        }
        None => response["text"].as_str().unwrap_or_default().to_owned(),
    };
    if status != 204 {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    format!("{head}\r\n{body}")
}
