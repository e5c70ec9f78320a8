//! Keeps the name section in step: names for the appended functions.
//!
//! Nothing of the canister's is renumbered, so its own names stay right and their maps are copied as they stand; the new
//! functions have the highest indices and go at the end of the function-name map. Names of locals and labels are left
//! out: a threaded counter takes the place of a local and puts a block around the body.
//!
//! A name section that does not parse is kept as it is.

use wasm_encoder::Encode;
use wasmparser::BinaryReader;

use crate::abi::INJECTED;
use crate::encode::Parts;

/// Subsections, as the specification and its extended-name proposal number them.
const FUNCTIONS: u8 = 1;
const LOCALS: u8 = 2;
const LABELS: u8 = 3;
const DATA: u8 = 9;

/// The name section's payload with the appended functions' names, or `None` if it does not parse.
pub(crate) fn with_added(data: &[u8], parts: &Parts<'_, '_>) -> Option<Vec<u8>> {
    let mut section = Vec::with_capacity(data.len() + 32 * parts.added.len());
    let mut reader = BinaryReader::new(data, 0);
    let mut added = false;
    while !reader.eof() {
        let id = reader.read_u8().ok()?;
        let size = reader.read_var_u32().ok()?;
        let payload = reader.read_bytes(usize::try_from(size).ok()?).ok()?;
        // Subsections come in the order of their numbers.
        if id > FUNCTIONS && !added {
            function_names(&mut section, &[0], parts)?;
            added = true;
        }
        match id {
            FUNCTIONS if added => return None,
            FUNCTIONS => {
                function_names(&mut section, payload, parts)?;
                added = true;
            }
            LOCALS | LABELS => {}
            _ if id > DATA => return None,
            _ => subsection(&mut section, id, payload),
        }
    }
    if !added {
        function_names(&mut section, &[0], parts)?;
    }
    Some(section)
}

/// The map of function names, as found in `payload`, with those of the appended functions.
fn function_names(section: &mut Vec<u8>, payload: &[u8], parts: &Parts<'_, '_>) -> Option<()> {
    let mut reader = BinaryReader::new(payload, 0);
    let count = reader.read_var_u32().ok()?;
    let own = &payload[reader.original_position()..];
    let first = parts.info.import_count() + u32::try_from(parts.info.functions.len()).ok()?;
    let mut map = Vec::with_capacity(payload.len() + 32 * parts.added.len());
    count.checked_add(u32::try_from(parts.added.len()).ok()?)?.encode(&mut map);
    map.extend_from_slice(own);
    for (index, added) in (first..).zip(&parts.added) {
        index.encode(&mut map);
        (INJECTED.len() + added.name.len()).encode(&mut map);
        map.extend_from_slice(INJECTED.as_bytes());
        map.extend_from_slice(added.name.as_bytes());
    }
    subsection(section, FUNCTIONS, &map);
    Some(())
}

fn subsection(section: &mut Vec<u8>, id: u8, payload: &[u8]) {
    section.push(id);
    payload.len().encode(section);
    section.extend_from_slice(payload);
}
