//! Random canisters: `wasm-smith` modules with stable-memory imports, made to do something.
//!
//! Random arguments would nearly always be out of bounds, so calls of stable functions go through appended functions that
//! cut addresses and lengths to size, most of the time; so do the module's own memory instructions (`tame`). Half of the
//! modules may have up to three memories, a third may use reference types, a third tail calls. An appended `canister_init` grows stable memory.

use arbitrary::Unstructured;
use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module, TypeSection, ValType,
};
use wasm_smith::{Config, InstructionKind, InstructionKinds};

use crate::Numbers;
use crate::tame::Tamer;

/// Methods that every random canister has, in order: two updates, then a query.
pub const METHODS: [&str; 3] = ["a", "b", "c"];

/// Imports of random canisters: name, parameters, results; all i64.
const IMPORTS: [(&str, usize, usize); 4] =
    [("stable64_size", 0, 1), ("stable64_grow", 1, 1), ("stable64_read", 3, 0), ("stable64_write", 3, 0)];

/// Wasm pages of stable memory after `canister_init`.
pub const STABLE_WASM_PAGES: i64 = 3;

/// Least Wasm pages of each declared memory.
const HEAP_WASM_PAGES: u64 = 2;

/// A random canister; `None` if the seed gives none.
pub fn canister(seed: u64) -> Option<Vec<u8>> {
    let mut numbers = Numbers::new(seed);
    let config = config(&mut numbers);
    let bytes = numbers.bytes(4096);
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(&bytes)).ok()?;
    make_useful(&module.to_bytes(), &mut numbers)
}

fn config(numbers: &mut Numbers) -> Config {
    let parse = |text: &str| wat::parse_str(text).expect("the text is a module");
    let imports = parse(
        r#"(module
          (import "ic0" "stable64_size" (func (result i64)))
          (import "ic0" "stable64_grow" (func (param i64) (result i64)))
          (import "ic0" "stable64_read" (func (param i64 i64 i64)))
          (import "ic0" "stable64_write" (func (param i64 i64 i64))))"#,
    );
    let exports = parse(
        r#"(module
          (func (export "canister_update a")) (func (export "canister_update b")) (func (export "canister_query c")))"#,
    );
    use InstructionKind as K;
    let kinds = [
        K::NumericInt,
        K::Numeric,
        K::VectorInt,
        K::Vector,
        K::Reference,
        K::Parametric,
        K::Variable,
        K::Memory,
        K::Control,
    ];
    Config {
        available_imports: Some(imports),
        exports: Some(exports),
        allow_start_export: numbers.below(4) == 0,
        allowed_instructions: InstructionKinds::new(&kinds),
        canonicalize_nans: false,
        disallow_traps: numbers.below(4) == 0,
        exceptions_enabled: false,
        gc_enabled: false,
        // Instructions that change tables stay out: the IC refuses them, so that tables never change and need no comparison.
        reference_types_enabled: numbers.below(3) == 0,
        tail_call_enabled: numbers.below(3) == 0,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        extended_const_enabled: false,
        memory_max_size_required: true,
        memory64_enabled: numbers.below(3) == 0,
        min_memories: 1,
        max_memories: if numbers.below(2) == 0 { 3 } else { 1 },
        max_memory32_bytes: 1 << 20,
        max_memory64_bytes: 1 << 20,
        max_tables: 1,
        max_table_elements: 100,
        max_funcs: 8,
        max_globals: 10,
        max_instructions: 60 + numbers.below(300) as usize,
        max_data_segments: 4,
        max_element_segments: 4,
        ..Config::default()
    }
}

/// Re-points calls of imports to appended functions that cut arguments to size, and tames memory instructions.
struct Cutter {
    imports: u32,
    functions: u32,
    tamer: Option<Tamer>,
}

impl Reencode for Cutter {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error<Self::Error>> {
        Ok(if function < self.imports { self.functions + function } else { function })
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), reencode::Error<Self::Error>> {
        let tamer = self.tamer.take().expect("put back after each function");
        self.tamer = Some(tamer.body(self, code, &body)?);
        Ok(())
    }
}

