//! Times as people write and read them.

use dr_core::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// Which instant a day without a time of day stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DayMeans {
    /// Its first.
    Start,
    /// Its last.
    End,
}

/// Reads `2026-11-20`, `2026-11-20T10:00`, the same with seconds and parts of them, and each with `Z` or an offset;
/// without one it is local time. A blank may stand for the `T`.
pub(crate) fn parse(text: &str, day: DayMeans) -> Option<Timestamp> {
    parse_in(text, day, &TimeZone::system())
}

fn parse_in(text: &str, day: DayMeans, zone: &TimeZone) -> Option<Timestamp> {
    // What follows must look like a date: otherwise "20261120" or a week would be read as one, and an id might be too.
    let bytes = text.as_bytes();
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    if bytes.len() == 10 {
        let date: Date = text.parse().ok()?;
        let first = match day {
            DayMeans::Start => date,
            DayMeans::End => date.tomorrow().ok()?,
        };
        let instant = from_jiff(first.to_zoned(zone.clone()).ok()?.timestamp());
        return Some(match day {
            DayMeans::Start => instant,
            DayMeans::End => Timestamp::from_nanoseconds(instant.as_nanoseconds() - 1),
        });
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(from_jiff(instant));
    }
    let local: DateTime = text.parse().ok()?;
    Some(from_jiff(local.to_zoned(zone.clone()).ok()?.timestamp()))
}

/// RFC 3339 in UTC with nanoseconds; seconds since 1970 after an `@` for a year that RFC 3339 does not know.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    match to_jiff(time) {
        Some(instant) => instant.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        None => beyond(time),
    }
}

/// Local time to the second, for people.
pub(crate) fn local(time: Timestamp, zone: &TimeZone) -> String {
    match to_jiff(time) {
        Some(instant) => instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => beyond(time),
    }
}

fn beyond(time: Timestamp) -> String {
    format!("@{}.{:09}", time.seconds, time.nanoseconds)
}

fn from_jiff(instant: jiff::Timestamp) -> Timestamp {
    Timestamp::from_nanoseconds(instant.as_nanosecond())
}

fn to_jiff(time: Timestamp) -> Option<jiff::Timestamp> {
    let instant = jiff::Timestamp::from_nanosecond(time.as_nanoseconds()).ok()?;
    (0..=9999).contains(&instant.to_zoned(TimeZone::UTC).year()).then_some(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, day: DayMeans) -> Option<String> {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        parse_in(text, day, &zone).map(rfc3339)
    }

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("2026-11-20T10:00", "2026-11-20T08:00:00.000000000Z"),
            ("2026-11-20 10:00:30", "2026-11-20T08:00:30.000000000Z"),
            ("2026-11-20T10:00:30.25", "2026-11-20T08:00:30.250000000Z"),
            ("2026-11-20T10:00Z", "2026-11-20T10:00:00.000000000Z"),
            ("2026-11-20T10:00:00+05:30", "2026-11-20T04:30:00.000000000Z"),
            ("2026-11-20", "2026-11-19T22:00:00.000000000Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000000Z"),
        ];
        for (text, instant) in cases {
            assert_eq!(read(text, DayMeans::Start).as_deref(), Some(instant), "{text}");
        }
    }

    #[test]
    fn a_day_ends_with_its_last_nanosecond() {
        assert_eq!(read("2026-11-20", DayMeans::End).as_deref(), Some("2026-11-20T21:59:59.999999999Z"));
        assert_eq!(read("2026-11-20T10:00Z", DayMeans::End), read("2026-11-20T10:00Z", DayMeans::Start));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "latest",
            "20261120",
            "2026-11-31",
            "2026-11-20T25:00",
            "2026-11-20T10:00:etc",
            "2026-11-20x",
        ] {
            assert_eq!(read(text, DayMeans::Start), None, "{text}");
        }
    }

    #[test]
    fn years_beyond_the_calendar_are_seconds() {
        let far = Timestamp { seconds: i64::MAX, nanoseconds: 7 };
        assert_eq!(rfc3339(far), format!("@{}.000000007", i64::MAX));
        assert_eq!(local(far, &TimeZone::UTC), format!("@{}.000000007", i64::MAX));
        assert_eq!(local(Timestamp::default(), &TimeZone::UTC), "1970-01-01 00:00:00");
    }
}
