//! Splits a command into words as a shell does, but expands nothing and runs no shell.

/// Why a command cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordsError {
    /// There is no word in it.
    Empty,
    /// A quotation mark has no partner.
    Unclosed,
    /// A backslash ends it.
    Unfinished,
}

impl WordsError {
    /// The reason in words.
    pub(crate) fn message(self) -> &'static str {
        match self {
            WordsError::Empty => "it is empty",
            WordsError::Unclosed => "a quotation mark is not closed",
            WordsError::Unfinished => "it ends with a backslash",
        }
    }
}

/// Splits at white space. Single quotes keep everything; double quotes keep everything but `\"` and `\\`; a backslash
/// elsewhere keeps the next character.
pub(crate) fn split(command: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = command.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let quoted = word.get_or_insert_default();
                loop {
                    match letters.next().ok_or(WordsError::Unclosed)? {
                        '\'' => break,
                        kept => quoted.push(kept),
                    }
                }
            }
            '"' => double_quoted(&mut letters, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(letters.next().ok_or(WordsError::Unfinished)?),
            space if space.is_whitespace() => words.extend(word.take()),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    if words.is_empty() { Err(WordsError::Empty) } else { Ok(words) }
}

fn double_quoted(letters: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), WordsError> {
    loop {
        match letters.next().ok_or(WordsError::Unclosed)? {
            '"' => return Ok(()),
            '\\' => match letters.next().ok_or(WordsError::Unclosed)? {
                escaped @ ('"' | '\\') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            kept => word.push(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_does() {
        let cases: &[(&str, &[&str])] = &[
            ("pass show backup", &["pass", "show", "backup"]),
            ("  a\t b \n", &["a", "b"]),
            ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
            ("a'b'\"c\"d", &["abcd"]),
            ("a '' b", &["a", "", "b"]),
            (r#"a "b\"c\\d\n""#, &["a", "b\"c\\d\\n"]),
            (r"a\ b \'", &["a b", "'"]),
            (r"'a\b'", &[r"a\b"]),
            ("$HOME `id` *", &["$HOME", "`id`", "*"]),
        ];
        for (command, words) in cases {
            assert_eq!(split(command).unwrap(), *words, "{command}");
        }
    }

    #[test]
    fn refuses_what_is_not_closed() {
        assert_eq!(split("a 'b"), Err(WordsError::Unclosed));
        assert_eq!(split("a \"b"), Err(WordsError::Unclosed));
        assert_eq!(split("a \"b\\"), Err(WordsError::Unclosed));
        assert_eq!(split("a\\"), Err(WordsError::Unfinished));
        assert_eq!(split("  "), Err(WordsError::Empty));
    }
}
