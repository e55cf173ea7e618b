//! `PROPFIND`: what is asked for, and the answer. Source: RFC 4918, section 9.1.

use std::fmt::Write as _;

use dr_core::Timestamp;
use quick_xml::NsReader;
use quick_xml::events::Event;
use quick_xml::name::ResolveResult;

use super::href::markup;
use super::resource::{Kind, Properties};
use super::time;

/// The namespace of WebDAV's own properties.
const DAV: &str = "DAV:";
/// The most properties that one request may name: each is answered for every member of a folder.
const PROPERTIES_MAX: usize = 256;
/// The most bytes of all their namespaces and names. A namespace is given once and holds for many names.
const NAMES_BYTES_MAX: usize = 8 << 10;
/// The properties that there are.
const KNOWN: [&str; 8] = [
    "resourcetype",
    "displayname",
    "getlastmodified",
    "creationdate",
    "getcontentlength",
    "getcontenttype",
    "getetag",
    "supportedlock",
];

/// What is asked of each resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All properties.
    All,
    /// Their names.
    Names,
    /// These: namespace and name.
    Some(Vec<(String, String)>),
}

impl Wanted {
    /// Reads the body of a request; none where it is not what it should be, or names too much. No body asks for everything.
    pub(super) fn parse(body: &[u8]) -> Option<Wanted> {
        let text = std::str::from_utf8(body).ok()?;
        if text.trim().is_empty() {
            return Some(Wanted::All);
        }
        let mut reader = NsReader::from_str(text);
        let (mut depth, mut names, mut names_bytes, mut wanted) = (0usize, Vec::new(), 0usize, None);
        loop {
            let (namespace, event) = reader.read_resolved_event().ok()?;
            let namespace = match namespace {
                ResolveResult::Bound(namespace) => namespace.0,
                ResolveResult::Unbound => "",
                ResolveResult::Unknown(_) => return None,
            };
            let (element, opens) = match &event {
                Event::Start(element) => (element, true),
                Event::Empty(element) => (element, false),
                Event::End(_) => {
                    depth = depth.checked_sub(1)?;
                    continue;
                }
                // Entities could be made to grow without bounds.
                Event::DocType(_) => return None,
                Event::Eof => break,
                _ => continue,
            };
            let name = element.local_name().into_inner();
            match (depth, namespace, name) {
                (0, DAV, "propfind") => {}
                (0, ..) => return None,
                (1, DAV, "allprop") => wanted = Some(Wanted::All),
                (1, DAV, "propname") => wanted = Some(Wanted::Names),
                (1, DAV, "prop") => wanted = Some(Wanted::Some(Vec::new())),
                (2, ..) if matches!(wanted, Some(Wanted::Some(_))) => {
                    names_bytes += namespace.len() + name.len();
                    if names_bytes > NAMES_BYTES_MAX || names.len() == PROPERTIES_MAX {
                        return None;
                    }
                    let property = (namespace.to_owned(), name.to_owned());
                    if !names.contains(&property) {
                        names.push(property);
                    }
                }
                _ => {}
            }
            depth += usize::from(opens);
        }
        match wanted {
            Some(Wanted::Some(_)) => Some(Wanted::Some(names)),
            wanted => wanted.filter(|_| depth == 0),
        }
    }
}

/// The beginning of an answer.
pub(super) const BEGIN: &str =
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\">\n";
/// Its end.
pub(super) const END: &str = "</D:multistatus>\n";

/// Writes what is said of one resource.
pub(super) fn write_response(
    to: &mut String,
    href: &str,
    name: &[u8],
    properties: &Properties,
    wanted: &Wanted,
) {
    let mut found = String::new();
    let mut missing = String::new();
    match wanted {
        Wanted::All => {
            for known in KNOWN {
                found.push_str(&value(known, name, properties).unwrap_or_default());
            }
        }
        Wanted::Names => {
            for known in KNOWN.iter().filter(|known| value(known, name, properties).is_some()) {
                let _ = write!(found, "<D:{known}/>");
            }
        }
        Wanted::Some(names) => {
            for (namespace, local) in names {
                let known = (namespace == DAV).then(|| value(local, name, properties)).flatten();
                match known {
                    Some(text) => found.push_str(&text),
                    None => {
                        let (namespace, local) = (markup(namespace.as_bytes()), markup(local.as_bytes()));
                        let _ = write!(missing, "<{local} xmlns=\"{namespace}\"/>");
                    }
                }
            }
        }
    }
    let _ = write!(to, "<D:response><D:href>{href}</D:href>");
    // An answer without any status would be none.
    if !found.is_empty() || missing.is_empty() {
        write_status(to, &found, "200 OK");
    }
    if !missing.is_empty() {
        write_status(to, &missing, "404 Not Found");
    }
    to.push_str("</D:response>\n");
}

