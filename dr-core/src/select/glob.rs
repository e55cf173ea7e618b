//! One pattern's wildcards, as git understands them: what `wildmatch.c` does with `WM_PATHNAME`, byte by byte.

use std::borrow::Cow;

use super::Case;

/// A parsed pattern. It matches a whole text, never a part of one.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    /// The bytes before the first wildcard: most texts are told apart by these.
    prefix: Box<[u8]>,
    rest: Box<[Token]>,
    /// The bytes behind the last wildcard, which stand in `rest` too: so are most of the others.
    suffix: Box<[u8]>,
    /// The last of these.
    last: Option<u8>,
}

#[derive(Debug, Clone)]
pub(super) enum Token {
    /// This byte.
    Byte(u8),
    /// Any byte but `/`.
    Any,
    /// One of these bytes, never `/`.
    Class(Box<[bool; 256]>),
    /// A run of bytes without `/`, also an empty one.
    Star,
    /// Any number of whole components, each with its `/`. Stands at the beginning or behind a `/`.
    Components,
    /// All that is left.
    Rest,
}

impl Glob {
    /// Parses a pattern without the `/` around it; says why where it can never match.
    pub(super) fn parse(pattern: &[u8], case: Case) -> Result<Glob, &'static str> {
        let mut tokens = Vec::with_capacity(pattern.len());
        let mut at = 0;
        while let Some(byte) = pattern.get(at) {
            at += 1;
            match byte {
                b'\\' => {
                    let byte = pattern.get(at).ok_or("ends in a single backslash")?;
                    tokens.push(Token::Byte(*byte));
                    at += 1;
                }
                b'?' => tokens.push(Token::Any),
                b'*' => at = push_stars(&mut tokens, pattern, at),
                b'[' => {
                    let (class, end) = parse_class(pattern, at, case)?;
                    tokens.push(Token::Class(class));
                    at = end;
                }
                byte => tokens.push(Token::Byte(*byte)),
            }
        }
        if case == Case::Insensitive {
            tokens = fold_tokens(tokens);
        }
        let wild = tokens.iter().position(|token| !matches!(token, Token::Byte(_))).unwrap_or(tokens.len());
        let rest = tokens.split_off(wild);
        let end = rest.iter().rposition(|token| !matches!(token, Token::Byte(_))).map_or(0, |last| last + 1);
        let suffix = literal(&rest[end..]);
        let last = suffix.last().copied();
        Ok(Glob { prefix: literal(&tokens).into(), rest: rest.into(), suffix: suffix.into(), last })
    }

    /// Its tokens, one after the other.
    pub(super) fn into_tokens(self) -> Vec<Token> {
        self.prefix.iter().map(|byte| Token::Byte(*byte)).chain(self.rest).collect()
    }

    /// The bytes before the first wildcard.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What alone it matches, where it has no wildcards.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        self.rest.is_empty().then_some(&*self.prefix)
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match text.strip_prefix(&*self.prefix) {
            Some(text) => {
                // One byte tells most texts apart, without a look at where the suffix lies.
                (self.last.is_none() || self.last == text.last().copied())
                    && text.ends_with(&self.suffix)
                    && matches_tokens(&self.rest, text)
            }
            None => false,
        }
    }

    /// Whether it begins with `**` and says nothing of where.
    pub(super) fn begins_anywhere(&self) -> bool {
        self.prefix.is_empty() && matches!(self.rest.first(), Some(Token::Components | Token::Rest))
    }

    /// Whether some path below the directory may match.
    pub(super) fn may_match_below(&self, directory: &[u8]) -> bool {
        let above = [directory, b"/"].concat();
        let Some(text) = above.strip_prefix(&*self.prefix) else { return self.prefix.starts_with(&above) };
        let mut is_boundary = self.prefix.last().is_none_or(|byte| *byte == b'/');
        let mut alive = vec![false; self.rest.len() + 1];
        alive[0] = true;
        self.pass_empty(&mut alive, is_boundary);
        for byte in text {
            is_boundary = *byte == b'/';
            let mut next = vec![false; alive.len()];
            for (at, token) in self.rest.iter().enumerate().filter(|(at, _)| alive[*at]) {
                match token {
                    Token::Star => next[at] |= *byte != b'/',
                    Token::Components | Token::Rest => next[at] = true,
                    one => next[at + 1] |= one.takes(*byte),
                }
            }
            alive = next;
            self.pass_empty(&mut alive, is_boundary);
        }
        // What has come to its end matches nothing longer.
        alive.pop();
        alive.contains(&true)
    }

    /// Passes on from what may match nothing at all.
    fn pass_empty(&self, alive: &mut [bool], is_boundary: bool) {
        for (at, token) in self.rest.iter().enumerate() {
            let is_passed = match token {
                Token::Star => true,
                Token::Components => is_boundary,
                _ => false,
            };
            alive[at + 1] |= alive[at] && is_passed;
        }
    }
}

impl Token {
    /// Whether it is this one byte.
    pub(super) fn takes(&self, byte: u8) -> bool {
        match self {
            Token::Byte(own) => *own == byte,
            Token::Any => byte != b'/',
            Token::Class(class) => class[usize::from(byte)],
            Token::Star | Token::Components | Token::Rest => false,
        }
    }
}