/// The random module with its calls cut to size and a `canister_init`.
fn make_useful(wasm: &[u8], numbers: &mut Numbers) -> Option<Vec<u8>> {
    let shape = Shape::of(wasm)?;
    let params = shape.functions.iter().map(|ty| shape.types[*ty as usize]).collect();
    let numbers_of_tamer = Numbers::new(numbers.next_u64());
    let mut cutter = Cutter {
        imports: shape.imports.len() as u32,
        functions: shape.imports.len() as u32 + shape.functions.len() as u32,
        tamer: Some(Tamer { params, widths: shape.widths.clone(), numbers: numbers_of_tamer }),
    };
    let mut module = Module::new();
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        use wasmparser::Payload as P;
        match payload.ok()? {
            P::TypeSection(reader) => {
                let mut types = TypeSection::new();
                cutter.parse_type_section(&mut types, reader).ok()?;
                types.ty().function([], []);
                module.section(&types);
            }
            P::ImportSection(reader) => {
                let mut imports = wasm_encoder::ImportSection::new();
                cutter.parse_import_section(&mut imports, reader).ok()?;
                module.section(&imports);
            }
            P::FunctionSection(reader) => {
                let mut functions = FunctionSection::new();
                cutter.parse_function_section(&mut functions, reader).ok()?;
                for import in &shape.imports {
                    functions.function(import.type_index);
                }
                functions.function(shape.types.len() as u32);
                module.section(&functions);
            }
            P::ExportSection(reader) => {
                let mut exports = ExportSection::new();
                cutter.parse_export_section(&mut exports, reader).ok()?;
                exports.export("canister_init", ExportKind::Func, cutter.functions + cutter.imports);
                module.section(&exports);
            }
            P::CodeSectionStart { range, .. } => {
                let mut code = CodeSection::new();
                let reader = wasmparser::BinaryReader::new(&wasm[range.clone()], range.start);
                let reader = wasmparser::CodeSectionReader::new(reader).ok()?;
                cutter.parse_code_section(&mut code, reader).ok()?;
                for (index, import) in (0..).zip(&shape.imports) {
                    code.function(&cut(index, import.api, numbers));
                }
                code.function(&init(&shape));
                module.section(&code);
            }
            P::TableSection(reader) => {
                let mut section = wasm_encoder::TableSection::new();
                cutter.parse_table_section(&mut section, reader).ok()?;
                module.section(&section);
            }
            P::MemorySection(reader) => {
                let mut section = wasm_encoder::MemorySection::new();
                for memory in reader {
                    let mut memory = cutter.memory_type(memory.ok()?).ok()?;
                    // Room for addresses that were cut to size.
                    memory.minimum = memory.minimum.max(HEAP_WASM_PAGES);
                    memory.maximum = memory.maximum.map(|pages| pages.max(memory.minimum + 1));
                    section.memory(memory);
                }
                module.section(&section);
            }
            P::GlobalSection(reader) => {
                let mut section = wasm_encoder::GlobalSection::new();
                cutter.parse_global_section(&mut section, reader).ok()?;
                module.section(&section);
            }
            P::StartSection { func, .. } => {
                let function_index = cutter.function_index(func).ok()?;
                module.section(&wasm_encoder::StartSection { function_index });
            }
            P::ElementSection(reader) => {
                let mut section = wasm_encoder::ElementSection::new();
                cutter.parse_element_section(&mut section, reader).ok()?;
                module.section(&section);
            }
            P::DataCountSection { count, .. } => {
                module.section(&wasm_encoder::DataCountSection { count });
            }
            P::DataSection(reader) => {
                let mut section = wasm_encoder::DataSection::new();
                cutter.parse_data_section(&mut section, reader).ok()?;
                module.section(&section);
            }
            _ => {}
        }
    }
    Some(module.finish())
}

struct Import {
    type_index: u32,
    /// Index in [`IMPORTS`].
    api: usize,
}

struct Shape {
    imports: Vec<Import>,
    /// Type of each defined function.
    functions: Vec<u32>,
    /// Parameters of each type.
    types: Vec<u32>,
    /// Whether each memory is a 64-bit one.
    widths: Vec<bool>,
}

impl Shape {
    /// `None` for modules without code, which are of no interest.
    fn of(wasm: &[u8]) -> Option<Self> {
        let mut shape =
            Shape { imports: Vec::new(), functions: Vec::new(), types: Vec::new(), widths: Vec::new() };
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            match payload.ok()? {
                wasmparser::Payload::TypeSection(reader) => {
                    for ty in reader.into_iter_err_on_gc_types() {
                        shape.types.push(ty.ok()?.params().len() as u32);
                    }
                }
                wasmparser::Payload::MemorySection(reader) => {
                    for memory in reader {
                        shape.widths.push(memory.ok()?.memory64);
                    }
                }
                wasmparser::Payload::ImportSection(reader) => {
                    for import in reader.into_imports() {
                        let import = import.ok()?;
                        let wasmparser::TypeRef::Func(type_index) = import.ty else { return None };
                        let api = IMPORTS.iter().position(|(name, ..)| *name == import.name)?;
                        shape.imports.push(Import { type_index, api });
                    }
                }
                wasmparser::Payload::FunctionSection(reader) => {
                    shape.functions = reader.into_iter().collect::<Result<_, _>>().ok()?;
                }
                _ => {}
            }
        }
        (!shape.functions.is_empty()).then_some(shape)
    }
}

/// A function of the import's type that cuts its arguments and calls it.
fn cut(index: u32, api: usize, numbers: &mut Numbers) -> Function {
    let (name, params, _) = IMPORTS[api];
    let mut function = Function::new([]);
    let mut code = function.instructions();
    let wild = numbers.below(16) == 0;
    // A third of the accesses have a constant length, as nearly all of real canisters do.
    let constant = (params == 3 && numbers.below(3) == 0).then(|| numbers.below(67).cast_signed());
    for parameter in 0..params as u32 {
        if let (2, Some(len)) = (parameter, constant) {
            code.i64_const(len);
            continue;
        }
        code.local_get(parameter);
        // Whole memories are compared: they must stay small, so few canisters grow theirs, and by little.
        let grows = name == "stable64_grow";
        if wild && !grows {
            continue;
        }
        let mask = match (name, parameter) {
            ("stable64_grow", _) => i64::from(numbers.below(4) == 0),
            // Most accesses are short, some span pages.
            (_, 2) => [0x3f, 0x3f, 0x7f, 0x3fff][numbers.below(4) as usize],
            // Both memories are a few Wasm pages: close to the ends some accesses are out of bounds.
            _ => [0x7fff, 0xffff, 0x2_ffff][numbers.below(3) as usize],
        };
        code.i64_const(mask).i64_and();
    }
    code.call(index).end();
    function
}

/// Grows stable memory, if the module can.
fn init(shape: &Shape) -> Function {
    let mut function = Function::new([(1, ValType::I64)]);
    let mut code = function.instructions();
    if let Some(grow) = shape.imports.iter().position(|import| IMPORTS[import.api].0 == "stable64_grow") {
        code.i64_const(STABLE_WASM_PAGES).call(grow as u32).drop();
    }
    code.end();
    function
}
