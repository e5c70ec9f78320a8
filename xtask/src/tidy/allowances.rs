//! What is larger than it should be, with the size at which it stops growing. Data only.
//!
//! - An entry may be lowered or removed by anybody; raising one needs a reason in the commit.
//! - An entry that allows nothing any more is itself a finding.

/// A file that may have more than 700 lines.
#[derive(Debug)]
pub struct LongFile<'a> {
    /// Its path from the root.
    pub path: &'a str,
    /// The lines it has; it may have fewer.
    pub lines: usize,
}

/// A function that may have more than 100 lines.
#[derive(Debug)]
pub struct LongFunction<'a> {
    /// Path of its file from the root.
    pub path: &'a str,
    /// Its name, without path.
    pub name: &'a str,
    /// The lines it has; it may have fewer.
    pub lines: usize,
}

/// The large things of a tree.
#[derive(Debug)]
pub struct Allowances<'a> {
    /// Long files.
    pub files: &'a [LongFile<'a>],
    /// Long functions.
    pub functions: &'a [LongFunction<'a>],
}

impl Allowances<'static> {
    /// The large things of this workspace.
    pub const OURS: Allowances<'static> = Allowances { files: &[], functions: &[] };
}
