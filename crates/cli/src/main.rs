//! The `bedstone` command.
#![forbid(unsafe_code)]

fn main() {}
