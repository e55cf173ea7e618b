//! Keys that the drivers stumble over: they are taken out of the servers' listings, and told apart from the rest.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use object_store::path::Path;

/// What lists an object or a folder: the element, and the one in it that holds the key.
const ITEMS: [Item; 4] =
    [("Contents", "Key"), ("CommonPrefixes", "Prefix"), ("Blob", "Name"), ("BlobPrefix", "Name")];

type Item = (&'static str, &'static str);

/// Collects what was taken out.
#[derive(Debug, Default)]
pub(crate) struct KeyFilter(Mutex<Vec<(String, &'static str)>>);

impl KeyFilter {
    /// Whether a request asks for a listing that has such keys. WebDAV's are paths of a file system.
    pub(super) fn concerns(method: &str, query: Option<&str>) -> bool {
        let is_listing = |part: &str| matches!(part, "list-type=2" | "comp=list");
        method == "GET" && query.is_some_and(|query| query.split('&').any(is_listing))
    }

    /// What was taken out since the last call.
    pub(crate) fn take(&self) -> Vec<(String, &'static str)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A listing without what the driver cannot hold.
    pub(super) fn filter(&self, listing: &str) -> String {
        let mut kept = String::with_capacity(listing.len());
        let is_there = |(element, _): &(&str, &str)| listing.contains(&format!("<{element}>"));
        let items: Vec<Item> = ITEMS.into_iter().filter(is_there).collect();
        let mut rest = listing;
        while let Some((item, whole)) = next_item(&items, rest) {
            let (_, key_element) = item;
            let key = element(&rest[whole.clone()], key_element).map(unescape).unwrap_or_default();
            let is_folder = matches!(item.0, "CommonPrefixes" | "BlobPrefix");
            let flaw =
                if is_folder { flaw_of_folder(&key) } else { flaw_of_object(&key, &rest[whole.clone()]) };
            match flaw {
                Flaw::None => kept.push_str(&rest[..whole.end]),
                Flaw::Marker => kept.push_str(&rest[..whole.start]),
                Flaw::Unusable(why) => {
                    kept.push_str(&rest[..whole.start]);
                    self.0.lock().unwrap_or_else(PoisonError::into_inner).push((key, why));
                }
            }
            rest = &rest[whole.end..];
        }
        kept.push_str(rest);
        kept
    }
}

enum Flaw {
    None,
    /// An empty object that only says that there is a folder.
    Marker,
    Unusable(&'static str),
}

fn flaw_of_object(key: &str, item: &str) -> Flaw {
    if key.ends_with('/') {
        let bytes = element(item, "Size").or_else(|| element(item, "Content-Length"));
        return match (bytes.map(str::trim), flaw_of_folder(key)) {
            (_, Flaw::Unusable(why)) => Flaw::Unusable(why),
            (Some("0"), _) => Flaw::Marker,
            _ => Flaw::Unusable("its name ends with a slash, as a folder's does"),
        };
    }
    flaw_of_folder(key)
}

fn flaw_of_folder(key: &str) -> Flaw {
    let parts = key.strip_suffix('/').unwrap_or(key);
    if parts.split('/').any(str::is_empty) {
        return Flaw::Unusable("a part of its name between slashes is empty");
    }
    if parts.split('/').any(|part| matches!(part, "." | "..")) {
        return Flaw::Unusable("a part of its name is '.' or '..'");
    }
    match Path::parse(key) {
        Ok(path) if path.as_ref() == parts => Flaw::None,
        _ => Flaw::Unusable("its name holds a control character"),
    }
}

/// The next element that lists something, and where it stands with its tags.
fn next_item(items: &[Item], text: &str) -> Option<(Item, Range<usize>)> {
    let found = items.iter().filter_map(|item| {
        let start = text.find(&format!("<{}>", item.0))?;
        let closing = format!("</{}>", item.0);
        let end = start + text[start..].find(&closing)? + closing.len();
        Some((*item, start..end))
    });
    found.min_by_key(|(_, place)| place.start)
}

/// What stands between the tags of an element; attributes of it do not matter.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let opening = text.find(&format!("<{name}>")).or_else(|| text.find(&format!("<{name} ")))?;
    let start = opening + text[opening..].find('>')? + 1;
    let end = start + text[start..].find(&format!("</{name}>"))?;
    Some(&text[start..end])
}

/// Puts letters in the place of XML's names for them.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let Some((name, behind)) = after.split_once(';') else {
            plain.push('&');
            rest = after;
            continue;
        };
        let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => digits.parse().ok(),
        });
        let letter = match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => number.and_then(char::from_u32),
        };
        plain.push(letter.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = behind;
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_path_is_taken_out_and_told() {
        let object =
            |key: &str, bytes: u64| format!("<Contents><Key>{key}</Key><Size>{bytes}</Size></Contents>");
        let folder = |key: &str| format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>");
        let kept = [object("a/b", 1), object("a &amp; b", 1), folder("a/c/"), object("..a/.b", 2)];
        let taken = [
            object("a//b", 1),
            object("a/../b", 1),
            object("/a", 1),
            object("full/", 3),
            object("&#x1;", 1),
            folder("a//"),
            folder("/"),
            folder("./"),
        ];
        let marker = object("empty/", 0);
        let parts: Vec<&String> = kept.iter().chain(&taken).chain([&marker]).collect();
        let listing = |items: &str| format!("<ListBucketResult><Prefix></Prefix>{items}</ListBucketResult>");
        let filter = KeyFilter::default();
        let whole: String = parts.iter().map(|part| part.as_str()).collect();
        assert_eq!(filter.filter(&listing(&whole)), listing(&kept.concat()));
        let told: Vec<String> = filter.take().into_iter().map(|(key, _)| key).collect();
        assert_eq!(told, ["a//b", "a/../b", "/a", "full/", "\u{1}", "a//", "/", "./"]);
        assert!(filter.take().is_empty());
        let azure = "<Blobs><Blob><Name>a//b</Name></Blob><BlobPrefix><Name>c/</Name></BlobPrefix></Blobs>";
        assert_eq!(filter.filter(azure), "<Blobs><BlobPrefix><Name>c/</Name></BlobPrefix></Blobs>");
    }

    #[test]
    fn only_listings_are_looked_at() {
        assert!(KeyFilter::concerns("GET", Some("delimiter=%2F&list-type=2&prefix=a")));
        assert!(KeyFilter::concerns("GET", Some("restype=container&comp=list")));
        assert!(!KeyFilter::concerns("GET", Some("x=list-type%3D2")));
        assert!(!KeyFilter::concerns("GET", None));
        assert!(!KeyFilter::concerns("PUT", Some("list-type=2")));
    }
}
