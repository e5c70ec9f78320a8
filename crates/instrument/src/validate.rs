//! The IC's rules for modules, on top of Wasm's own.
//!
//! Order, as on the IC: code section size, Wasm validation, imports (both already checked by `parse`, except for
//! validation), exports, data segments, globals and functions, memories and tables, function bodies, metadata.
//! The bodies are read once: Wasm validation, the IC's limits and the rewriting share the walk, and a body that breaks a
//! limit is reported when its turn comes.
//!
//! Invariants:
//! - Exactly the features that the IC has on are accepted; more memories than one only on request.
//! - After `Ok`, every index in the module is in range, so later passes may index without a check.

mod body;

pub(crate) use body::Seen;

use std::collections::HashSet;

use wasmparser::{
    FuncToValidate, FuncType, FuncValidatorAllocations, FunctionBody, Parser, Payload, ValType, ValidPayload,
    Validator, ValidatorResources, WasmFeatures,
};

use crate::entry_points::{EntryPoints, ExportName, MetadataSection, Visibility};
use crate::error::Error;
use crate::info::{DataSegment, Export, ExportKind, ModuleInfo};
use crate::limits;
use crate::parse::{check_code_size, wrong_type};
use crate::walk;

/// Names that the IC's own instrumentation exports.
const RESERVED_EXPORTS: [&str; 6] = [
    "canister counter_instructions",
    "canister counter_dirty_pages",
    "canister counter_accessed_pages",
    "canister_start",
    "stable_memory",
    "stable_bytemap_memory",
];

/// A function body that is to be validated: all sections before the code are valid.
pub(crate) struct Body<'b, 'm> {
    pub function: FuncToValidate<ValidatorResources>,
    pub code: &'b FunctionBody<'m>,
    /// Counts defined functions.
    pub index: usize,
    /// Room that the next body uses again.
    pub allocations: &'b mut FuncValidatorAllocations,
}

/// Checks a parsed module against all rules. `allow_multi_memory` admits several memories, which the IC refuses.
///
/// Each function body goes to `on_body`, which has to validate it and may use it, unless what stands around the code breaks
/// a rule of the IC's. Its outer error says that the body is not valid Wasm; the inner one, that it breaks a rule of the IC's.
///
/// # Errors
/// The first rule that is broken, in the IC's order.
pub(crate) fn validate(
    info: &ModuleInfo<'_>,
    allow_multi_memory: bool,
    mut on_body: impl FnMut(Body<'_, '_>) -> Result<Option<Error>, Error>,
) -> Result<(EntryPoints, Vec<MetadataSection>), Error> {
    // What the rules say of the sections around the code is reported after Wasm's own faults, but known before the
    // bodies are read: it decides whether they are read for more than their faults.
    let mut around: Option<Result<EntryPoints, Error>> = None;
    let body_fault = validate_wasm(info.bytes, features(allow_multi_memory), |body| {
        let around = around.get_or_insert_with(|| check_around(info));
        if around.is_ok() { on_body(body) } else { validate_body(body) }
    })?;
    let entry_points = around.unwrap_or_else(|| check_around(info))?;
    match body_fault {
        Some(fault) => Err(fault),
        None => Ok((entry_points, metadata(info)?)),
    }
}

/// The rules for everything but bodies and custom sections, in the IC's order.
fn check_around(info: &ModuleInfo<'_>) -> Result<EntryPoints, Error> {
    let entry_points = check_exports(info)?;
    info.data.iter().try_for_each(|segment| check_data_segment(segment, info))?;
    check_globals(info)?;
    check_memories(info)?;
    check_tables(info)?;
    Ok(entry_points)
}

/// The Wasm features that the IC has on.
pub(crate) fn features(allow_multi_memory: bool) -> WasmFeatures {
    let mut features = WasmFeatures::empty()
        | WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::REFERENCE_TYPES
        | WasmFeatures::GC_TYPES // `externref`, which belongs to reference types
        | WasmFeatures::MULTI_VALUE
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::SIMD
        | WasmFeatures::TAIL_CALL
        | WasmFeatures::FLOATS
        | WasmFeatures::MEMORY64;
    features.set(WasmFeatures::MULTI_MEMORY, allow_multi_memory);
    features
}