fn write_status(to: &mut String, properties: &str, status: &str) {
    let _ = write!(
        to,
        "<D:propstat><D:prop>{properties}</D:prop><D:status>HTTP/1.1 {status}</D:status></D:propstat>"
    );
}

/// A property as an element; none where the resource has none of this name.
fn value(property: &str, name: &[u8], properties: &Properties) -> Option<String> {
    let file = match &properties.kind {
        Kind::Folder => None,
        Kind::File { bytes, tag } => Some((bytes, tag)),
    };
    let text = match property {
        "resourcetype" if file.is_none() => "<D:collection/>".to_owned(),
        "resourcetype" | "supportedlock" => String::new(),
        "displayname" => markup(name),
        "getlastmodified" => time::http(properties.modified)?,
        "creationdate" => created(properties.created?)?,
        "getcontentlength" => file?.0.to_string(),
        "getcontenttype" if file.is_some() => super::CONTENT_TYPE.to_owned(),
        "getetag" => markup(file?.1.as_bytes()),
        _ => return None,
    };
    Some(format!("<D:{property}>{text}</D:{property}>"))
}

fn created(time: Timestamp) -> Option<String> {
    Some(jiff::Timestamp::from_second(time.seconds).ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(names: &[(&str, &str)]) -> Option<Wanted> {
        let owned = |(namespace, name): &(&str, &str)| ((*namespace).to_owned(), (*name).to_owned());
        Some(Wanted::Some(names.iter().map(owned).collect()))
    }

    #[test]
    fn requests_are_understood_whatever_their_prefixes() {
        assert_eq!(Wanted::parse(b""), Some(Wanted::All));
        assert_eq!(Wanted::parse(b"<propfind xmlns='DAV:'><allprop/></propfind>"), Some(Wanted::All));
        let names = b"<?xml version='1.0'?><x:propfind xmlns:x='DAV:'><x:propname/></x:propfind>";
        assert_eq!(Wanted::parse(names), Some(Wanted::Names));
        let prop =
            b"<d:propfind xmlns:d='DAV:'><d:prop><d:getetag/><a xmlns='urn:b'/><c/></d:prop></d:propfind>";
        assert_eq!(Wanted::parse(prop), some(&[(DAV, "getetag"), ("urn:b", "a"), ("", "c")]));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for body in [
            "<propfind><allprop/></propfind>",
            "<x:propfind><x:allprop/></x:propfind>",
            "<propfind xmlns='DAV:'>",
            "<propfind xmlns='DAV:'/>",
            "<lockinfo xmlns='DAV:'/>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><propfind xmlns='DAV:'><allprop/></propfind>",
            "none",
        ] {
            assert_eq!(Wanted::parse(body.as_bytes()), None, "{body}");
        }
        assert_eq!(Wanted::parse(b"\xff"), None);
    }

    #[test]
    fn a_request_names_no_more_than_is_answered_for_every_member() {
        let asked = |namespace: &str, names: &[String]| {
            let names: String = names.iter().map(|name| format!("<a:{name}/>")).collect();
            let text =
                format!("<propfind xmlns='DAV:' xmlns:a='{namespace}'><prop>{names}</prop></propfind>");
            Wanted::parse(text.as_bytes())
        };
        let names = |count: usize| (0..count).map(|number| format!("p{number:03}")).collect::<Vec<_>>();
        let count = |wanted| match wanted {
            Some(Wanted::Some(names)) => names.len(),
            _ => usize::MAX,
        };
        assert_eq!(count(asked("urn:a", &names(PROPERTIES_MAX))), PROPERTIES_MAX);
        assert_eq!(asked("urn:a", &names(PROPERTIES_MAX + 1)), None);
        // One long namespace counts with each name that it holds for.
        let long = "n".repeat(NAMES_BYTES_MAX / 8 - 4);
        assert_eq!(count(asked(&long, &names(8))), 8);
        assert_eq!(asked(&long, &names(9)), None);
        assert_eq!(asked(&"n".repeat(60_000), &names(50)), None);
        assert_eq!(count(asked("urn:a", &vec!["same".to_owned(); 200])), 1);
    }

    #[test]
    fn answers_name_what_is_missing() {
        let properties = Properties {
            kind: Kind::File { bytes: 5, tag: "\"t\"".to_owned() },
            modified: Timestamp::default(),
            created: None,
        };
        let mut text = String::new();
        let wanted = some(&[(DAV, "getcontentlength"), ("urn:<", "odd"), (DAV, "quota")]).unwrap();
        write_response(&mut text, "/a", b"a", &properties, &wanted);
        let expected = "<D:response><D:href>/a</D:href><D:propstat><D:prop>\
<D:getcontentlength>5</D:getcontentlength></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat><D:propstat>\
<D:prop><odd xmlns=\"urn:&lt;\"/><quota xmlns=\"DAV:\"/></D:prop><D:status>HTTP/1.1 404 Not Found</D:status>\
</D:propstat></D:response>\n";
        assert_eq!(text, expected);
    }
}
