//! What is written to stdout and stderr, and how numbers look.
//!
//! - A reader that stops reading (`| head`) is not an error.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use anyhow::Context;
use bedstone::{Receipt, Reject};
use serde_json::{Map, Value, json};

/// Prints a result: text and a line end.
pub fn print(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("the result cannot be written to stdout"),
    }
}

/// Prints a remark that is not the result.
pub fn note(text: impl Display) {
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints the lines that a canister printed. The line of a trap is left to the error that tells of it.
pub fn canister_lines(receipt: &Receipt) {
    let trapped = receipt.reply.is_err();
    for line in receipt.log.iter().filter(|line| !(trapped && line.starts_with("[TRAP]"))) {
        note(line);
    }
}

/// What a canister, or the IC's rules, refused.
#[derive(Debug)]
struct Rejected {
    /// In words, e.g. `insert of map gave no reply`.
    what: String,
    reject: Reject,
}

impl Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, reject } = self;
        write!(f, "{what} (reject code {}, {}): {}", reject.code, reject.error_code_text(), reject.message)
    }
}

impl std::error::Error for Rejected {}

/// An error that says what failed, the codes, and the reject's text.
pub fn rejected(what: impl Into<String>, reject: Reject) -> anyhow::Error {
    Rejected { what: what.into(), reject }.into()
}

/// Prints why a command failed. A reject keeps its lines, a backtrace being among them; all else is one line.
pub fn error(error: &anyhow::Error) {
    let text = format!("{error:#}");
    if error.is::<Rejected>() {
        note(format_args!("error: {text}"));
    } else {
        note(format_args!("error: {}", one_line(&text)));
    }
}

/// The text with all white space as single spaces.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a message cost, as members of a JSON object.
pub fn costs(receipt: &Receipt) -> Map<String, Value> {
    let costs = json!({
        "instructions": receipt.instructions,
        "heap_pages_dirtied": receipt.heap_pages_dirtied,
        "stable_pages_read": receipt.stable_pages_read,
        "stable_pages_dirtied": receipt.stable_pages_dirtied,
        "wall_ns": u64::try_from(receipt.wall.as_nanos()).unwrap_or(u64::MAX),
    });
    match costs {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A number with a comma between groups of three digits.
pub fn grouped(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as the IC's tools show it, e.g. `2026-01-31T23:59:59.000000001Z`.
pub fn timestamp(nanos: u64) -> String {
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is the last; 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0_u64), "0");
        assert_eq!(grouped(999_u64), "999");
        assert_eq!(grouped(1_000_u64), "1,000");
        assert_eq!(grouped(12_345_678_u64), "12,345,678");
    }

    #[test]
    fn times_are_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_399_000_000_001), "2000-02-28T23:59:59.000000001Z");
        assert_eq!(timestamp(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(timestamp(1_767_225_600_000_000_000), "2026-01-01T00:00:00.000000000Z");
    }
}
