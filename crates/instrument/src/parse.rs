//! Reads a module: bytes to [`ModuleInfo`], in one pass.
//!
//! Function bodies are located here and read by the passes that need them.
//!
//! Invariants:
//! - Never panics, whatever the bytes.
//! - Reserves memory for what the bytes can hold, never for what a count claims: every reservation is bounded by the
//!   section's size and by a limit.
//! - What comes out is not yet valid Wasm; only `validate` says so. What the IC's rules forbid and [`ModuleInfo`]
//!   cannot say (an unknown import, say) is refused here, after a look for faults that the IC would report first.

use std::ops::Range;

use wasmparser::{
    BinaryReader, ConstExpr, DataKind, ExternalKind, FuncType, Import, Operator, Parser, Payload,
    SectionLimited, TypeRef, ValType,
};

use crate::error::{Error, ErrorKind};
use crate::info::{
    CustomSection, DataSegment, Export, ExportKind, FunctionCode, Global, ImportedFunction, ModuleInfo,
};
use crate::limits;
use crate::system_api::{self, SystemFunction};
use crate::validate;

/// Magic number and version.
const HEADER_BYTES: usize = 8;
/// Bound on items of one kind for which the IC has no limit of its own: that of the Wasm engines.
const ITEMS_MAX: u64 = 1_000_000;
/// The engines' bound on data segments.
const DATA_SEGMENTS_MAX: u64 = 100_000;
/// The engines' bound on memories; and on tables.
const MEMORIES_MAX: u64 = 100;

/// Reads a module.
///
/// # Errors
/// If the bytes are not a module, are malformed, or break a rule that concerns imports, data offsets, or the number
/// or size of items.
pub fn parse(wasm: &[u8]) -> Result<ModuleInfo<'_>, Error> {
    check_header(wasm)?;
    read(wasm).map_err(|error| match error.kind() {
        ErrorKind::Refused => validate::earlier_fault(wasm).unwrap_or(error),
        _ => error,
    })
}

fn check_header(wasm: &[u8]) -> Result<(), Error> {
    let not_wasm = |message: &str| Err(Error::new(ErrorKind::NotWasm, message).at(0));
    let len = wasm.len();
    if len as u64 > limits::MODULE_BYTES_MAX {
        let message = format!(
            "Wasm module size of {len} exceeds the maximum allowed size of {}.",
            limits::MODULE_BYTES_MAX
        );
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    if wasm.is_empty() {
        return not_wasm("Not a Wasm module: there are no bytes.");
    }
    if wasm.starts_with(&[0x1f, 0x8b]) {
        return not_wasm("Not a Wasm module: the bytes are compressed with gzip.");
    }
    if !wasm.starts_with(b"\0asm") {
        return not_wasm("Not a Wasm module: it does not start with `\\0asm`.");
    }
    if Parser::is_component(wasm) {
        return not_wasm("Not a core Wasm module: it is a component.");
    }
    Ok(())
}

fn read(wasm: &[u8]) -> Result<ModuleInfo<'_>, Error> {
    let mut reader = Reader { info: empty(wasm), import_offsets: Vec::new() };
    let mut parser = Parser::new(0);
    // Features decide how some bytes read. More memories than one are told apart later.
    parser.set_features(validate::features(true));
    for payload in parser.parse_all(wasm) {
        reader.payload(payload?)?;
    }
    reader.check_imports()?;
    Ok(reader.info)
}

fn empty(bytes: &[u8]) -> ModuleInfo<'_> {
    ModuleInfo {
        bytes,
        types: Vec::new(),
        imported_functions: Vec::new(),
        functions: Vec::new(),
        tables: Vec::new(),
        table_imported: false,
        memories: Vec::new(),
        memories_imported: 0,
        globals: Vec::new(),
        exports: Vec::new(),
        start: None,
        element_section: None,
        element_count: 0,
        has_data_count: false,
        data: Vec::new(),
        code: Vec::new(),
        code_section: None,
        custom: Vec::new(),
    }
}

