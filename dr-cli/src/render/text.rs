//! Text for people.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Makes text that comes from outside harmless for a terminal: control characters, and those that reorder or break
/// lines, become escapes.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if is_deceptive(letter) {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                let _ = write!(shown, "{}", std::ascii::escape_default(byte));
            }
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character moves others about instead of being one: C0, C1 and DEL; Unicode's marks, overrides and isolates of
/// writing direction, with which a name can look like another; and its line and paragraph separators.
fn is_deceptive(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Makes a path harmless for a terminal: deceptive characters and bytes that are no text become escapes.
pub(crate) fn printable_path(path: &[u8]) -> String {
    let mut shown = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        shown.push_str(&printable(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// A number of bytes, as people read it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    // At 1023.95 one decimal would show 1024.0 of the smaller unit.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A number and what is counted.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Writes rows under a title, each column as wide as its widest cell; the last is not padded.
pub(crate) fn table(to: &mut dyn Write, titles: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(titles.get(column).map(|title| title.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let titles: Vec<String> = titles.iter().map(|title| (*title).to_owned()).collect();
    let rule = vec!["-".repeat(widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1))];
    for row in [&titles, &rule].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_sent_no_control_characters() {
        assert_eq!(printable("plain ü"), "plain ü");
        assert_eq!(printable("a\x1b[31m\n\u{9b}"), "a\\x1b[31m\\n\\xc2\\x9b");
        assert_eq!(printable_path(b"/a\xff\tb\xc3\xbc"), "/a\\xff\\tbü");
        assert_eq!(printable("invoice\u{202e}fdp.exe"), "invoice\\xe2\\x80\\xaefdp.exe");
        for letter in ['\u{7f}', '\u{85}', '\u{61c}', '\u{200f}', '\u{2028}', '\u{2066}', '\u{2069}'] {
            assert!(printable(&letter.to_string()).is_ascii(), "{letter:?}");
        }
        // Joiners are part of how some scripts, and many emoji, are written.
        assert_eq!(printable("نامه‌ای 👩‍🚀 עברית"), "نامه‌ای 👩‍🚀 עברית");
    }

    #[test]
    fn bytes_are_readable() {
        let cases =
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), ((1 << 20) - 1, "1.0 MiB")];
        for (number, text) in cases {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(
            (count(1, "file", "files"), count(2, "file", "files")),
            ("1 file".into(), "2 files".into())
        );
    }

    #[test]
    fn columns_are_aligned() {
        let mut text = Vec::new();
        let rows = [vec!["abc".to_owned(), "ü".to_owned(), "x".to_owned()], vec!["a".to_owned()]];
        table(&mut text, &["ID", "B", "C"], &rows).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "ID   B  C\n---------\nabc  ü  x\na\n");
    }
}
