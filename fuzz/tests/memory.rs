//! Rewriting takes at most 16 times a module's size and 16 MiB, whatever the bytes: modules made of one thing only, as
//! much of it as its limits allow.
#![allow(clippy::unwrap_used, reason = "tests")]

use bedstone_instrument::{Config, Counter, instrument};
use peak_alloc::PeakAlloc;
use wasm_encoder::{
    BlockType, CodeSection, CustomSection, DataSection, ElementSection, Elements, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, ImportSection, InstructionSink, MemArg, MemorySection,
    MemoryType, Module, NameMap, NameSection, RefType, TableSection, TableType, TypeSection, ValType,
};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The only test of this binary: what it measures is the whole process's.
#[test]
fn memory_is_bounded_by_size() {
    let mut worst = (0.0, String::new());
    for (name, wasm) in modules() {
        for counter in [Counter::Global, Counter::Threaded] {
            let before = ALLOCATED.current_usage();
            ALLOCATED.reset_peak_usage();
            // An error is as good as a module.
            let _ = instrument(&wasm, &Config { counter, ..Config::default() });
            let taken = ALLOCATED.peak_usage() - before;
            let share = taken as f64 / (16 * wasm.len() + (16 << 20)) as f64;
            assert!(share <= 1.0, "{name}: {} bytes took {taken}", wasm.len());
            if share > worst.0 {
                worst = (share, name.clone());
            }
        }
    }
    assert!(worst.0 > 0.5, "the modules are too small to tell anything: {worst:?}");
}

fn modules() -> Vec<(String, Vec<u8>)> {
    let mut modules = vec![
        ("types".to_owned(), types(60_000, |_| Vec::new())),
        ("distinct types".to_owned(), types(60_000, bits)),
        ("too many types".to_owned(), types(1_000_000, |_| Vec::new())),
        ("exports".to_owned(), exports(100_000)),
        ("too many exports".to_owned(), exports(999_999)),
        ("functions".to_owned(), functions(50_000, 0)),
        ("locals".to_owned(), functions(40_000, 49_000)),
        ("imports".to_owned(), imports(900_000)),
        ("data segments".to_owned(), data(100_000)),
        ("custom sections".to_owned(), customs(3_000_000)),
        ("names".to_owned(), names(2_000_000)),
    ];
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../canisters/prebuilt")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            modules.push((path.display().to_string(), std::fs::read(path).unwrap()));
        }
    }
    modules.extend(BODIES.iter().map(|(name, times, write)| {
        let mut code = Vec::new();
        (0..*times).for_each(|_| write(&mut InstructionSink::new(&mut code)));
        (name.to_string(), one_function(&code))
    }));
    let mut nested = Vec::new();
    let mut sink = InstructionSink::new(&mut nested);
    for _ in 0..19_000 {
        sink.block(BlockType::Empty);
    }
    for _ in 0..19_000 {
        sink.end();
    }
    modules.push(("nested blocks".to_owned(), one_function(&nested)));
    modules
}

type Write = fn(&mut InstructionSink<'_>);

const AT: MemArg = MemArg { offset: 0, align: 0, memory_index: 0 };

/// What a body repeats, and how often.
const BODIES: &[(&str, usize, Write)] = &[
    ("nops", 900_000, |code| {
        code.nop();
    }),
    ("returns", 900_000, |code| {
        code.return_();
    }),
    ("unreachables", 900_000, |code| {
        code.unreachable();
    }),
    ("tail calls", 900_000, |code| {
        code.return_call_indirect(0, 0);
    }),
    ("loops", 19_000, |code| {
        code.loop_(BlockType::Empty).end();
    }),
    ("arms", 9_000, |code| {
        code.i32_const(0).if_(BlockType::Empty).else_().end();
    }),
    ("operands", 450_000, |code| {
        code.i32_const(0).drop();
    }),
    ("moved locals", 450_000, |code| {
        code.local_get(0).drop();
    }),
    ("moved tees", 300_000, |code| {
        code.i32_const(0).local_tee(0).drop();
    }),
    ("too many tees", 1_200_000, |code| {
        code.i32_const(0).local_tee(0).drop();
    }),
    ("stores", 190_000, |code| {
        code.i32_const(0).i32_const(0).i32_store(AT);
    }),
    ("fills", 190_000, |code| {
        code.i32_const(0).i32_const(0).i32_const(0).memory_fill(0);
    }),
    ("growths", 9_000, |code| {
        code.i32_const(0).memory_grow(0).drop();
    }),
    ("drops", 500_000, |code| {
        code.elem_drop(0);
    }),
    ("branch tables", 9_000, |code| {
        code.br_table(vec![0; 100], 0);
    }),
];

fn types(count: u32, params: impl Fn(u32) -> Vec<ValType>) -> Vec<u8> {
    let mut section = TypeSection::new();
    (0..count).for_each(|index| section.ty().function(params(index), []));
    let mut module = Module::new();
    module.section(&section);
    module.finish()
}

fn bits(index: u32) -> Vec<ValType> {
    (0..16).map(|bit| if index >> bit & 1 == 1 { ValType::I32 } else { ValType::I64 }).collect()
}

fn memory() -> MemorySection {
    let mut section = MemorySection::new();
    section.memory(MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    section
}

fn exports(count: u32) -> Vec<u8> {
    let mut section = ExportSection::new();
    for index in 0..count {
        // The shortest distinct names.
        let mut name = String::new();
        let mut rest = index;
        while name.is_empty() || rest > 0 {
            name.push(char::from(u8::try_from(33 + rest % 90).unwrap()));
            rest /= 90;
        }
        section.export(&name, ExportKind::Memory, 0);
    }
    let mut module = Module::new();
    module.section(&memory()).section(&section);
    module.finish()
}

fn functions(count: u32, locals: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
    for _ in 0..count {
        functions.function(0);
        let mut function = Function::new((locals > 0).then_some((locals, ValType::I32)));
        function.instructions().end();
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    module.finish()
}

fn imports(count: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    for _ in 0..count {
        imports.import("ic0", "msg_reply", EntityType::Function(0));
    }
    let mut module = Module::new();
    module.section(&types).section(&imports);
    module.finish()
}

fn data(count: u32) -> Vec<u8> {
    let mut section = DataSection::new();
    for _ in 0..count {
        section.passive([]);
    }
    let mut module = Module::new();
    module.section(&section);
    module.finish()
}

fn customs(count: u32) -> Vec<u8> {
    let mut module = Module::new();
    for _ in 0..count {
        module.section(&CustomSection { name: "".into(), data: (&[][..]).into() });
    }
    module.finish()
}

fn names(count: u32) -> Vec<u8> {
    let mut map = NameMap::new();
    (0..count).for_each(|index| map.append(index, ""));
    let mut section = NameSection::new();
    section.functions(&map);
    let mut module = Module::new();
    module.section(&section);
    module.finish()
}

/// A module with one function of one local, a memory, a table and an element segment.
fn one_function(code: &[u8]) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut tables = TableSection::new();
    tables.table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: 1,
        maximum: None,
        shared: false,
    });
    let mut elements = ElementSection::new();
    elements.passive(Elements::Functions(Vec::new().into()));
    let mut function = Function::new([(1, ValType::I32)]);
    function.raw(code.iter().copied());
    function.instructions().end();
    let mut section = CodeSection::new();
    section.function(&function);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&tables).section(&memory());
    module.section(&elements).section(&section);
    module.finish()
}