/// A validator for rewritten modules, which have several memories.
pub(crate) fn features_of_output() -> Validator {
    Validator::new_with_features(features(true))
}

/// For a module that breaks a rule about imports or counts: the fault, if there is one, that the IC reports first.
#[cold]
pub(crate) fn earlier_fault(wasm: &[u8]) -> Option<Error> {
    let code_size = Parser::new(0).parse_all(wasm).find_map(|payload| match payload {
        Ok(Payload::CodeSectionStart { size, range, .. }) => Some((size, range.start)),
        _ => None,
    });
    let too_large = code_size.and_then(|(size, offset)| check_code_size(size, offset).err());
    too_large.or_else(|| validate_wasm(wasm, features(true), validate_body).err())
}

/// Wasm's own rules. Returns the first function body that breaks one of the IC's, which `on_body` tells.
fn validate_wasm(
    wasm: &[u8],
    features: WasmFeatures,
    mut on_body: impl FnMut(Body<'_, '_>) -> Result<Option<Error>, Error>,
) -> Result<Option<Error>, Error> {
    let mut validator = Validator::new_with_features(features);
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut allocations = FuncValidatorAllocations::default();
    let mut index = 0;
    let mut fault = None;
    for payload in parser.parse_all(wasm) {
        if let ValidPayload::Func(function, code) = validator.payload(&payload?)? {
            let found = on_body(Body { function, code: &code, index, allocations: &mut allocations })?;
            fault = fault.or(found);
            index += 1;
        }
    }
    Ok(fault)
}

/// Validates a body and does nothing else with it; for [`validate`].
pub(crate) fn validate_body(body: Body<'_, '_>) -> Result<Option<Error>, Error> {
    let (index, start) = (body.index, body.code.range().start);
    let mut seen = Seen::default();
    walk::walk(body, &mut seen)?;
    Ok(seen.fault(index, start))
}

fn check_exports(info: &ModuleInfo<'_>) -> Result<EntryPoints, Error> {
    let mut entry_points = EntryPoints::default();
    let mut methods: u64 = 0;
    let mut name_bytes: u64 = 0;
    for export in &info.exports {
        let at = position(info, export.name.as_bytes());
        if RESERVED_EXPORTS.contains(&export.name) {
            return Err(
                invalid_export(format!("Exporting reserved symbol {} not allowed.", export.name)).at(at)
            );
        }
        if export.kind != ExportKind::Function {
            continue;
        }
        match ExportName::of(export.name) {
            ExportName::Method(kind, name) => {
                if entry_points.method(name).is_some() {
                    return Err(duplicate_method(name).at(at));
                }
                methods += 1;
                name_bytes += name.len() as u64;
                entry_points.add_method(kind, name, export.index);
            }
            ExportName::System(entry) => entry_points.add_system(entry, export.index),
            ExportName::Reserved => return Err(reserved_prefix(export.name).at(at)),
            ExportName::Other => continue,
        }
        check_entry_type(info, export).map_err(|error| error.at(at))?;
    }
    check_methods(methods, name_bytes)?;
    Ok(entry_points)
}

/// Entry points have type `() -> ()`.
fn check_entry_type(info: &ModuleInfo<'_>, export: &Export<'_>) -> Result<(), Error> {
    let ty = info.function_type(export.index);
    if ty.params().is_empty() && ty.results().is_empty() {
        return Ok(());
    }
    let none: [ValType; 0] = [];
    Err(wrong_type(&FuncType::new(none, none), export.name, ty))
}

fn check_methods(methods: u64, name_bytes: u64) -> Result<(), Error> {
    const METHODS: &str = "exported functions called `canister_update <name>`, `canister_query <name>`, or \
                           `canister_composite_query <name>`";
    if methods > limits::METHODS_MAX {
        let limit = limits::METHODS_MAX;
        return Err(invalid_export(format!("The number of {METHODS} exceeds {limit}.")));
    }
    if name_bytes > limits::METHOD_NAME_BYTES_MAX {
        let limit = limits::METHOD_NAME_BYTES_MAX;
        return Err(invalid_export(format!("The sum of `<name>` lengths in {METHODS} exceeds {limit}.")));
    }
    Ok(())
}

