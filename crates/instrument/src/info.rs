//! The module as read: the noun that every pass works from.
//!
//! `parse` makes a [`ModuleInfo`] from bytes in one pass; `validate`, `stable`, `barrier`, `meter` and `encode`
//! only read it. Invariants:
//! - Index spaces are the module's own: imports first, then definitions, nothing renumbered.
//! - All byte slices borrow from the module that was parsed.
//! - Types are flattened: `types[i]` is the type at index `i`, every one a function type (the IC accepts no other).

use std::ops::Range;

use wasmparser::{ConstExpr, FuncType, GlobalType, MemoryType, TableType};

use crate::system_api::SystemFunction;

/// A parsed Wasm module. Borrows from the bytes it was parsed from.
#[derive(Debug)]
pub struct ModuleInfo<'a> {
    /// The whole module.
    pub bytes: &'a [u8],
    /// Function types by type index.
    pub types: Vec<FuncType>,
    /// Imported functions, in index order: function index `i` for `i < imported_functions.len()`.
    pub imported_functions: Vec<ImportedFunction>,
    /// Type index of each defined function.
    pub functions: Vec<u32>,
    /// All tables, an imported one first.
    pub tables: Vec<TableType>,
    /// Whether table 0 is imported as `env.table`.
    pub table_imported: bool,
    /// All memories, imported ones first.
    pub memories: Vec<MemoryType>,
    /// How many of them are imported, as `env.memory`.
    pub memories_imported: u32,
    /// Defined globals (the IC accepts no imported ones).
    pub globals: Vec<Global<'a>>,
    /// Exports in order.
    pub exports: Vec<Export<'a>>,
    /// The start function.
    pub start: Option<u32>,
    /// Byte range of the element section's contents, if there is one.
    pub element_section: Option<Range<usize>>,
    /// Number of element segments.
    pub element_count: u32,
    /// Whether a data-count section is present.
    pub has_data_count: bool,
    /// Data segments in order.
    pub data: Vec<DataSegment<'a>>,
    /// Bodies of the defined functions, in order.
    pub code: Vec<FunctionCode<'a>>,
    /// Byte range of the code section's contents, if there is one.
    pub code_section: Option<Range<usize>>,
    /// Custom sections in order, the name section among them.
    pub custom: Vec<CustomSection<'a>>,
}

/// A function imported from `ic0`.
#[derive(Debug, Clone, Copy)]
pub struct ImportedFunction {
    /// Which system function; its type was checked against `type_index`.
    pub api: &'static SystemFunction,
    /// Its type in the module.
    pub type_index: u32,
}

/// A defined global.
#[derive(Debug, Clone)]
pub struct Global<'a> {
    /// Value type and mutability.
    pub ty: GlobalType,
    /// The initialiser.
    pub init: ConstExpr<'a>,
}

/// What an export refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportKind {
    /// A function index.
    Function,
    /// A table index.
    Table,
    /// A memory index.
    Memory,
    /// A global index.
    Global,
}

/// An export.
#[derive(Debug, Clone, Copy)]
pub struct Export<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it names.
    pub kind: ExportKind,
    /// The index in that index space.
    pub index: u32,
}

/// A data segment.
#[derive(Debug, Clone)]
pub struct DataSegment<'a> {
    /// Active segments: memory index and byte offset (validated to be one constant). `None`: passive.
    pub active: Option<(u32, u64)>,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Where the bytes stand in the module.
    pub range: Range<usize>,
}

/// One function body in the code section.
#[derive(Debug, Clone)]
pub struct FunctionCode<'a> {
    /// The body: locals, then operators up to and including the final `end`.
    pub body: wasmparser::FunctionBody<'a>,
    /// Where the body stands in the module.
    pub range: Range<usize>,
}

/// A custom section.
#[derive(Debug, Clone)]
pub struct CustomSection<'a> {
    /// Its name, e.g. `icp:public candid:service`.
    pub name: &'a str,
    /// Its payload.
    pub data: &'a [u8],
}

/// Whether a type is `externref`.
pub(crate) fn is_external_reference(ty: wasmparser::ValType) -> bool {
    matches!(ty, wasmparser::ValType::Ref(ty) if ty.is_extern_ref())
}

impl ModuleInfo<'_> {
    /// Number of imported functions, which is the index of the first defined one.
    pub fn import_count(&self) -> u32 {
        u32::try_from(self.imported_functions.len()).expect("the parser bounds the number of imports")
    }

    /// Type index of any function, imported or defined. Panics on an index that the validator would have refused.
    pub fn function_type_index(&self, function: u32) -> u32 {
        let imports = self.import_count();
        if function < imports {
            self.imported_functions[function as usize].type_index
        } else {
            self.functions[(function - imports) as usize]
        }
    }

    /// Type of any function, imported or defined.
    pub fn function_type(&self, function: u32) -> &FuncType {
        &self.types[self.function_type_index(function) as usize]
    }

    /// Whether the canister's main memory (memory 0) is 64-bit. `false` when there is none.
    pub fn memory64(&self) -> bool {
        self.memories.first().is_some_and(|memory| memory.memory64)
    }
}
