//! Parts of a file. Source: RFC 9110, section 14.

use std::ops::Range;

/// What of a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// A part.
    Of(Range<u64>),
    /// Nothing: the part that was asked for lies behind the end.
    Beyond,
}

/// Reads the header of a request for a part of a file of so many bytes. What is not understood, or asks for several parts, is
/// answered with all of it.
pub(super) fn parse(header: &str, bytes: u64) -> Part {
    let Some(range) = header.trim().strip_prefix("bytes=") else { return Part::Whole };
    let Some((first, last)) = range.split_once('-') else { return Part::Whole };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        // A number that is too large for this machine is behind every end.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first.trim()), number(last.trim()), first.trim().is_empty(), last.trim().is_empty()) {
        (Some(first), Some(last), ..) if first > last => Part::Whole,
        (Some(first), last, _, open) if last.is_some() || open => {
            let end = last.map_or(bytes, |last| last.saturating_add(1).min(bytes));
            if first < end { Part::Of(first..end) } else { Part::Beyond }
        }
        (None, Some(count), true, _) if count > 0 && bytes > 0 => {
            Part::Of(bytes.saturating_sub(count)..bytes)
        }
        (None, Some(_), true, _) => Part::Beyond,
        _ => Part::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_the_end_of_the_file() {
        let cases = [
            ("bytes=0-0", 10, Part::Of(0..1)),
            ("bytes=2-5", 10, Part::Of(2..6)),
            ("bytes=2-", 10, Part::Of(2..10)),
            ("bytes=9-99999999999999999999999", 10, Part::Of(9..10)),
            ("bytes=-3", 10, Part::Of(7..10)),
            ("bytes=-30", 10, Part::Of(0..10)),
            ("bytes=10-", 10, Part::Beyond),
            ("bytes=99999999999999999999999-", 10, Part::Beyond),
            ("bytes=0-", 0, Part::Beyond),
            ("bytes=-0", 10, Part::Beyond),
            ("bytes=-5", 0, Part::Beyond),
            ("bytes=5-2", 10, Part::Whole),
            ("bytes=0-1,3-4", 10, Part::Whole),
            ("bytes=-", 10, Part::Whole),
            ("bytes=+1-2", 10, Part::Whole),
            ("lines=1-2", 10, Part::Whole),
            ("", 10, Part::Whole),
        ];
        for (header, bytes, part) in cases {
            assert_eq!(parse(header, bytes), part, "{header} of {bytes}");
        }
    }
}
