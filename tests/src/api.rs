//! What of the sources is public, and which types of other packages stand in it.

use std::collections::BTreeMap;

use crate::tidy::words;

/// Lists the signatures of public items in `code`, as [`crate::tidy::code_only`] gives it, without function bodies and private
/// fields: where each begins, and its text. A trait is given with all that is in it.
pub fn public_signatures(code: &str) -> Vec<(usize, &str)> {
    let starts = words(code, "pub").into_iter().filter(|at| code[at + 3..].starts_with(' '));
    let public = starts.map(|start| {
        let what = code[start + 4..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        let end = match what {
            "trait" | "enum" => end_of(code, start, b'}'),
            "fn" | "struct" | "type" | "const" | "static" | "use" | "mod" | "unsafe" => {
                end_of(code, start, b'{')
            }
            _ => end_of(code, start, b','),
        };
        (start, &code[start..end])
    });
    let conversions = code.match_indices("\nimpl").map(|(at, _)| at + 1).filter_map(|start| {
        let head = &code[start..end_of(code, start, b'{')];
        head.contains("From<").then_some((start, head))
    });
    public.chain(conversions).collect()
}

/// Where a signature that begins at `start` ends: at its `;`, or at the first `last` outside of brackets.
fn end_of(code: &str, start: usize, last: u8) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        if depth == 0 && (byte == last || byte == b';' || (last == b',' && byte == b'}')) {
            return at;
        }
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && byte == last {
                    return at;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// The names that `code` imports from these packages, and which package each is from.
pub fn imported_names(code: &str, packages: &[&str]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for start in words(code, "use") {
        let end = end_of(code, start, b';');
        let tree = code[start + 3..end].trim();
        let parts: Vec<&str> = tree.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let Some(package) = parts.first().filter(|first| packages.contains(first)) else { continue };
        for name in &parts[1..] {
            if name.starts_with(char::is_uppercase) {
                names.insert((*name).to_owned(), (*package).to_owned());
            }
        }
    }
    names
}
