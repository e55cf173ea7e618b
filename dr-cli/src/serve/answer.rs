//! Answers requests.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use dr_core::{FileContent, SnapshotView};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::access::{Access, Refusal};
use super::body::Body;
use super::href::{decode, encode, encode_folder, markup};
use super::propfind::{self, Wanted};
use super::range::{self, Part};
use super::resource::{Kind, Member, Properties, Resource, is_absent};
use super::{CONTENT_TYPE as FILE_TYPE, time};
use crate::shelf::Shelf;

/// The longest body of a request that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// A file is sent in pieces of so many bytes; what is said of a folder in pieces that end soon after as many.
const PIECE_BYTES: u64 = 1 << 20;
/// What can be asked for. Everything else would change something.
const METHODS: &str = "OPTIONS, GET, HEAD, PROPFIND";

/// What answers.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) shelf: Arc<Shelf>,
    pub(super) access: Access,
}

/// Answers a request, whatever it is.
pub(super) async fn answer(
    server: Arc<Server>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut response = match server.access.check(request.headers()) {
        Ok(()) => dispatch(server, request).await,
        Err(Refusal::Host) => {
            plain(StatusCode::FORBIDDEN, "this server answers programs of its own machine\n")
        }
        Err(Refusal::Password) => {
            let mut response = plain(StatusCode::UNAUTHORIZED, "a name and a password are needed\n");
            set(&mut response, WWW_AUTHENTICATE, "Basic realm=\"dr\", charset=\"UTF-8\"");
            response
        }
    };
    // What was saved may be a page of anybody's: a browser is to run none of it.
    set(&mut response, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    Ok(response)
}

async fn dispatch(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = decode(head.uri.path());
    let shelf = server.shelf.clone();
    match head.method.as_str() {
        "OPTIONS" => {
            let mut response = Response::new(Body::empty());
            set(&mut response, ALLOW, METHODS);
            set(&mut response, HeaderName::from_static("dav"), "1");
            set(&mut response, HeaderName::from_static("ms-author-via"), "DAV");
            response
        }
        "GET" | "HEAD" => {
            let is_head = head.method == Method::HEAD;
            let found = find(shelf.clone(), path.clone()).await;
            let mut response =
                found.map_or_else(|failure| failure, |found| get(shelf, path, found, &head.headers));
            if is_head {
                *response.body_mut() = Body::empty();
            }
            response
        }
        "PROPFIND" => {
            let too_long = || plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long\n");
            if body.size_hint().lower() > REQUEST_BYTES_MAX as u64 {
                return too_long();
            }
            let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else { return too_long() };
            let Some(wanted) = Wanted::parse(&body.to_bytes()) else {
                return plain(
                    StatusCode::BAD_REQUEST,
                    "the request is no propfind element, or names too many properties\n",
                );
            };
            let depth = head.headers.get("depth").map(HeaderValue::as_bytes);
            let found = find(shelf.clone(), path.clone()).await;
            found.map_or_else(|failure| failure, |found| properties(shelf, path, found, wanted, depth))
        }
        _ => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "snapshots never change\n");
            set(&mut response, ALLOW, METHODS);
            response
        }
    }
}

