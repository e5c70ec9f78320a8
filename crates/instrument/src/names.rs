//! Keeps the name section in step: names for the appended functions.
//!
//! Nothing of the canister's is renumbered, so its own names stay right; the new ones have the highest indices and go
//! at the end of the function-name map. A name section that does not parse is kept as it is.

use wasm_encoder::{NameMap, NameSection};
use wasmparser::{Name, NameSectionReader};

use crate::abi::INJECTED;
use crate::encode::Parts;

/// The name section's payload with the appended functions' names, or `None` if it does not parse.
pub(crate) fn with_added(data: &[u8], parts: &Parts<'_, '_>) -> Option<Vec<u8>> {
    let reader = NameSectionReader::new(wasmparser::BinaryReader::new(data, 0));
    let mut section = NameSection::new();
    let mut functions = NameMap::new();
    let mut module = None;
    let mut rest = Vec::new();
    for subsection in reader {
        match subsection.ok()? {
            Name::Module { name, .. } => module = Some(name),
            Name::Function(map) => {
                for naming in map {
                    let naming = naming.ok()?;
                    functions.append(naming.index, naming.name);
                }
            }
            Name::Unknown { .. } => return None,
            other => rest.push(other),
        }
    }
    let first = parts.info.import_count() + u32::try_from(parts.info.functions.len()).ok()?;
    for (index, added) in (first..).zip(&parts.added) {
        functions.append(index, &format!("{INJECTED}{}", added.name));
    }
    if let Some(name) = module {
        section.module(name);
    }
    section.functions(&functions);
    copy_rest(&mut section, rest)?;
    let mut bytes = Vec::new();
    wasm_encoder::Encode::encode(&section, &mut bytes);
    // `Encode` writes what follows the section id: total size, the name's length and name, then the payload.
    let mut reader = wasmparser::BinaryReader::new(&bytes, 0);
    reader.read_var_u32().ok()?;
    reader.read_string().ok()?;
    let payload = bytes.split_off(reader.original_position());
    Some(payload)
}

/// Copies the maps that need no change. Locals are left out: their indices move when the counter is threaded.
fn copy_rest(section: &mut NameSection, rest: Vec<Name<'_>>) -> Option<()> {
    for name in rest {
        let copy = |map: wasmparser::NameMap<'_>| {
            let mut names = NameMap::new();
            for naming in map {
                let naming = naming.ok()?;
                names.append(naming.index, naming.name);
            }
            Some(names)
        };
        match name {
            Name::Type(map) => section.types(&copy(map)?),
            Name::Table(map) => section.tables(&copy(map)?),
            Name::Memory(map) => section.memories(&copy(map)?),
            Name::Global(map) => section.globals(&copy(map)?),
            Name::Element(map) => section.elements(&copy(map)?),
            Name::Data(map) => section.data(&copy(map)?),
            _ => {}
        }
    }
    Some(())
}
