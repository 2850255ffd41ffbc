//! How a duration is written in the configuration: `900ms`, `1m 30s`, `0s`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Longer than any limit here can sensibly be; keeps sums on the monotonic clock from overflowing.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Text)
}

pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a duration such as \"900ms\" or \"1m 30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(E::custom)
    }
}

fn parse(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration > LONGEST => Err("longer than a day".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!(
            "not a duration such as \"900ms\" or \"1m 30s\": {error}"
        )),
    }
}

/// A time limit, as an argument gives it.
///
/// # Errors
/// What is wrong with it; nothing can be done in no time.
pub fn time_limit(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it cannot be 0".to_owned()),
        limit => Ok(limit),
    }
}
