//! Tells a monitor of a run: that it began, and how it ended. Whoever hears nothing knows that there was none.

use std::time::Duration;

use serde::Serialize;

use crate::render::json::SCHEMA;

/// How long a monitor may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the end is told until it is heard, and how long is waited in between.
const ATTEMPTS_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Moment {
    /// A run begins.
    Start,
    /// It was a success.
    Success,
    /// It was not.
    Fail,
}

/// The message.
#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) message_type: &'static str,
    pub(crate) schema: u32,
    pub(crate) moment: Moment,
    pub(crate) command: &'a str,
    pub(crate) profile: &'a str,
    pub(crate) host: &'a str,
    pub(crate) exit_code: Option<u8>,
    pub(crate) error_code: Option<&'a str>,
    pub(crate) error: Option<&'a str>,
    pub(crate) seconds: f64,
    /// What the command says at its end.
    pub(crate) summary: Option<&'a serde_json::Value>,
}

impl<'a> Message<'a> {
    /// A message about a command that nothing else is known of.
    pub(crate) fn new(moment: Moment, command: &'a str, profile: &'a str, host: &'a str) -> Message<'a> {
        Message {
            message_type: "ping",
            schema: SCHEMA,
            moment,
            command,
            profile,
            host,
            exit_code: None,
            error_code: None,
            error: None,
            seconds: 0.0,
            summary: None,
        }
    }
}

/// Sends a message to the address for its moment.
pub(crate) fn send(url: &str, message: &Message<'_>) -> Result<(), String> {
    let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    let address = address(url, message.moment);
    // The beginning is told once: no backup waits for a monitor that does not answer.
    let attempts = if message.moment == Moment::Start { 1 } else { ATTEMPTS_MAX };
    let mut last = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            std::thread::sleep(PAUSE);
        }
        match dr_store::post_json(&address, body.clone(), DEADLINE) {
            Ok(()) => return Ok(()),
            Err(error) => {
                let is_worth_another = error.kind() == dr_store::StoreErrorKind::Unavailable;
                last = whole(&error);
                if !is_worth_another {
                    break;
                }
            }
        }
    }
    Err(last)
}

/// An error with its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(known) = cause {
        let said = known.to_string();
        // Some errors say what their cause says.
        if !text.ends_with(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = known.source();
    }
    text
}

/// The address for a moment: `/start` and `/fail` stand behind the path, before what the URL asks.
fn address(url: &str, moment: Moment) -> String {
    let (path, query) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let end = match moment {
        Moment::Start => "/start",
        Moment::Success => return url.to_owned(),
        Moment::Fail => "/fail",
    };
    format!("{}{end}{query}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_addresses() {
        let of = |url| [Moment::Start, Moment::Success, Moment::Fail].map(|moment| address(url, moment));
        assert_eq!(of("https://h/u"), ["https://h/u/start", "https://h/u", "https://h/u/fail"]);
        assert_eq!(
            of("https://h/u/?a=b"),
            ["https://h/u/start?a=b", "https://h/u/?a=b", "https://h/u/fail?a=b"]
        );
    }
}
