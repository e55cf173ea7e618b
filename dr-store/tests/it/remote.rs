//! What is asked of an S3 server, and what its answers become, with a server that gives the answers of a script.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dr_store::{
    OpenMode, Payload, PutMode, RetryOptions, Store, StoreError, StoreErrorKind, StoreOptions, open_with,
};

use crate::name;

const DONE: &str = "200 OK\r\nETag: \"1\"\r\nLast-Modified: Sat, 21 Nov 2026 10:00:00 GMT";

/// A server that answers one request after the other, each with the next answer of its script.
struct Script {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

/// An answer: status and headers, and a body.
type Answer = (&'static str, String);

impl Script {
    fn new(answers: Vec<Answer>) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for (head, body) in answers {
                let (mut connection, _) = listener.accept().unwrap();
                let request = read_request(&connection);
                let is_head = request.starts_with("HEAD");
                seen.lock().unwrap().push(request);
                let answer =
                    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                connection.write_all(answer.as_bytes()).unwrap();
                if !is_head {
                    connection.write_all(body.as_bytes()).unwrap();
                }
            }
        });
        Script { port, requests }
    }

    fn open(&self, options: StoreOptions) -> Arc<dyn Store> {
        self.open_at("s3://bucket/prefix", options)
    }

    fn open_at(&self, location: &str, options: StoreOptions) -> Arc<dyn Store> {
        let retries = RetryOptions { first_delay: Duration::from_millis(1), ..RetryOptions::default() };
        let options = options
            .with_retries(retries)
            .with_endpoint(format!("http://127.0.0.1:{}", self.port))
            .with_variables(|name| match name {
                "AWS_ACCESS_KEY_ID" => Some("key-id".to_owned()),
                "AWS_SECRET_ACCESS_KEY" => Some("hush-key".to_owned()),
                "AWS_SESSION_TOKEN" => Some("hush-token".to_owned()),
                "AZURE_STORAGE_ACCOUNT_NAME" => Some("account".to_owned()),
                "AZURE_STORAGE_ACCOUNT_KEY" => Some("aHVzaA==".to_owned()),
                _ => None,
            });
        open_with(location, OpenMode::Create, &options).unwrap()
    }

    /// The requests so far: the first lines.
    fn lines(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|text| text.lines().next().unwrap().to_owned()).collect()
    }
}

fn read_request(connection: &TcpStream) -> String {
    let mut reader = BufReader::new(connection);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut request).unwrap() > 0, "the request ends early: {request}");
    }
    request.make_ascii_lowercase();
    let length = request.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    reader.take(length.unwrap_or(0)).read_to_end(&mut Vec::new()).unwrap();
    // Methods are upper case.
    let method = request.find(' ').unwrap();
    request[..method].to_ascii_uppercase() + &request[method..]
}

fn failure(status: &'static str, code: &str) -> Answer {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>in its words</Message></Error>");
    (status, body)
}

fn put(store: &dyn Store) -> Result<(), StoreError> {
    store.put(&name("data/00/pack"), Payload::from("x"), PutMode::Create)
}

#[test]
fn a_create_is_conditional_checked_and_of_its_class() {
    let script = Script::new(vec![(DONE, String::new()), (DONE, String::new())]);
    let options = StoreOptions::new()
        .with_storage_class("", "STANDARD_IA")
        .with_storage_class("data/", "DEEP_ARCHIVE")
        .with_request_payer(true);
    let store = script.open(options);
    put(store.as_ref()).unwrap();
    store.put(&name("index/x"), Payload::from("x"), PutMode::Replace).unwrap();
    let requests = script.requests.lock().unwrap();
    for wanted in [
        "PUT /bucket/prefix/data/00/pack http/1.1",
        "if-none-match: *",
        "x-amz-checksum-sha256: ",
        "x-amz-storage-class: deep_archive",
        "x-amz-request-payer: requester",
        "content-length: 1",
    ] {
        assert!(requests[0].contains(wanted), "{wanted}: {}", requests[0]);
    }
    assert!(requests[1].contains("x-amz-storage-class: standard_ia"), "{}", requests[1]);
    assert!(!requests[1].contains("if-none-match"), "{}", requests[1]);
}

#[cfg(feature = "azure")]
#[test]
fn azure_is_told_the_access_tier() {
    let script = Script::new(vec![(DONE, String::new())]);
    let mut options = StoreOptions::new();
    options.set("azure.storage-class", "data/=Cool").unwrap();
    // What the answer lacks does not matter here.
    let _ = put(script.open_at("az://container/prefix", options).as_ref());
    let requests = script.requests.lock().unwrap();
    assert!(requests[0].contains("x-ms-access-tier: cool"), "{}", requests[0]);
    assert!(requests[0].contains("if-none-match: *"), "{}", requests[0]);
}