fn invalid_export(text: impl std::fmt::Display) -> Error {
    Error::refused(format!("Wasm module has an invalid export section. {text}"))
}

fn duplicate_method(name: &str) -> Error {
    invalid_export(format!(
        "Duplicate function '{name}' exported multiple times with different call types: update, query, or \
         composite_query."
    ))
}

fn reserved_prefix(name: &str) -> Error {
    invalid_export(format!("Exporting reserved function '{name}' with \"canister_\" prefix"))
}

/// Active segments lie within the initial memory. That their offset is one constant was checked by `parse`.
fn check_data_segment(segment: &DataSegment<'_>, info: &ModuleInfo<'_>) -> Result<(), Error> {
    let Some((memory, offset)) = segment.active else {
        return Ok(());
    };
    // An index that no memory has is a fault of Wasm's, found when validation comes to the section.
    let Some(memory) = info.memories.get(memory as usize) else {
        return Ok(());
    };
    let len = segment.bytes.len();
    let memory_bytes = u128::from(memory.initial) * u128::from(memory.page_size());
    if u128::from(offset) + len as u128 <= memory_bytes {
        return Ok(());
    }
    let message = format!(
        "Wasm module has an invalid data section. Data segment of {len} bytes at {offset} exceeds the initial memory \
         of {memory_bytes} bytes."
    );
    Err(Error::refused(message).at(segment.range.start))
}

/// Their types. How many they are was checked by `parse`.
fn check_globals(info: &ModuleInfo<'_>) -> Result<(), Error> {
    for global in &info.globals {
        if let ValType::Ref(_) = global.ty.content_type {
            let ty = global.ty.content_type;
            let message = format!("Wasm module has an invalid global section. Unsupported global type: {ty}");
            return Err(Error::refused(message).at(global.init.get_binary_reader().original_position()));
        }
    }
    Ok(())
}

fn check_memories(info: &ModuleInfo<'_>) -> Result<(), Error> {
    if info.memories_imported > 1 {
        // They would be one memory under two indices.
        let text =
            "Wasm module has an invalid import section. The memory env.memory is imported more than once.";
        let at = section_offset(info, |payload| match payload {
            Payload::ImportSection(section) => Some(section.range().start),
            _ => None,
        });
        return Err(Error::refused(text).at(at));
    }
    let (count, most) = (info.memories.len() as u64, limits::MEMORIES_MAX);
    if count > most {
        let text =
            format!("Wasm module has {count} memories which exceeds the maximum number allowed {most}.");
        return Err(Error::refused(text).at(memory_section(info)));
    }
    let limit = limits::HEAP64_WASM_PAGES_MAX;
    let Some(memory) = info.memories.iter().find(|memory| memory.memory64 && memory.initial > limit) else {
        return Ok(());
    };
    let message = format!(
        "Wasm module has an invalid memory section. Initial size of {} Wasm pages exceeds the maximum allowed size \
         of {limit} for a 64-bit memory.",
        memory.initial
    );
    Err(Error::refused(message).at(memory_section(info)))
}

fn memory_section(info: &ModuleInfo<'_>) -> usize {
    section_offset(info, |payload| match payload {
        Payload::MemorySection(section) => Some(section.range().start),
        _ => None,
    })
}

fn check_tables(info: &ModuleInfo<'_>) -> Result<(), Error> {
    let count = info.tables.len() as u64;
    let largest = info.tables.iter().map(|table| table.initial).max().unwrap_or(0);
    let message = if count > limits::TABLES_MAX {
        let limit = limits::TABLES_MAX;
        format!("Wasm module defined {count} tables which exceeds the maximum number allowed {limit}.")
    } else if largest > limits::TABLE_ELEMENTS_MAX {
        let limit = limits::TABLE_ELEMENTS_MAX;
        format!(
            "Wasm module defined a table of {largest} elements which exceeds the maximum number allowed {limit}."
        )
    } else {
        return Ok(());
    };
    let at = section_offset(info, |payload| match payload {
        Payload::TableSection(section) => Some(section.range().start),
        _ => None,
    });
    Err(Error::refused(message).at(at))
}