struct Reader<'a> {
    info: ModuleInfo<'a>,
    /// Where each imported function stands, for errors found once the width of the memory is known.
    import_offsets: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn payload(&mut self, payload: Payload<'a>) -> Result<(), Error> {
        let info = &mut self.info;
        match payload {
            Payload::TypeSection(section) => {
                check_room(section.count(), "types", limits::TYPES_MAX, section.original_position())?;
                reserve(&mut info.types, &section, 3, ITEMS_MAX, "types")?;
                for ty in section.into_iter_err_on_gc_types() {
                    info.types.push(ty?);
                }
            }
            Payload::ImportSection(section) => self.imports(section)?,
            Payload::FunctionSection(section) => {
                check_function_count(section.count(), section.original_position())?;
                reserve(&mut info.functions, &section, 1, ITEMS_MAX, "functions")?;
                for ty in section {
                    info.functions.push(ty?);
                }
            }
            Payload::TableSection(section) => {
                reserve(&mut info.tables, &section, 3, MEMORIES_MAX, "tables")?;
                for table in section {
                    info.tables.push(table?.ty);
                }
            }
            Payload::MemorySection(section) => {
                reserve(&mut info.memories, &section, 2, MEMORIES_MAX, "memories")?;
                for memory in section {
                    info.memories.push(memory?);
                }
            }
            Payload::GlobalSection(section) => {
                check_global_count(section.count(), section.original_position())?;
                reserve(&mut info.globals, &section, 5, ITEMS_MAX, "globals")?;
                for global in section {
                    let global = global?;
                    info.globals.push(Global { ty: global.ty, init: global.init_expr });
                }
            }
            Payload::ExportSection(section) => self.exports(section)?,
            Payload::StartSection { func, .. } => info.start = Some(func),
            Payload::ElementSection(section) => {
                info.element_count = section.count();
                info.element_section = Some(section.range());
            }
            Payload::DataCountSection { .. } => info.has_data_count = true,
            Payload::DataSection(section) => self.data(section)?,
            Payload::CodeSectionStart { count, range, size } => self.code(count, range, size)?,
            Payload::CodeSectionEntry(body) => {
                let range = body.range();
                info.code.push(FunctionCode { body, range });
            }
            Payload::CustomSection(section) => {
                if info.custom.is_empty() {
                    info.custom.reserve_exact(custom_section_count(info.bytes));
                }
                info.custom.push(CustomSection { name: section.name(), data: section.data() });
            }
            // What is left belongs to features that are off, for which `validate` has the words.
            _ => {}
        }
        Ok(())
    }

    fn imports(&mut self, section: wasmparser::ImportSectionReader<'a>) -> Result<(), Error> {
        // The smallest allowed import, `ic0.time`, takes 11 bytes.
        reserve(&mut self.info.imported_functions, &section, 11, ITEMS_MAX, "imports")?;
        self.import_offsets.reserve(self.info.imported_functions.capacity());
        for import in section.into_imports_with_offsets() {
            let (offset, import) = import?;
            self.import(&import).map_err(|error| error.at(offset))?;
            if matches!(import.ty, TypeRef::Func(_)) {
                self.import_offsets.push(offset);
            }
        }
        Ok(())
    }

    fn import(&mut self, import: &Import<'_>) -> Result<(), Error> {
        let refused =
            |text: &str| Err(Error::refused(format!("Wasm module has an invalid import section. {text}")));
        let info = &mut self.info;
        match import.ty {
            TypeRef::Func(type_index) => {
                let api = system_function(import)?;
                info.imported_functions.push(ImportedFunction { api, type_index });
            }
            TypeRef::Table(table) => {
                if (import.module, import.name) != ("env", "table") {
                    return refused("Only tables imported from env.table are allowed.");
                }
                push_bounded(&mut info.tables, table, "tables")?;
                info.table_imported = true;
            }
            TypeRef::Memory(memory) => {
                if (import.module, import.name) != ("env", "memory") {
                    return refused("Only memory imported from env.memory is allowed.");
                }
                push_bounded(&mut info.memories, memory, "memories")?;
                info.memories_imported += 1;
            }
            TypeRef::Global(_) => return refused("Importing globals is not allowed."),
            TypeRef::Tag(_) => return refused("Importing tags is not allowed."),
            TypeRef::FuncExact(_) => {
                return refused("Importing functions of an exact type is not allowed.");
            }
        }
        Ok(())
    }

    /// Types of imports depend on the width of the memory, which comes after them.
    fn check_imports(&self) -> Result<(), Error> {
        let memory64 = self.info.memory64();
        for (import, offset) in self.info.imported_functions.iter().zip(&self.import_offsets) {
            let Some(ty) = self.info.types.get(import.type_index as usize) else {
                let message = format!("Wasm module is not valid: unknown type {}", import.type_index);
                return Err(Error::new(ErrorKind::Invalid, message).at(*offset));
            };
            if import.api.wasm32_only && memory64 {
                return Err(not_exported("ic0", import.api.name).at(*offset));
            }
            if !import.api.has_type(ty, memory64) {
                return Err(wrong_type(&import.api.func_type(memory64), import.api.name, ty).at(*offset));
            }
        }
        Ok(())
    }

    fn exports(&mut self, section: wasmparser::ExportSectionReader<'a>) -> Result<(), Error> {
        let exports = &mut self.info.exports;
        check_room(section.count(), "exports", limits::EXPORTS_MAX, section.original_position())?;
        reserve(exports, &section, 3, ITEMS_MAX, "exports")?;
        for item in section.into_iter_with_offsets() {
            let (offset, export) = item?;
            let kind = match export.kind {
                ExternalKind::Func => ExportKind::Function,
                ExternalKind::Table => ExportKind::Table,
                ExternalKind::Memory => ExportKind::Memory,
                ExternalKind::Global => ExportKind::Global,
                ExternalKind::Tag | ExternalKind::FuncExact => {
                    let text = "Wasm module has an invalid export section. Exporting tags is not allowed.";
                    return Err(Error::refused(text).at(offset));
                }
            };
            exports.push(Export { name: export.name, kind, index: export.index });
        }
        Ok(())
    }

    fn data(&mut self, section: wasmparser::DataSectionReader<'a>) -> Result<(), Error> {
        let data = &mut self.info.data;
        reserve(data, &section, 2, DATA_SEGMENTS_MAX, "data segments")?;
        for segment in section {
            let segment = segment?;
            let active = match segment.kind {
                DataKind::Passive => None,
                DataKind::Active { memory_index, offset_expr } => {
                    let offset =
                        constant_offset(&offset_expr).map_err(|error| error.at(segment.range.start))?;
                    Some((memory_index, offset))
                }
            };
            let end = segment.range.end;
            data.push(DataSegment { active, bytes: segment.data, range: end - segment.data.len()..end });
        }
        Ok(())
    }

    fn code(&mut self, count: u32, range: Range<usize>, size: u32) -> Result<(), Error> {
        check_code_size(size, range.start)?;
        check_function_count(count, range.start)?;
        // A body takes at least 3 bytes: its size, no locals, `end`.
        self.info.code.reserve_exact((count as usize).min(range.len() / 3));
        self.info.code_section = Some(range);
        Ok(())
    }
}

