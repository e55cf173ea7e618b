//! Reads the repository's sources for the test of the house rules: which files there are, what of a file is code, how
//! long its functions are and which modules it imports. It looks at text, not at a syntax tree: good enough for
//! rules, and no parser to keep up with the language.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Returns the folder that holds the workspace.
pub fn repository_root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// A text file of the repository.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Where it is, from the root of the repository, with `/` between the parts.
    pub path: String,
    /// What it holds.
    pub text: String,
}

impl SourceFile {
    /// Tells whether all of the file is test code, by its place or its name.
    pub fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

/// Reads every file below `root` whose name ends in one of `endings`, but not what git ignores at the top or keeps for
/// itself, in the order of their paths.
///
/// # Errors
/// When a folder or a file cannot be read, or a file is not UTF-8.
pub fn source_files(root: &Path, endings: &[&str]) -> io::Result<Vec<SourceFile>> {
    let ignored = ignored_paths(root)?;
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if name == ".git" || ignored.contains(&path) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = fs::read_to_string(root.join(&path))?;
                files.push(SourceFile { path, text });
            }
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

/// Returns the names at the top of the repository that a person sees: not hidden, and not ignored by git.
///
/// # Errors
/// When the folder cannot be read.
pub fn visible_top_level(root: &Path) -> io::Result<Vec<String>> {
    let ignored = ignored_paths(root)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !ignored.contains(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Reads the anchored lines of `.gitignore`, the only kind that the project uses.
fn ignored_paths(root: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(root.join(".gitignore"))?;
    let anchored = text.lines().filter_map(|line| line.trim().strip_prefix('/'));
    Ok(anchored.map(|path| path.trim_end_matches('/').to_owned()).collect())
}

/// Returns `text` with every comment, string and character literal replaced by blanks. Lines and byte offsets stay.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        match literal_or_comment_end(bytes, at) {
            Some(end) => {
                let end = end.min(bytes.len());
                code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
                at = end;
            }
            None => at += 1,
        }
    }
    // Whole literals and comments were blanked, so what remains is still UTF-8.
    String::from_utf8_lossy(&code).into_owned()
}

/// Returns where the comment or literal that begins at `at` ends, if one does.
fn literal_or_comment_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let in_word = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return Some(at + position(rest, b"\n").unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(at + block_comment_length(rest));
    }
    match rest[0] {
        b'"' => Some(at + quoted_length(rest, b'"')),
        b'\'' => character_length(rest).map(|length| at + length),
        b'r' | b'b' | b'c' if !in_word => prefixed_string_length(rest).map(|length| at + length),
        _ => None,
    }
}

fn block_comment_length(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of a literal from its opening to its closing `quote`, escapes included.
fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of a character literal, or nothing where the quote begins a lifetime.
fn character_length(rest: &[u8]) -> Option<usize> {
    let first = *rest.get(1)?;
    if first == b'\\' {
        return Some(quoted_length(rest, b'\''));
    }
    let width = match first {
        0x00..=0x7f => 1,
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

/// The length of `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"` or `b'…'`, or nothing where it is a plain word.
fn prefixed_string_length(rest: &[u8]) -> Option<usize> {
    let letters = rest.iter().take(2).take_while(|byte| matches!(byte, b'r' | b'b' | b'c')).count();
    let raw = rest[..letters].contains(&b'r');
    let hashes = rest[letters..].iter().take_while(|byte| **byte == b'#').count();
    let opening = letters + hashes;
    match rest.get(opening)? {
        b'"' if raw => {
            let closing = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
            let body = position(&rest[opening + 1..], &closing).unwrap_or(rest.len());
            Some(opening + 1 + body + closing.len())
        }
        b'"' if hashes == 0 => Some(letters + quoted_length(&rest[letters..], b'"')),
        b'\'' if hashes == 0 && rest[..letters] == *b"b" => Some(1 + quoted_length(&rest[1..], b'\'')),
        _ => None,
    }
}

/// Returns `code`, as [`code_only`] gives it, with every item under a `#[cfg(test)]` blanked too.
pub fn without_test_items(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    for attribute in ["#[cfg(test)]", "#[cfg(all(test"] {
        let mut from = 0;
        while let Some(found) = position(&bytes[from..], attribute.as_bytes()) {
            let start = from + found;
            let end = item_end(&bytes, start);
            bytes[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
            from = end;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where the item that begins at `start` ends: at its `;`, or at the brace that closes its body.
fn item_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *byte == b'}' {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    bytes.len()
}

/// A function of a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line it begins on, counted from 1.
    pub line: usize,
    /// How many lines it has, from `fn` to its closing brace.
    pub lines: usize,
}

/// Lists the functions with a body in `code`, as [`code_only`] gives it.
pub fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for start in words(code, "fn") {
        let name: String =
            code[start + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = item_end(code.as_bytes(), start);
        // Without a name it is a function type, and without a brace at its end a declaration.
        if !name.is_empty() && code[..end].ends_with('}') {
            let lines = line_of(code, end) - line_of(code, start) + 1;
            found.push(Function { name, line: line_of(code, start), lines });
        }
    }
    found
}

/// Lists where `word` stands in `code` as a word of its own, as byte offsets.
pub fn words(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let whole = |at: &usize| {
        let before = at.checked_sub(1).is_none_or(|before| !is_word(bytes[before]));
        let after = bytes.get(at + word.len()).is_none_or(|after| !is_word(*after));
        before && after
    };
    code.match_indices(word).map(|(at, _)| at).filter(whole).collect()
}

/// Returns the line of the byte at `offset`, counted from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// Counts the lines of `code` up to the last one that holds anything: what [`without_test_items`] removed at the end of a
/// file does not count, and what it removed from the middle does.
pub fn line_count(code: &str) -> usize {
    line_of(code, code.trim_end().len())
}

/// Lists the modules at the top of its crate that the file at `path` names in `code`, with their lines: through
/// `crate::…`, in a group or alone, and through as many `super::` as lead there.
pub fn named_modules(path: &str, code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for start in words(code, "crate") {
        collect_heads(code, start + "crate".len(), &mut found);
    }
    // `src/format/pack.rs` is two modules below the crate: two `super::` lead to its top.
    let inside = path.split_once("src/").map_or(path, |(_, inside)| inside);
    let depth = inside.split('/').count() - usize::from(path.ends_with("/mod.rs"));
    let chain = ["super"].repeat(depth).join("::");
    for start in words(code, &chain) {
        if !code[..start].ends_with("super::") {
            collect_heads(code, start + chain.len(), &mut found);
        }
    }
    // A longer chain of `super::` leads nowhere, and the end of a group may be empty.
    found.retain(|(name, _)| name != "super" && !name.is_empty());
    found.sort_by_key(|(_, line)| *line);
    found
}

/// Adds the first name of each path after the `::` at `at`.
fn collect_heads(code: &str, at: usize, found: &mut Vec<(String, usize)>) {
    let Some(rest) = code[at..].strip_prefix("::") else { return };
    let line = line_of(code, at);
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = rest.strip_prefix('{') else {
        found.push((name(rest), line));
        return;
    };
    let mut depth = 0_usize;
    let mut from = 0;
    for (index, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => {
                found.push((name(&group[from..index]), line_of(code, at + 3 + index)));
                from = index + 1;
                if byte == b'}' {
                    break;
                }
            }
            _ => {}
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
