//! Times as HTTP writes them.

use dr_core::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// A time to the second, in GMT; none for a year that HTTP cannot write. Source: RFC 9110, section 5.6.7.
pub(super) fn http(time: Timestamp) -> Option<String> {
    let instant = jiff::Timestamp::from_second(time.seconds).ok()?;
    DateTimePrinter::new().timestamp_to_rfc9110_string(&instant).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_http() {
        let time = Timestamp { seconds: 784_111_777, nanoseconds: 9 };
        assert_eq!(http(time).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(http(Timestamp { seconds: i64::MAX, nanoseconds: 0 }), None);
    }
}
