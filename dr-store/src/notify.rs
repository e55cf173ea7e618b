//! One message to one address, for programs that watch: not a store, but the same client, and no other stack beside it.

use std::time::Duration;

use crate::{Result, StoreError, StoreErrorKind};

/// Posts JSON to an `http://` or `https://` URL and waits for the answer, at most until the deadline. Redirects are not
/// followed: nobody but the one who was named is told. No error holds more of the URL than its host.
///
/// # Errors
/// `InvalidInput` for what is no such URL, `Unsupported` where this build knows no store of the network,
/// `Unavailable` where nobody answers, and `Other` for an answer that is no success.
pub fn post_json(url: &str, body: Vec<u8>, deadline: Duration) -> Result<()> {
    let place = place(url);
    let is_web = url.starts_with("http://") || url.starts_with("https://");
    if !is_web || place.ends_with("//") {
        return Err(StoreError::new(StoreErrorKind::InvalidInput, "post", place)
            .with_source("the URL does not begin with http:// or https:// and a host"));
    }
    send(url, place, body, deadline)
}

#[cfg(feature = "_http")]
fn send(url: &str, place: String, body: Vec<u8>, deadline: Duration) -> Result<()> {
    crate::remote::post_json(url, place, body, deadline)
}

#[cfg(not(feature = "_http"))]
fn send(_url: &str, place: String, _body: Vec<u8>, _deadline: Duration) -> Result<()> {
    Err(StoreError::new(StoreErrorKind::Unsupported, "post", place)
        .with_source("this build knows no store of the network"))
}

/// The part of a URL that is no secret: its scheme and host.
fn place(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "the URL".to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn places_hold_no_secret() {
        assert_eq!(place("https://me:secret@host.example:8/uuid?key=x"), "https://host.example:8");
        assert_eq!(place("https://host?x"), "https://host");
        assert_eq!(place("secret"), "the URL");
    }

    #[test]
    fn what_is_no_address_of_the_web_is_refused() {
        for url in ["", "host/path", "file:///etc/passwd", "http://", "https:///uuid"] {
            let error = post_json(url, Vec::new(), SOON).unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::InvalidInput, "{url}");
            assert!(!error.to_string().contains("uuid"), "{error}");
        }
    }

    /// Answers one request.
    fn answer(response: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/secret", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"{}") {
                match stream.read(&mut buffer).unwrap() {
                    0 => break,
                    bytes => request.extend_from_slice(&buffer[..bytes]),
                }
            }
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (url, server)
    }

    #[cfg(feature = "_http")]
    #[test]
    fn only_success_is_success() {
        let (url, server) = answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK");
        post_json(&url, b"{}".to_vec(), SOON).unwrap();
        let request = server.join().unwrap();
        assert!(request.starts_with("POST /secret HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("content-type: application/json"), "{request}");
        for refusal in [
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        ] {
            let (url, server) = answer(refusal);
            let error = post_json(&url, b"{}".to_vec(), SOON).unwrap_err();
            server.join().unwrap();
            assert_eq!(error.kind(), StoreErrorKind::Other);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
