//! Spans of statements. In a process of its own, which has one subscriber for all.

use std::sync::{Arc, Mutex};

use adapters_sqlite::{DatabaseFile, SqliteDatabase, SqliteSessionRepository};
use domain::ports::SessionRepository;
use testkit::{TemporaryDir, fixtures};

/// A trace shows which statement took how long, and never whose session it was about.
#[tokio::test]
async fn statements_have_spans_with_their_text_and_no_values() {
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let dir = TemporaryDir::new();
    let url = format!("sqlite://{}", dir.path().join("sessions.db").display());
    let database = SqliteDatabase::open(DatabaseFile::lock(&url).unwrap(), 1).await.unwrap();
    let repository = SqliteSessionRepository::new(Arc::new(database));
    let session = fixtures::session();
    repository.insert(&session, None).await.unwrap();
    repository.find_by_id(session.id).await.unwrap();
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("statement{db.system=\"sqlite\" db.query.text=\"SELECT"), "{text}");
    assert!(!text.contains(&session.id.to_string()) && !text.contains("Berlin"), "{text}");
}