/// The custom sections that the IC keeps.
fn metadata(info: &ModuleInfo<'_>) -> Result<Vec<MetadataSection>, Error> {
    let mut sections: Vec<MetadataSection> = Vec::new();
    let mut names = HashSet::new();
    let mut bytes: u64 = 0;
    for section in &info.custom {
        let at = position(info, section.name.as_bytes());
        let Some((visibility, name)) = metadata_name(section.name).map_err(|error| error.at(at))? else {
            continue;
        };
        if !names.insert(name) {
            return Err(invalid_custom(format!("Invalid custom section: name {name} already exists")).at(at));
        }
        bytes += (section.data.len() + name.len()) as u64;
        if bytes > limits::METADATA_BYTES_MAX {
            let limit = limits::METADATA_BYTES_MAX;
            let text = format!(
                "Invalid custom sections: total size of the custom sections exceeds the maximum allowed: size {bytes} \
                 bytes, allowed {limit} bytes"
            );
            return Err(invalid_custom(text).at(at));
        }
        let count = sections.len() as u64 + 1;
        if count > limits::METADATA_SECTIONS_MAX {
            let limit = limits::METADATA_SECTIONS_MAX;
            let message = format!(
                "Wasm module defined {count} custom sections which exceeds the maximum number allowed {limit}."
            );
            return Err(Error::refused(message).at(at));
        }
        sections.push(MetadataSection { name: name.to_owned(), visibility, data: section.data.to_vec() });
    }
    Ok(sections)
}

/// Visibility and name of a metadata section; `None` for a custom section that is none.
fn metadata_name(section: &str) -> Result<Option<(Visibility, &str)>, Error> {
    let Some(rest) = section.strip_prefix("icp:") else {
        return Ok(None);
    };
    if let Some(name) = rest.strip_prefix("public ") {
        return Ok(Some((Visibility::Public, name)));
    }
    if let Some(name) = rest.strip_prefix("private ") {
        return Ok(Some((Visibility::Private, name)));
    }
    Err(if matches!(rest, "public" | "private") {
        invalid_custom("'icp:' section names must have a space after the public/private scope")
    } else {
        invalid_custom(format!(
            "Invalid custom section: Custom section '{section}' has no public/private scope defined."
        ))
    })
}

fn invalid_custom(text: impl std::fmt::Display) -> Error {
    Error::refused(format!("Wasm module has an invalid custom section. {text}"))
}

/// Where a part of the module stands in it.
fn position(info: &ModuleInfo<'_>, part: &[u8]) -> usize {
    part.as_ptr().addr().saturating_sub(info.bytes.as_ptr().addr())
}

/// Where the first section that `find` wants stands; found by another walk, since errors are rare.
#[cold]
fn section_offset(info: &ModuleInfo<'_>, find: impl Fn(&Payload<'_>) -> Option<usize>) -> usize {
    let mut payloads = Parser::new(0).parse_all(info.bytes);
    payloads.find_map(|payload| find(&payload.ok()?)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    #[test]
    fn several_memories_on_request_only() {
        let wasm =
            wat::parse_str("(module (memory 1) (memory i64 1) (data (memory 1) (i64.const 65535) \"a\"))")
                .unwrap();
        let info = parse(&wasm).unwrap();
        assert!(validate(&info, true, validate_body).is_ok());
        let error = validate(&info, false, validate_body).unwrap_err();
        assert!(error.message().contains("multiple memories"), "{error}");
        let beyond =
            wat::parse_str("(module (memory 2) (memory 1) (data (memory 1) (i32.const 65536) \"a\"))")
                .unwrap();
        let error = validate(&parse(&beyond).unwrap(), true, validate_body).unwrap_err();
        assert!(error.message().contains("exceeds the initial memory of 65536 bytes"), "{error}");
    }

    #[test]
    fn the_output_may_have_several_memories() {
        let wasm = wat::parse_str("(module (memory 1) (memory i64 1))").unwrap();
        assert!(features_of_output().validate_all(&wasm).is_ok());
    }
}
