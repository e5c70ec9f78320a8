//! Reads a canister's module from a file: Wasm, gzipped Wasm, or Wasm text, told apart by content.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use bedstone_instrument::limits::MODULE_BYTES_MAX;

/// How a gzip file begins.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// The bytes to install: Wasm, or gzip as it is, since the hash of a module is that of the bytes installed.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = path.display();
    let reading = || format!("the module {file} cannot be read, check its path");
    let handle = std::fs::File::open(path).with_context(reading)?;
    let bytes = handle.metadata().with_context(reading)?.len();
    if bytes > MODULE_BYTES_MAX {
        bail!(
            "the module {file} has {bytes} bytes, more than the {MODULE_BYTES_MAX} that a canister may have"
        );
    }
    let mut contents = Vec::new();
    handle.take(MODULE_BYTES_MAX).read_to_end(&mut contents).with_context(reading)?;
    if is_text(&contents) { from_text(path, &contents) } else { Ok(contents) }
}

/// The plain Wasm.
pub fn read_plain(path: &Path) -> anyhow::Result<Vec<u8>> {
    let contents = read(path)?;
    if !contents.starts_with(GZIP) {
        return Ok(contents);
    }
    let file = path.display();
    let mut wasm = Vec::new();
    flate2::read::GzDecoder::new(&contents[..])
        .take(MODULE_BYTES_MAX + 1)
        .read_to_end(&mut wasm)
        .with_context(|| format!("the gzip file {file} is damaged, make it again"))?;
    if wasm.len() as u64 > MODULE_BYTES_MAX {
        bail!("the module in {file} has more than the {MODULE_BYTES_MAX} bytes that a canister may have");
    }
    Ok(wasm)
}

/// Wasm text begins with a parenthesis or a comment; Wasm and gzip never do.
fn is_text(contents: &[u8]) -> bool {
    let contents = contents.strip_prefix("\u{feff}".as_bytes()).unwrap_or(contents);
    matches!(contents.trim_ascii_start().first(), Some(b'(' | b';'))
}

fn from_text(path: &Path, contents: &[u8]) -> anyhow::Result<Vec<u8>> {
    let wasm = wat::parse_bytes(contents).map_err(|error| {
        // The first line says what; a later one says where, as `--> <anon>:line:column`.
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default();
        let place = text.lines().find_map(|line| line.trim_start().strip_prefix("--> ")?.split_once(':'));
        let place = place.map(|(_, place)| format!(":{}", place.trim())).unwrap_or_default();
        anyhow::anyhow!("the Wasm text {}{place} is not valid: {what}", path.display())
    })?;
    Ok(wasm.into_owned())
}
