//! Paths in URLs and names in XML and HTML.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What stands for itself in a part of a path. Source: RFC 3986, section 2.3.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The bytes of a URL's path.
pub(super) fn decode(path: &str) -> Vec<u8> {
    percent_decode_str(path).collect()
}

/// A path of bytes as a URL's path: absolute, with `/` at the end of a folder's.
pub(super) fn encode(path: &[u8]) -> String {
    let mut encoded = String::from("/");
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if encoded.len() > 1 {
            encoded.push('/');
        }
        encoded.extend(percent_encode(name, PLAIN));
    }
    encoded
}

/// The same for a folder.
pub(super) fn encode_folder(path: &[u8]) -> String {
    let mut encoded = encode(path);
    if encoded.len() > 1 {
        encoded.push('/');
    }
    encoded
}

/// A name as text in XML and HTML. What is no text, or may not stand there, is a replacement character.
pub(super) fn markup(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in String::from_utf8_lossy(name).chars() {
        match letter {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '&' => text.push_str("&amp;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => text.push('\u{fffd}'),
            letter if letter.is_control() => text.push('\u{fffd}'),
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_a_url() {
        let every: Vec<u8> = (1..=255).filter(|byte| *byte != b'/').collect();
        assert_eq!(decode(&encode(&every)), [b"/", every.as_slice()].concat());
        assert_eq!(encode(b"/a b//\xff%/"), "/a%20b/%FF%25");
        assert_eq!(
            (encode(b""), encode_folder(b"/"), encode_folder(b"a")),
            ("/".into(), "/".into(), "/a/".into())
        );
        assert_eq!(decode("/..%2f%2e%2e/%zz"), b"/../../%zz");
    }

    #[test]
    fn names_never_end_the_text_they_stand_in() {
        assert_eq!(
            markup(b"<a href='\"&\x01\xff\xef\xbf\xbf>"),
            "&lt;a href=&#39;&quot;&amp;\u{fffd}\u{fffd}\u{fffd}&gt;"
        );
    }
}
