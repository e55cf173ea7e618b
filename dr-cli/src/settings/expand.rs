//! Variables in the text of a profile: `${NAME}`, `${NAME:-otherwise}`, and `$${` for a plain `${`.

/// Puts variables' values into a text, and the home directory for a `~` that it begins with. Nothing that a variable
/// holds is looked at again.
pub(crate) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    if let Some(below) = text.strip_prefix("~/") {
        expanded.push_str(&variable("HOME").ok_or("'~' needs the variable HOME, which is not set")?);
        expanded.push('/');
        rest = below;
    }
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let end = after.find('}').ok_or_else(|| format!("'${{' has no '}}' in '{text}'"))?;
        let (name, otherwise) = match after[..end].split_once(":-") {
            Some((name, otherwise)) => (name, Some(otherwise)),
            None => (&after[..end], None),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
            return Err(format!("'{name}' is no name of a variable; write a plain '${{' as '$${{'"));
        }
        let value = variable(name).filter(|value| !value.is_empty()).or_else(|| otherwise.map(str::to_owned));
        expanded.push_str(&value.ok_or_else(|| format!("the variable {name} is not set"))?);
        rest = &after[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/home/me".to_owned()),
            "A" => Some("x${B}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in_once() {
        for (text, expanded) in [
            ("plain $A {A}", "plain $A {A}"),
            ("${A}/${A}", "x${B}/x${B}"),
            ("~/x~/y", "/home/me/x~/y"),
            ("~", "~"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("${NONE:-a b}", "a b"),
            ("${EMPTY:-}", ""),
            ("ü${A}ü", "üx${B}ü"),
        ] {
            assert_eq!(expand(text, &known).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_refused() {
        for text in ["${NONE}", "${EMPTY}", "${A", "${}", "${A B}", "${NONE:=x}"] {
            assert!(expand(text, &known).is_err(), "{text}");
        }
        assert!(expand("~/x", &|_| None).is_err());
    }
}
