//! Larger modules from ours.

use wasm_encoder::{Encode, Module, RawSection};

/// Ids of sections.
const CUSTOM: u8 = 0;
const FUNCTIONS: u8 = 3;
const CODE: u8 = 10;

/// Appends copies of all functions, and leaves out custom sections.
pub fn repeated(wasm: &[u8], times: usize) -> Vec<u8> {
    let mut module = Module::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        let payload = payload.expect("a valid module");
        let Some((id, range)) = payload.as_section().filter(|(id, _)| *id != CUSTOM) else { continue };
        let data = &wasm[range.clone()];
        if id != FUNCTIONS && id != CODE {
            module.section(&RawSection { id, data });
            continue;
        }
        // A count, then the items.
        let mut reader = wasmparser::BinaryReader::new(data, 0);
        let count = reader.read_var_u32().expect("a valid module");
        let mut section = Vec::new();
        (count * u32::try_from(times).expect("a valid module")).encode(&mut section);
        for _ in 0..times {
            section.extend_from_slice(&data[reader.original_position()..]);
        }
        module.section(&RawSection { id, data: &section });
    }
    module.finish()
}
