//! Opening stores by location.

use dr_store::{OpenMode, Payload, PutMode, StoreErrorKind, open};

use crate::{listed, name};

#[test]
fn paths_and_file_urls_name_the_same_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("two words").join("store");
    let path = path.to_str().unwrap();
    assert_eq!(open(path, OpenMode::Existing).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert!(!folder.path().join("two words").exists(), "opening made a folder");

    let store = open(path, OpenMode::Create).unwrap();
    store.put(&name("config"), Payload::from("x"), PutMode::Create).unwrap();
    let url = store.endpoint();
    assert!(url.starts_with("file:///") && url.contains("two%20words"), "{url}");
    for location in [path, &url, &url.replace("file://", "FILE:")] {
        assert_eq!(listed(open(location, OpenMode::Existing).unwrap().as_ref()), ["config"]);
        assert_eq!(open(location, OpenMode::Create).unwrap().endpoint(), url);
    }
}

#[test]
fn named_memory_is_shared_and_unnamed_is_not() {
    assert_eq!(open("memory:m1", OpenMode::Existing).unwrap_err().kind(), StoreErrorKind::NotFound);
    let store = open("memory:m1", OpenMode::Create).unwrap();
    store.put(&name("config"), Payload::from("x"), PutMode::Create).unwrap();
    assert_eq!(listed(open("memory:m1", OpenMode::Existing).unwrap().as_ref()), ["config"]);
    assert!(listed(open("memory:m2", OpenMode::Create).unwrap().as_ref()).is_empty());
    assert!(listed(open("memory:", OpenMode::Create).unwrap().as_ref()).is_empty());
    assert_eq!(store.endpoint(), "memory:m1");
}

#[test]
fn unknown_schemes_are_refused_with_a_list_and_without_secrets() {
    let error = open("ftp://user:secret@host/x", OpenMode::Create).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::InvalidInput);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("file, memory"), "{cause}");
    assert!(!format!("{error:?} {error} {cause}").contains("secret"));
    for wrong in ["file:relative", "file://host/path", "file:///a%2"] {
        assert_eq!(
            open(wrong, OpenMode::Create).unwrap_err().kind(),
            StoreErrorKind::InvalidInput,
            "{wrong}"
        );
    }
}

#[test]
fn a_colon_behind_a_slash_makes_no_url() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a:b");
    open(path.to_str().unwrap(), OpenMode::Create).unwrap();
    assert!(path.is_dir());
}