#[test]
fn a_conflict_is_looked_into_and_tried_again() {
    let script = Script::new(vec![
        failure("409 Conflict", "ConditionalRequestConflict"),
        failure("404 Not Found", ""),
        failure("404 Not Found", "NoSuchKey"),
        (DONE, String::new()),
    ]);
    put(script.open(StoreOptions::new()).as_ref()).unwrap();
    let methods: Vec<String> =
        script.lines().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(methods, ["PUT", "HEAD", "GET", "PUT"]);
}

#[test]
fn a_create_that_meets_an_object_says_so() {
    let script =
        Script::new(vec![failure("412 Precondition Failed", "PreconditionFailed"), (DONE, "abc".to_owned())]);
    let error = put(script.open(StoreOptions::new()).as_ref()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::AlreadyExists);
}

/// The answer to a create that took effect was lost: the second attempt meets the first one's object.
#[test]
fn a_lost_answer_is_read_back() {
    let script = Script::new(vec![
        failure("500 Internal Server Error", "InternalError"),
        failure("412 Precondition Failed", "PreconditionFailed"),
        (DONE, "x".to_owned()),
        (DONE, "x".to_owned()),
    ]);
    put(script.open(StoreOptions::new()).as_ref()).unwrap();
    assert_eq!(script.lines().len(), 4);
}

#[test]
fn overload_is_waited_out() {
    for status in [
        "503 Slow Down",
        "429 Too Many Requests",
        "500 Oh",
        "502 Bad Gateway",
        "504 Gateway Timeout",
        "408 Late",
    ] {
        let script = Script::new(vec![failure(status, "SlowDown"), (DONE, "abc".to_owned())]);
        let store = script.open(StoreOptions::new());
        assert_eq!(store.get(&name("a")).unwrap(), "abc".as_bytes(), "{status}");
    }
}

#[test]
fn refusals_are_explained_without_secrets() {
    let cases = [
        ("403 Forbidden", "RequestTimeTooSkewed", StoreErrorKind::PermissionDenied, "NTP"),
        ("403 Forbidden", "SignatureDoesNotMatch", StoreErrorKind::PermissionDenied, "AWS_SECRET_ACCESS_KEY"),
        ("403 Forbidden", "InvalidAccessKeyId", StoreErrorKind::PermissionDenied, "AWS_ACCESS_KEY_ID"),
        ("403 Forbidden", "AccessDenied", StoreErrorKind::PermissionDenied, "permitted"),
        ("400 Bad Request", "ExpiredToken", StoreErrorKind::PermissionDenied, "AWS_SESSION_TOKEN"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", StoreErrorKind::InvalidInput, "s3.region"),
        ("400 Bad Request", "InvalidStorageClass", StoreErrorKind::InvalidInput, "s3.storage-class"),
        ("404 Not Found", "NoSuchBucket", StoreErrorKind::NotFound, "bucket"),
        (
            "301 Moved\r\nx-amz-bucket-region: eu-west-1",
            "PermanentRedirect",
            StoreErrorKind::InvalidInput,
            "region",
        ),
        (
            "307 Moved\r\nLocation: http://127.0.0.1:1/",
            "TemporaryRedirect",
            StoreErrorKind::InvalidInput,
            "region",
        ),
        ("507 Full", "Full", StoreErrorKind::StorageFull, ""),
        ("501 Not Implemented", "NotImplemented", StoreErrorKind::Unsupported, ""),
    ];
    for (status, code, kind, remedy) in cases {
        let script = Script::new(vec![failure(status, code)]);
        let error = script.open(StoreOptions::new()).get(&name("a")).unwrap_err();
        assert_eq!(error.kind(), kind, "{code}");
        let said = error.source().unwrap().to_string();
        assert!(said.contains(code) && said.contains("in its words"), "{said}");
        assert!(error.remedy().unwrap_or_default().contains(remedy), "{code}: {:?}", error.remedy());
        assert!(!format!("{error:?} {said}").contains("hush"), "{error:?}");
        assert!(!said.contains("Location") && script.lines().len() == 1, "a redirect was followed");
        if code == "PermanentRedirect" {
            assert!(said.contains("eu-west-1"), "{said}");
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_fetched_again() {
    let script = Script::new(vec![
        (
            "200 OK\r\nETag: \"1\"\r\nLast-Modified: Sat, 21 Nov 2026 10:00:00 GMT\r\nTransfer-Encoding: chunked",
            "5\r\nab".to_owned(),
        ),
        (DONE, "abcde".to_owned()),
    ]);
    assert_eq!(script.open(StoreOptions::new()).get(&name("a")).unwrap(), "abcde".as_bytes());
}

#[test]
fn nothing_printed_holds_a_secret() {
    let script = Script::new(Vec::new());
    let store = script.open(StoreOptions::new());
    let shown = format!("{store:?} {}", store.endpoint());
    assert!(!shown.contains("hush"), "{shown}");
    assert_eq!(store.endpoint(), format!("s3://bucket/prefix?endpoint=http://127.0.0.1:{}", script.port));
}