/// Finds what a path leads to, on a thread that may wait for a store.
async fn find(shelf: Arc<Shelf>, path: Vec<u8>) -> Result<Resource, Response<Body>> {
    let looked = tokio::task::spawn_blocking(move || {
        let found = Resource::find(&shelf, &path);
        if let Err(error) = &found {
            shelf.complain(&path, error);
        }
        found
    });
    match looked.await {
        Ok(Ok(Some(resource))) => Ok(resource),
        Ok(Ok(None)) => Err(plain(StatusCode::NOT_FOUND, "there is nothing of this name\n")),
        Ok(Err(error)) if is_absent(&error) => {
            Err(plain(StatusCode::NOT_FOUND, "there is nothing of this name\n"))
        }
        Ok(Err(_)) | Err(_) => Err(plain(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be read\n")),
    }
}

fn get(shelf: Arc<Shelf>, path: Vec<u8>, found: Resource, headers: &HeaderMap) -> Response<Body> {
    let properties = found.properties().clone();
    match found {
        Resource::File(_, content, view) => file(shelf, path, &properties, content, view, headers),
        folder => {
            let mut response = Response::new(page(shelf, path, folder));
            set(&mut response, CONTENT_TYPE, "text/html; charset=utf-8");
            response
        }
    }
}

fn file(
    shelf: Arc<Shelf>,
    path: Vec<u8>,
    properties: &Properties,
    content: FileContent,
    view: SnapshotView,
    headers: &HeaderMap,
) -> Response<Body> {
    let Kind::File { bytes, tag } = &properties.kind else { return Response::new(Body::empty()) };
    let names_tag = |header: &HeaderValue| {
        let mut tags = header.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
    };
    let mut response = Response::new(Body::empty());
    set(&mut response, ETAG, tag);
    set(&mut response, ACCEPT_RANGES, "bytes");
    if let Some(modified) = time::http(properties.modified) {
        set(&mut response, LAST_MODIFIED, &modified);
    }
    if headers.get_all(IF_NONE_MATCH).iter().any(names_tag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    set(&mut response, CONTENT_TYPE, FILE_TYPE);
    // A part of another file would be of no use.
    let is_same = headers.get(IF_RANGE).is_none_or(|header| header.as_bytes() == tag.as_bytes());
    let asked = headers.get(RANGE).filter(|_| is_same).and_then(|header| header.to_str().ok());
    let range = match asked.map_or(Part::Whole, |asked| range::parse(asked, *bytes)) {
        Part::Whole => 0..*bytes,
        Part::Of(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = range.end.saturating_sub(1);
            set(&mut response, CONTENT_RANGE, &format!("bytes {}-{last}/{bytes}", range.start));
            range
        }
        Part::Beyond => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            set(&mut response, CONTENT_RANGE, &format!("bytes */{bytes}"));
            return response;
        }
    };
    set(&mut response, CONTENT_LENGTH, &(range.end - range.start).to_string());
    let (mut offset, end) = (range.start, range.end);
    *response.body_mut() = Body::pieces(move || {
        if offset >= end {
            return None;
        }
        let mut piece = vec![0; PIECE_BYTES.min(end - offset) as usize];
        let read = view.read_at(&content, offset, &mut piece);
        Some(match read {
            Ok(count) if count == piece.len() => {
                offset += count as u64;
                Ok(Bytes::from(piece))
            }
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => {
                shelf.complain(&path, &error);
                Err(io::Error::other(error))
            }
        })
    });
    response
}

/// A page with links to what a folder holds, for browsers.
fn page(shelf: Arc<Shelf>, path: Vec<u8>, folder: Resource) -> Body {
    let above = encode_folder(&path);
    let title = markup(path.strip_prefix(b"/").unwrap_or(&path));
    let mut page = format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>/{title}</title>\n<h1>/{title}</h1>\n<ul>\n"
    );
    if let Some((parent, _)) = above.trim_end_matches('/').rsplit_once('/') {
        page.push_str(&format!("<li><a href=\"{parent}/\">..</a></li>\n"));
    }
    let mut begin = Some(page);
    let mut members = Listed::of(folder.members(shelf, path));
    Body::pieces(move || {
        if let Some(begin) = begin.take() {
            return Some(Ok(begin.into()));
        }
        members.piece(|text, member| {
            let (href, name) = (member_href(&above, &member.name, &member.properties), markup(&member.name));
            text.push_str(&format!("<li><a href=\"{href}\">{name}</a></li>\n"));
        })
    })
}

/// What a folder holds, one member after the other: many may come at once, and much be said of each.
struct Listed<M> {
    members: M,
    run: vec::IntoIter<Member>,
}

impl<M: Iterator<Item = io::Result<Vec<Member>>>> Listed<M> {
    fn of(members: M) -> Listed<M> {
        Listed { members, run: Vec::new().into_iter() }
    }

    /// Writes of members until there is enough to send; none after the last.
    fn piece(&mut self, mut write: impl FnMut(&mut String, &Member)) -> Option<io::Result<Bytes>> {
        let mut text = String::new();
        while (text.len() as u64) < PIECE_BYTES {
            if let Some(member) = self.run.next() {
                write(&mut text, &member);
            } else if !text.is_empty() {
                break;
            } else {
                match self.members.next()? {
                    Ok(members) => self.run = members.into_iter(),
                    Err(error) => return Some(Err(error)),
                }
            }
        }
        Some(Ok(text.into()))
    }
}

fn member_href(above: &str, name: &[u8], properties: &Properties) -> String {
    let name = match properties.kind {
        Kind::Folder => encode_folder(name),
        Kind::File { .. } => encode(name),
    };
    [above, name.trim_start_matches('/')].concat()
}

/// Answers with properties: those of the resource itself, and with depth 1 those of what it holds.
fn properties(
    shelf: Arc<Shelf>,
    path: Vec<u8>,
    found: Resource,
    wanted: Wanted,
    depth: Option<&[u8]>,
) -> Response<Body> {
    let with_members = match depth {
        Some(b"0") => false,
        Some(b"1") => true,
        _ => {
            let mut response = plain(
                StatusCode::FORBIDDEN,
                "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:error xmlns:D=\"DAV:\"><D:propfind-finite-depth/></D:error>\n",
            );
            set(&mut response, CONTENT_TYPE, "application/xml; charset=utf-8");
            return response;
        }
    };
    let own = found.properties().clone();
    let above = encode_folder(&path);
    let href = if own.kind == Kind::Folder { above.clone() } else { encode(&path) };
    let name = path.split(|byte| *byte == b'/').rfind(|name| !name.is_empty()).unwrap_or_default();
    let mut begin = String::from(propfind::BEGIN);
    propfind::write_response(&mut begin, &href, name, &own, &wanted);
    let mut begin = Some(begin);
    let mut members = with_members.then(|| Listed::of(found.members(shelf, path)));
    let mut is_open = true;
    let body = Body::pieces(move || {
        if let Some(begin) = begin.take() {
            return Some(Ok(begin.into()));
        }
        let write = |text: &mut String, member: &Member| {
            let href = member_href(&above, &member.name, &member.properties);
            propfind::write_response(text, &href, &member.name, &member.properties, &wanted);
        };
        if let Some(piece) = members.as_mut().and_then(|members| members.piece(write)) {
            return Some(piece);
        }
        std::mem::take(&mut is_open).then(|| Ok(propfind::END.into()))
    });
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::MULTI_STATUS;
    set(&mut response, CONTENT_TYPE, "application/xml; charset=utf-8");
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::text(text));
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, "text/plain; charset=utf-8");
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use dr_core::Timestamp;

    use super::*;

    #[test]
    fn a_long_run_of_members_is_sent_in_pieces() {
        let member = |number: usize| {
            let modified = Timestamp::default();
            let properties = Properties { kind: Kind::Folder, modified, created: None };
            Member { name: number.to_string().into_bytes(), properties }
        };
        let runs: Vec<io::Result<Vec<Member>>> = vec![
            Ok((0..3000).map(member).collect()),
            Ok(Vec::new()),
            Ok((3000..3001).map(member).collect()),
            Err(io::ErrorKind::Other.into()),
        ];
        let mut listed = Listed::of(runs.into_iter());
        let (mut written, mut lengths) = (Vec::new(), Vec::new());
        let failed = loop {
            let piece = listed.piece(|text, member| {
                written.push(member.name.clone());
                text.push_str(&"x".repeat(1000));
            });
            match piece.unwrap() {
                Ok(piece) => lengths.push(piece.len() as u64),
                Err(error) => break error,
            }
        };
        assert_eq!(failed.kind(), io::ErrorKind::Other);
        assert_eq!(written, (0..3001).map(|number| number.to_string().into_bytes()).collect::<Vec<_>>());
        assert!(lengths.iter().all(|length| *length < PIECE_BYTES + 1000), "{lengths:?}");
        assert_eq!(lengths, [1_049_000, 1_049_000, 902_000, 1000]);
    }
}
