//! The argument of a call or an installation, from the command line or a file to Candid bytes.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bedstone::Interface;
use clap::ValueEnum;

use crate::usage;

/// How an argument is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ArgsFormat {
    /// Candid text, e.g. `(1, "two")`
    Candid,
    /// The argument's bytes as hexadecimal digits
    Hex,
    /// The argument's bytes as they are, from a file
    Bin,
}

/// An argument as given.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// On the command line.
    pub text: Option<&'a str>,
    /// In a file.
    pub file: Option<&'a Path>,
    /// How it is written.
    pub format: ArgsFormat,
}

/// An argument as read, before its types are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// Nothing was given.
    Absent,
    /// Candid text.
    Text(String),
    /// The bytes to send.
    Bytes(Vec<u8>),
}

/// Whose argument it is.
#[derive(Debug, Clone, Copy)]
pub enum Receiver<'a> {
    /// A method.
    Method(&'a str),
    /// `canister_init`.
    Init,
    /// `canister_post_upgrade`, which need not take what `canister_init` takes.
    PostUpgrade,
}

impl Given<'_> {
    /// Reads the argument; nothing is encoded yet.
    pub fn read(&self) -> anyhow::Result<Argument> {
        let bytes = match (self.text, self.file) {
            (None, None) => return Ok(Argument::Absent),
            (Some(_), None) if self.format == ArgsFormat::Bin => {
                return Err(usage("`--args-format bin` takes the argument from a file: give --args-file"));
            }
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(file)) => std::fs::read(file).with_context(|| reading(file))?,
        };
        if self.format == ArgsFormat::Bin {
            return Ok(Argument::Bytes(bytes));
        }
        let Ok(text) = String::from_utf8(bytes) else {
            let file = self.file.map(Path::display).expect("the command line is text");
            bail!("the argument in {file} is not text; for bytes as they are give --args-format bin");
        };
        match self.format {
            ArgsFormat::Hex => from_hex(&text).map(Argument::Bytes),
            _ => Ok(Argument::Text(text)),
        }
    }
}

fn reading(file: &Path) -> String {
    format!("the argument file {} cannot be read, check its path", PathBuf::from(file).display())
}

impl Argument {
    /// The Candid bytes, with the types of the interface if there is one.
    pub fn encode(&self, interface: Option<&Interface>, receiver: Receiver<'_>) -> anyhow::Result<Vec<u8>> {
        let text = match (self, receiver) {
            (Self::Bytes(bytes), _) => return Ok(bytes.clone()),
            (Self::Text(text), _) => text,
            (Self::Absent, Receiver::PostUpgrade) => return Ok(Interface::encode_untyped("()")?),
            (Self::Absent, _) => "()",
        };
        Ok(match (interface, receiver) {
            (None, _) => Interface::encode_untyped(text),
            (Some(interface), Receiver::Method(method)) => interface.encode(method, text),
            (Some(interface), Receiver::Init | Receiver::PostUpgrade) => interface.encode_init(text),
        }?)
    }
}

/// Bytes from hexadecimal digits; white space between them is skipped.
fn from_hex(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut digits = Vec::new();
    for (index, character) in text.chars().enumerate().filter(|(_, character)| !character.is_whitespace()) {
        let Some(digit) = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok()) else {
            bail!("the argument has {character:?} at character {}, which is no hexadecimal digit", index + 1);
        };
        digits.push(digit);
    }
    if digits.len() % 2 != 0 {
        bail!("the argument has {} hexadecimal digits; a byte has two", digits.len());
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_pairs() {
        assert_eq!(from_hex("4449 44\n4c0000").unwrap(), b"DIDL\0\0");
        assert_eq!(from_hex("").unwrap(), b"");
        assert!(from_hex("4g").unwrap_err().to_string().contains("'g' at character 2"));
        assert!(from_hex("444").unwrap_err().to_string().contains("3 hexadecimal digits"));
    }
}