/// Going back to the nearest wildcard is enough: what an earlier one could take instead, the nearest can as well, since
/// a star never passes a `/` and `**` takes whole components. So no pattern takes exponential time.
fn matches_tokens(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    // The token behind the wildcard, and where in the text its share ends.
    let mut star: Option<(usize, usize)> = None;
    let mut components: Option<(usize, usize)> = None;
    loop {
        let is_taken = match tokens.get(token) {
            Some(Token::Rest) => return true,
            None if at == text.len() => return true,
            None => false,
            Some(Token::Star) => {
                token += 1;
                star = Some((token, at));
                continue;
            }
            Some(Token::Components) => {
                token += 1;
                (star, components) = (None, Some((token, at)));
                continue;
            }
            Some(one) => text.get(at).is_some_and(|byte| one.takes(*byte)),
        };
        if is_taken {
            (token, at) = (token + 1, at + 1);
            continue;
        }
        if let Some((behind, end)) = star.filter(|(_, end)| text.get(*end).is_some_and(|byte| *byte != b'/'))
        {
            (token, at) = (behind, end + 1);
            star = Some((token, at));
            continue;
        }
        let Some((behind, end)) = components else { return false };
        let Some(bytes) = text[end..].iter().position(|byte| *byte == b'/') else { return false };
        (token, at) = (behind, end + bytes + 1);
        (star, components) = (None, Some((token, at)));
    }
}

/// Takes a run of stars, of which the first is before `at`; returns where it ends.
fn push_stars(tokens: &mut Vec<Token>, pattern: &[u8], mut at: usize) -> usize {
    let is_first = at == 1 || pattern[at - 2] == b'/';
    let start = at;
    while pattern.get(at) == Some(&b'*') {
        at += 1;
    }
    let slash = match &pattern[at..] {
        [b'/', ..] => 1,
        [b'\\', b'/', ..] => 2,
        _ => 0,
    };
    match (at > start && is_first, at == pattern.len()) {
        (true, true) => tokens.push(Token::Rest),
        (true, false) if slash > 0 => {
            tokens.push(Token::Components);
            return at + slash;
        }
        _ => tokens.push(Token::Star),
    }
    at
}

/// Takes a class, of which the `[` is before `at`; returns it and where it ends.
fn parse_class(pattern: &[u8], mut at: usize, case: Case) -> Result<(Box<[bool; 256]>, usize), &'static str> {
    const UNCLOSED: &str = "has a '[' without its ']' (write '\\[' for the character itself)";
    let mut class = Box::new([false; 256]);
    let is_negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(is_negated);
    // The first is never the end: `[]x]` holds a bracket.
    let start = at;
    let mut before: Option<u8> = None;
    loop {
        let byte = *pattern.get(at).ok_or(UNCLOSED)?;
        at += 1;
        let is_range = byte == b'-' && before.is_some() && pattern.get(at).is_some_and(|next| *next != b']');
        match byte {
            b']' if at - 1 > start => break,
            b'\\' => {
                let byte = *pattern.get(at).ok_or(UNCLOSED)?;
                at += 1;
                class[usize::from(byte)] = true;
                before = Some(byte);
            }
            b'-' if is_range => {
                at += usize::from(pattern.get(at) == Some(&b'\\'));
                let last = *pattern.get(at).ok_or(UNCLOSED)?;
                at += 1;
                for byte in before.take().unwrap_or(last)..=last {
                    class[usize::from(byte)] = true;
                }
            }
            b'[' if pattern.get(at) == Some(&b':') => {
                let end = at + 1 + pattern[at + 1..].iter().position(|byte| *byte == b']').ok_or(UNCLOSED)?;
                match pattern[at + 1..end].strip_suffix(b":") {
                    Some(name) => {
                        add_named(&mut class, name)?;
                        at = end + 1;
                        before = None;
                    }
                    None => {
                        class[usize::from(b'[')] = true;
                        before = Some(b'[');
                    }
                }
            }
            byte => {
                class[usize::from(byte)] = true;
                before = Some(byte);
            }
        }
    }
    finish_class(&mut class, is_negated, case);
    Ok((class, at))
}

fn add_named(class: &mut [bool; 256], name: &[u8]) -> Result<(), &'static str> {
    let holds: fn(&u8) -> bool = match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| matches!(byte, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return Err("names a class that there is not (as in '[[:alpha:]]')"),
    };
    for byte in 0..=u8::MAX {
        class[usize::from(byte)] |= holds(&byte);
    }
    Ok(())
}

fn finish_class(class: &mut [bool; 256], is_negated: bool, case: Case) {
    if case == Case::Insensitive {
        // Texts are folded before they are compared.
        for upper in b'A'..=b'Z' {
            class[usize::from(upper.to_ascii_lowercase())] |= class[usize::from(upper)];
        }
    }
    if is_negated {
        class.iter_mut().for_each(|holds| *holds = !*holds);
    }
    class[usize::from(b'/')] = false;
}

/// The bytes of leading tokens that are bytes.
fn literal(tokens: &[Token]) -> Vec<u8> {
    let byte = |token: &Token| match token {
        Token::Byte(byte) => Some(*byte),
        _ => None,
    };
    tokens.iter().map_while(byte).collect()
}

fn fold_tokens(tokens: Vec<Token>) -> Vec<Token> {
    let mut folded = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.as_slice();
    while let Some(first) = tokens.first() {
        let bytes = literal(tokens);
        if bytes.is_empty() {
            folded.push(first.clone());
            tokens = &tokens[1..];
        } else {
            folded.extend(fold(&bytes).iter().map(|byte| Token::Byte(*byte)));
            tokens = &tokens[bytes.len()..];
        }
    }
    folded
}

/// Makes a text the same as all others that differ from it in case only. What is no UTF-8 stays as it is.
pub(super) fn fold(text: &[u8]) -> Cow<'_, [u8]> {
    if text.iter().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(text);
    }
    let mut folded = Vec::with_capacity(text.len());
    for part in text.utf8_chunks() {
        // Character by character: as a whole, a text's last sigma would become another letter than one in its middle.
        for character in part.valid().chars().flat_map(char::to_lowercase) {
            folded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        folded.extend_from_slice(part.invalid());
    }
    Cow::Owned(folded)
}
