//! Edits of name and metadata.

use domain::ports::{EditableFields, SessionEdit, SessionRepository};
use domain::{Metadata, Session};

use super::insert_all;
use crate::fixtures;

/// What is named changes, what is not stays, and the response is what is stored.
pub async fn edits_change_what_they_name(repo: &dyn SessionRepository) {
    let mut session = fixtures::session();
    let other = fixtures::session_number(2);
    insert_all(repo, &[session.clone(), other.clone()]).await;
    let metadata = |key: &str| Metadata::from_iter([(key.to_owned(), "'; DROP -- 📱".into())]);
    for (name, data) in [
        (Some(Some("Anaïs' 📱")), None),
        (None, Some(Some(metadata("first")))),
        (None, None),
        (Some(Some("both")), Some(Some(Metadata::new()))),
        (Some(None), Some(None)),
    ] {
        let edit = SessionEdit {
            name: name.map(|name| name.map(str::to_owned)),
            metadata: data,
            only_if: None,
        };
        session.name = name.map_or(session.name, |name| name.map(Into::into));
        session.metadata =
            edit.metadata.clone().map_or(session.metadata, |metadata| metadata.map(Into::into));
        assert_eq!(repo.edit(session.id, &edit).await.unwrap().as_ref(), Some(&session));
        assert_eq!(crate::find_session(repo, session.id).await.as_ref(), Some(&session));
    }
    let without_key =
        repo.edit(fixtures::session_number(404).id, &SessionEdit::default()).await.unwrap();
    assert_eq!(without_key, None);
    assert_eq!(crate::find_session(repo, other.id).await, Some(other));
}

/// An edit that expects what is no longer there changes nothing, and of parallel ones one wins.
pub async fn conditional_edits_change_what_they_expect_and_nothing_else(
    repo: &dyn SessionRepository,
) {
    let session = fixtures::session();
    let metadata = Metadata::from_iter([("n".to_owned(), 1.into()), ("a".to_owned(), "é".into())]);
    repo.insert(&Session { metadata: Some(metadata.clone().into()), ..session.clone() }, None)
        .await
        .unwrap();
    let present = EditableFields {
        name: session.name.as_deref().map(str::to_owned),
        metadata: Some(metadata),
    };
    let rename = |to: &str, only_if: &EditableFields| SessionEdit {
        name: Some(Some(to.to_owned())),
        metadata: None,
        only_if: Some(only_if.clone()),
    };
    for other in [
        EditableFields { name: Some("another".to_owned()), ..present.clone() },
        EditableFields { name: None, ..present.clone() },
        EditableFields { metadata: None, ..present.clone() },
        EditableFields { metadata: Some(Metadata::new()), ..present.clone() },
    ] {
        assert_eq!(repo.edit(session.id, &rename("x", &other)).await.unwrap(), None, "{other:?}");
    }
    let edits = [rename("first", &present), rename("second", &present)];
    let (first, second) = futures_util::future::join(
        repo.edit(session.id, &edits[0]),
        repo.edit(session.id, &edits[1]),
    )
    .await;
    let winners: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(crate::find_session(repo, session.id).await.as_ref(), Some(&winners[0]));
    let bare = Session { id: fixtures::session_number(7).id, ..fixtures::bare_session() };
    repo.insert(&bare, None).await.unwrap();
    assert!(repo.edit(bare.id, &rename("x", &EditableFields::default())).await.unwrap().is_some());
}