/// Makes room for a section's items, each of which takes at least `item_bytes`.
fn reserve<T, S>(
    items: &mut Vec<T>,
    section: &SectionLimited<'_, S>,
    item_bytes: usize,
    limit: u64,
    what: &str,
) -> Result<(), Error> {
    let count = section.count();
    if items.len() as u64 + u64::from(count) > limit {
        let message = format!("Wasm module is not valid: {what} count exceeds limit of {limit}");
        return Err(Error::new(ErrorKind::Invalid, message).at(section.original_position()));
    }
    items.reserve_exact((count as usize).min(section.range().len() / item_bytes));
    Ok(())
}

/// How many custom sections there are, by a walk over the headers of all sections. Nothing limits their number and the
/// smallest takes 3 bytes, so a vector that doubles would take too much.
fn custom_section_count(wasm: &[u8]) -> usize {
    let sections = wasm.get(HEADER_BYTES..).unwrap_or_default();
    let mut reader = BinaryReader::new(sections, HEADER_BYTES);
    let mut count = 0;
    while let (Ok(id), Ok(_)) = (reader.read_u8(), reader.read_reader()) {
        count += usize::from(id == 0);
    }
    count
}

/// Adds an imported table or memory.
fn push_bounded<T>(items: &mut Vec<T>, item: T, what: &str) -> Result<(), Error> {
    if items.len() as u64 >= MEMORIES_MAX {
        let message = format!("Wasm module is not valid: {what} count exceeds limit of {MEMORIES_MAX}");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    items.push(item);
    Ok(())
}

fn system_function(import: &Import<'_>) -> Result<&'static SystemFunction, Error> {
    let Import { module, name, .. } = *import;
    let api = system_api::lookup(name).ok_or_else(|| not_exported(module, name))?;
    if module == "ic0" {
        Ok(api)
    } else {
        Err(Error::refused(format!(
            "Wasm module has an invalid import section. Module imports function {name:?} from {module:?}, expected \
             to be imported from one of [\"ic0\"] instead."
        )))
    }
}

fn not_exported(module: &str, name: &str) -> Error {
    Error::refused(format!(
        "Wasm module has an invalid import section. Module imports function '{name}' from '{module}' that is not \
         exported by the runtime."
    ))
}

/// An imported or exported function of the wrong type.
pub(crate) fn wrong_type(expected: &FuncType, name: &str, got: &FuncType) -> Error {
    let (what, expected, got): (_, &[ValType], &[ValType]) = if expected.params() == got.params() {
        ("return type", expected.results(), got.results())
    } else {
        ("input params", expected.params(), got.params())
    };
    Error::refused(format!(
        "Wasm module has an invalid function signature. Expected {what} {expected:?} for '{name}', got {got:?}."
    ))
}

fn constant_offset(expression: &ConstExpr<'_>) -> Result<u64, Error> {
    let mut reader = expression.get_operators_reader();
    let first = reader.read()?;
    let offset = match first {
        Operator::I32Const { value } => u64::from(value.cast_unsigned()),
        Operator::I64Const { value } => value.cast_unsigned(),
        _ => return Err(invalid_offset(&first)),
    };
    let next = reader.read()?;
    if matches!(next, Operator::End) && reader.eof() { Ok(offset) } else { Err(invalid_offset(&next)) }
}

fn invalid_offset(operator: &Operator<'_>) -> Error {
    Error::refused(format!(
        "Wasm module has an invalid data section. Invalid offset expression in data segment: {operator:?}"
    ))
}

/// Rule 2: the code section's size.
pub(crate) fn check_code_size(size: u32, offset: usize) -> Result<(), Error> {
    if u64::from(size) <= limits::CODE_SECTION_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "Wasm module code section size of {size} exceeds the maximum allowed size of {}",
        limits::CODE_SECTION_BYTES_MAX
    );
    Err(Error::new(ErrorKind::TooLarge, message).at(offset))
}

/// Bounds what validation may take, so no validation comes first.
fn check_room(count: u32, what: &str, most: u64, offset: usize) -> Result<(), Error> {
    if u64::from(count) <= most {
        return Ok(());
    }
    let message = format!("Wasm module has {count} {what} which exceeds the maximum number allowed {most}.");
    Err(Error::new(ErrorKind::TooLarge, message).at(offset))
}

/// Part of rule 7, checked here because it bounds what [`ModuleInfo`] may take.
fn check_function_count(count: u32, offset: usize) -> Result<(), Error> {
    too_many(count, "functions", limits::FUNCTIONS_MAX, offset)
}

/// Part of rule 7, checked here because it bounds what [`ModuleInfo`] may take.
fn check_global_count(count: u32, offset: usize) -> Result<(), Error> {
    too_many(count, "globals", limits::GLOBALS_MAX, offset)
}

fn too_many(count: u32, what: &str, limit: u64, offset: usize) -> Result<(), Error> {
    if u64::from(count) <= limit {
        return Ok(());
    }
    let message =
        format!("Wasm module defined {count} {what} which exceeds the maximum number allowed {limit}.");
    Err(Error::refused(message).at(offset))
}
