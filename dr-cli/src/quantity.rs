//! Numbers of bytes and lengths of time as people write them.

use std::time::Duration;

/// Reads bytes: `4096`, `512K`, `10M`, `1.5G`, `2T`, also with `iB` or `B` behind; units are powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no number of bytes; write it as in 512K, 10M or 1.5G");
    let plain = text.trim().trim_end_matches(['B', 'b']).trim_end_matches('i');
    let (number, unit) = match plain.char_indices().next_back() {
        Some((at, letter)) if letter.is_ascii_alphabetic() => (&plain[..at], letter.to_ascii_uppercase()),
        _ => (plain, ' '),
    };
    let scale = match unit {
        ' ' => 1.0,
        'K' => 1024.0,
        'M' => 1024.0 * 1024.0,
        'G' => 1024.0 * 1024.0 * 1024.0,
        'T' => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * scale;
    if (0.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Reads a length of time: `90s`, `15m`, `24h`, `14d`, `2w`, or several of them joined as in `1d12h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no length of time; write it as in 90s, 15m, 24h, 14d or 1d12h");
    let mut total: u64 = 0;
    let mut digits = String::new();
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit: u64 = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            'w' => 7 * 24 * 3600,
            _ => return Err(wrong()),
        };
        let number: u64 = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
        total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    let is_whole = digits.is_empty() || (digits == "0" && total == 0);
    if is_whole && !text.is_empty() { Ok(Duration::from_secs(total)) } else { Err(wrong()) }
}

/// Reads a short length of time: as `duration` does, and also `500ms`. It is not 0.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no interval; write it as in 500ms, 5s or 1m");
    let time = match text.strip_suffix("ms") {
        Some(number) => Duration::from_millis(number.parse().map_err(|_| wrong())?),
        None => duration(text).map_err(|_| wrong())?,
    };
    if time.is_zero() { Err(wrong()) } else { Ok(time) }
}

/// Writes a length of time in the largest units that give whole numbers, as `duration` reads it.
pub(crate) fn render_duration(time: Duration) -> String {
    let mut left = time.as_secs();
    let mut text = String::new();
    for (unit, seconds) in [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)] {
        if left >= seconds {
            text.push_str(&format!("{}{unit}", left / seconds));
            left %= seconds;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_people_write_them() {
        for (text, number) in
            [("0", 0), ("4096", 4096), ("1K", 1024), ("1.5G", 3 << 29), ("10MiB", 10 << 20), ("2tb", 2 << 40)]
        {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for text in ["", "x", "-1", "1X", "1e30", "NaN"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_may_be_short() {
        assert_eq!(interval("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(interval("1m"), Ok(Duration::from_secs(60)));
        for text in ["0s", "0ms", "ms", "5", "-1ms"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in ["0s", "90d", "14d", "1d12h", "59s", "1h1s"] {
            assert_eq!(render_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in
            [("0", 0), ("90s", 90), ("15m", 900), ("1d12h", 36 * 3600), ("2w", 14 * 86_400)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "d", "1x", "99999999999999999999d", "1d7"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
