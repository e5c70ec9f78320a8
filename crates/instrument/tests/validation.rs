//! Every rule for modules: accepted just below, refused just above, with the text.

use bedstone_instrument::abi::{DeclaredMemory, Lifetime};
use bedstone_instrument::entry_points::{MethodKind, Visibility};
use bedstone_instrument::{Config, Error, ErrorKind, Manifest, instrument, limits};
use wasm_encoder::{CodeSection, CustomSection, Function, FunctionSection, Module, TypeSection};

pub fn install(wasm: &[u8]) -> Result<Manifest, Error> {
    let config = Config { revalidate: false, ..Config::default() };
    instrument(wasm, &config).map(|(_, manifest)| manifest)
}

pub fn install_text(text: &str) -> Result<Manifest, Error> {
    install(&wat::parse_str(text).unwrap_or_else(|error| panic!("{text}: {error}")))
}

#[track_caller]
fn accepted(text: &str) -> Manifest {
    install_text(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Refused by a rule of the IC's, with exactly this message.
#[track_caller]
fn refused(text: &str, message: &str) {
    let error = install_text(text).expect_err(text);
    assert_eq!(error.message(), message, "{text}");
    assert_eq!(error.kind(), ErrorKind::Refused);
}

/// Not valid Wasm for the IC; the message holds this.
#[track_caller]
fn invalid(text: &str, message: &str) {
    let error = install_text(text).expect_err(text);
    assert!(error.message().contains(message), "{text}: {error}");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error}");
    assert!(error.offset().is_some(), "{text}: {error}");
}

pub fn repeat(count: u64, item: impl Fn(u64) -> String) -> String {
    (0..count).map(item).collect()
}

// Rule 1: format.

#[test]
fn format() {
    let not_wasm = |bytes: &[u8], message: &str| {
        let error = install(bytes).expect_err(message);
        assert_eq!((error.kind(), error.message()), (ErrorKind::NotWasm, message));
    };
    not_wasm(b"", "Not a Wasm module: there are no bytes.");
    not_wasm(b"hello", "Not a Wasm module: it does not start with `\\0asm`.");
    not_wasm(b"\0as", "Not a Wasm module: it does not start with `\\0asm`.");
    not_wasm(&[0x1f, 0x8b, 8, 0], "Not a Wasm module: the bytes are compressed with gzip.");
    not_wasm(b"\0asm\x0d\0\x01\0", "Not a core Wasm module: it is a component.");
    let error = install(b"\0asm\x02\0\0\0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "Wasm module is not valid: unknown binary version:        0x2 (at offset 0x4)"
    );
    accepted("(module)");
}

#[test]
fn module_size() {
    let limit = usize::try_from(limits::MODULE_BYTES_MAX).unwrap();
    // The section's frame: id, size in 4 bytes, length of the name.
    let data = vec![0; limit - 8 - 1 - 4 - 1];
    let mut module = Module::new();
    module.section(&CustomSection { name: "".into(), data: data.into() });
    let mut wasm = module.finish();
    assert_eq!(wasm.len(), limit);
    install(&wasm).unwrap();
    wasm.push(0);
    let error = install(&wasm).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        error.to_string(),
        "Wasm module size of 104857601 exceeds the maximum allowed size of 104857600."
    );
}

// Rule 2: code section.

/// A module of a code section whose bodies, with their sizes, take `bytes`; made of long constants.
fn code_section(bytes: usize) -> Vec<u8> {
    const FUNCTIONS: usize = 16;
    const PAIR: usize = 2 + 16 + 1; // v128.const, drop
    let share = bytes / FUNCTIONS;
    let mut rest = bytes;
    let mut code = CodeSection::new();
    for index in 0..FUNCTIONS {
        // Size of the body in 3 bytes, no locals, pairs, nops for what is left, end.
        let len = if index + 1 == FUNCTIONS { rest - 3 } else { share - 3 };
        let pairs = (len - 2) / PAIR;
        let mut function = Function::new([]);
        for _ in 0..pairs {
            function.instructions().v128_const(7).drop();
        }
        function.raw(std::iter::repeat_n(0x01, len - 2 - pairs * PAIR));
        function.instructions().end();
        code.function(&function);
        rest -= len + 3;
    }
    let mut types = TypeSection::new();
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    (0..FUNCTIONS).for_each(|_| {
        functions.function(0);
    });
    Module::new().section(&types).section(&functions).section(&code).clone().finish()
}

#[test]
fn code_section_size() {
    let limit = usize::try_from(limits::CODE_SECTION_BYTES_MAX).unwrap();
    install(&code_section(limit)).unwrap();
    let error = install(&code_section(limit + 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(
        error.message(),
        "Wasm module code section size of 11534337 exceeds the maximum allowed size of 11534336"
    );
}

// Rule 3: features.

#[test]
fn features_that_are_on() {
    accepted("(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))");
    accepted("(module (memory i64 1) (func (drop (i32.load (i64.const 0)))))");
    accepted("(module (table 1 funcref) (func (drop (ref.is_null (table.get (i32.const 0))))))");
    accepted("(module (func (drop (ref.is_null (ref.null extern)))))");
    accepted("(module (func $f return_call $f))");
    accepted("(module (func (drop (i8x16.splat (i32.const 1)))))");
    accepted("(module (func (result i32 i32) i32.const 1 i32.const 2))");
    accepted("(module (func (drop (i32.extend8_s (i32.const 1)))))");
    accepted("(module (func (drop (i32.trunc_sat_f32_s (f32.const 1)))))");
    accepted("(module (global (export \"g\") (mut i32) (i32.const 1)))");
}

#[test]
fn features_that_are_off() {
    invalid("(module (memory 1) (memory 1))", "multiple memories");
    invalid(
        "(module (func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0)))))",
        "relaxed",
    );
    invalid("(module (type (struct)))", "gc");
    invalid("(module (type $f (func)) (func (param (ref $f))))", "function references");
    invalid("(module (global i32 (i32.add (i32.const 1) (i32.const 2))))", "constant expression");
    invalid("(module (memory 1 1 shared))", "threads");
    invalid("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "threads");
    invalid("(module (tag))", "exceptions");
    invalid("(module (memory 1 (pagesize 1)))", "page size");
    invalid(
        "(module (func (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)) drop drop))",
        "wide",
    );
}

#[test]
fn wasm_validation_comes_before_the_rules() {
    let import = "(import \"ic0\" \"nothing\" (func))";
    invalid(&format!("(module {import} (func (result i32)))"), "type mismatch");
    invalid("(module (func (export \"canister_\") (result i32)))", "type mismatch");
}

// Rule 4: imports.

#[test]
fn imported_functions() {
    let unknown = |module: &str, name: &str| {
        format!(
            "Wasm module has an invalid import section. Module imports function '{name}' from '{module}' that is not \
             exported by the runtime."
        )
    };
    accepted("(module (import \"ic0\" \"msg_reply\" (func)))");
    refused("(module (import \"ic0\" \"msg_replied\" (func)))", &unknown("ic0", "msg_replied"));
    refused("(module (import \"wasi\" \"fd_write\" (func)))", &unknown("wasi", "fd_write"));
    refused(
        "(module (import \"env\" \"msg_reply\" (func)))",
        "Wasm module has an invalid import section. Module imports function \"msg_reply\" from \"env\", expected to be \
         imported from one of [\"ic0\"] instead.",
    );
    refused(
        "(module (import \"ic0\" \"msg_reply\" (func (param i32))))",
        "Wasm module has an invalid function signature. Expected input params [] for 'msg_reply', got [I32].",
    );
    refused(
        "(module (import \"ic0\" \"time\" (func (result i32))))",
        "Wasm module has an invalid function signature. Expected return type [I64] for 'time', got [I32].",
    );
    // Pointers and the older functions depend on the width of the memory.
    let copy = |ty: &str, memory: &str| {
        format!("(module (import \"ic0\" \"msg_caller_copy\" (func (param {ty} {ty} {ty}))) {memory})")
    };
    accepted(&copy("i32", ""));
    accepted(&copy("i32", "(memory 1)"));
    accepted(&copy("i64", "(memory i64 1)"));
    refused(
        &copy("i32", "(memory i64 1)"),
        "Wasm module has an invalid function signature. Expected input params [I64, I64, I64] for 'msg_caller_copy', \
         got [I32, I32, I32].",
    );
    accepted("(module (import \"ic0\" \"stable_size\" (func (result i32))) (memory 1))");
    refused(
        "(module (import \"ic0\" \"stable_size\" (func (result i32))) (memory i64 1))",
        &unknown("ic0", "stable_size"),
    );
}

#[test]
fn all_system_functions_are_accepted() {
    for function in bedstone_instrument::system_api::all() {
        for (memory64, memory) in [(false, "(memory 1)"), (true, "(memory i64 1)")] {
            let ty = function.func_type(memory64);
            let words =
                |types: &[wasmparser::ValType]| types.iter().map(|ty| format!("{ty} ")).collect::<String>();
            let (params, results) = (words(ty.params()), words(ty.results()));
            let name = function.name;
            let text = format!(
                "(module (import \"ic0\" \"{name}\" (func (param {params}) (result {results}))) {memory})"
            );
            assert_eq!(install_text(&text).is_ok(), !(memory64 && function.wasm32_only), "{text}");
        }
    }
}

#[test]
fn other_imports() {
    let section = |text: &str| format!("Wasm module has an invalid import section. {text}");
    accepted("(module (import \"env\" \"memory\" (memory 1)))");
    refused(
        "(module (import \"env\" \"heap\" (memory 1)))",
        &section("Only memory imported from env.memory is allowed."),
    );
    accepted("(module (import \"env\" \"table\" (table 1 funcref)))");
    refused(
        "(module (import \"ic0\" \"table\" (table 1 funcref)))",
        &section("Only tables imported from env.table are allowed."),
    );
    refused("(module (import \"env\" \"g\" (global i32)))", &section("Importing globals is not allowed."));
    invalid("(module (import \"env\" \"t\" (tag)))", "exceptions");
}

// Rule 5: exports.

#[test]
fn entry_points_are_found() {
    let manifest = accepted(
        "(module (import \"ic0\" \"msg_reply\" (func $reply)) (func $f)
           (export \"canister_update a b\" (func $f)) (export \"canister_query \" (func $f))
           (export \"canister_composite_query c\" (func $reply))
           (export \"canister_init\" (func $f)) (export \"canister_pre_upgrade\" (func $f))
           (export \"canister_post_upgrade\" (func $f)) (export \"canister_inspect_message\" (func $f))
           (export \"canister_heartbeat\" (func $f)) (export \"canister_global_timer\" (func $f))
           (export \"canister_on_low_wasm_memory\" (func $f)) (export \"other\" (func $f)))",
    );
    let entry = manifest.entry_points;
    assert_eq!(entry.method("a b"), Some((MethodKind::Update, 1)));
    assert_eq!(entry.method(""), Some((MethodKind::Query, 1)));
    assert_eq!(entry.method("c"), Some((MethodKind::CompositeQuery, 0)));
    assert_eq!(entry.method("other"), None);
    let system = [
        entry.init,
        entry.pre_upgrade,
        entry.post_upgrade,
        entry.inspect_message,
        entry.heartbeat,
        entry.global_timer,
        entry.on_low_wasm_memory,
    ];
    assert_eq!(system, [Some(1); 7]);
    assert!(
        entry.is_entry("canister_update a b") && entry.is_entry("canister_init") && !entry.is_entry("other")
    );
    assert!(!entry.is_entry("canister_query a b"));
}

#[test]
fn reserved_exports() {
    let section = |text: &str| format!("Wasm module has an invalid export section. {text}");
    for name in [
        "canister counter_instructions",
        "canister counter_dirty_pages",
        "canister counter_accessed_pages",
        "canister_start",
        "stable_memory",
        "stable_bytemap_memory",
    ] {
        let message = section(&format!("Exporting reserved symbol {name} not allowed."));
        refused(&format!("(module (func (export \"{name}\")))"), &message);
        refused(&format!("(module (memory (export \"{name}\") 1))"), &message);
    }
    accepted("(module (func (export \"canister counter\")))");
    for name in ["canister_update", "canister_", "canister_updates x", "canister_init ", "canister_query:x"] {
        let message = section(&format!("Exporting reserved function '{name}' with \"canister_\" prefix"));
        refused(&format!("(module (func (export \"{name}\")))"), &message);
    }
    accepted("(module (func (export \"canisters_update\")))");
    accepted("(module (global (export \"canister_anything\") i32 (i32.const 0)))");
}

#[test]
fn entry_point_types() {
    let signature = |text: &str| format!("Wasm module has an invalid function signature. Expected {text}.");
    accepted("(module (func (export \"canister_heartbeat\")))");
    accepted("(module (func (export \"heartbeat\") (param i32)))");
    refused(
        "(module (func (export \"canister_update t\") (param i32)))",
        &signature("input params [] for 'canister_update t', got [I32]"),
    );
    refused(
        "(module (func (export \"canister_init\") (result i64) i64.const 0))",
        &signature("return type [] for 'canister_init', got [I64]"),
    );
    refused(
        "(module (import \"ic0\" \"time\" (func (result i64))) (export \"canister_query t\" (func 0)))",
        &signature("return type [] for 'canister_query t', got [I64]"),
    );
}

#[test]
fn methods_of_one_name() {
    for (first, second) in [("update", "query"), ("query", "composite_query"), ("composite_query", "update")]
    {
        refused(
            &format!(
                "(module (func $f) (export \"canister_{first} t\" (func $f)) (export \"canister_{second} t\" (func $f)))"
            ),
            "Wasm module has an invalid export section. Duplicate function 't' exported multiple times with different \
             call types: update, query, or composite_query.",
        );
    }
    accepted(
        "(module (func $f) (export \"canister_update t\" (func $f)) (export \"canister_query u\" (func $f)))",
    );
}

#[test]
fn number_and_names_of_methods() {
    let methods = |count, width: usize, last: &str| {
        let exports = repeat(count, |index| format!("(export \"canister_query {index:0width$}\" (func 0))"));
        format!("(module (func) {exports} (export \"canister_update {last}\" (func 0)))")
    };
    const METHODS: &str = "exported functions called `canister_update <name>`, `canister_query <name>`, or \
                           `canister_composite_query <name>`";
    accepted(&methods(999, 3, "x"));
    refused(
        &methods(1000, 3, "x"),
        &format!("Wasm module has an invalid export section. The number of {METHODS} exceeds 1000."),
    );
    accepted(&methods(999, 20, "twenty bytes of name"));
    refused(
        &methods(999, 20, "twenty bytes of names"),
        &format!(
            "Wasm module has an invalid export section. The sum of `<name>` lengths in {METHODS} exceeds 20000."
        ),
    );
}

// Rule 6: data.

#[test]
fn data_segments() {
    let section = |text: &str| format!("Wasm module has an invalid data section. {text}");
    accepted(
        "(module (memory 1) (data (i32.const 65533) \"abc\") (data (i32.const 65536) \"\") (data \"passive\"))",
    );
    refused(
        "(module (memory 1) (data (i32.const 65534) \"abc\"))",
        &section("Data segment of 3 bytes at 65534 exceeds the initial memory of 65536 bytes."),
    );
    refused(
        "(module (memory 0) (data (i32.const -1) \"\"))",
        &section("Data segment of 0 bytes at 4294967295 exceeds the initial memory of 0 bytes."),
    );
    accepted("(module (memory i64 1) (data (i64.const 65533) \"abc\"))");
    refused(
        "(module (memory i64 1) (data (i64.const -1) \"abc\"))",
        &section(
            "Data segment of 3 bytes at 18446744073709551615 exceeds the initial memory of 65536 bytes.",
        ),
    );
    accepted("(module (import \"env\" \"memory\" (memory 1)) (data (i32.const 65533) \"abc\"))");
    invalid("(module (memory 1) (data (i64.const 0) \"abc\"))", "type mismatch");
    invalid(
        "(module (memory 1) (global i32 (i32.const 0)) (data (global.get 0) \"abc\"))",
        "constant expression required",
    );
    invalid(
        "(module (memory 1) (data (i32.add (i32.const 0) (i32.const 1)) \"abc\"))",
        "constant expression",
    );
}

// Rule 7: globals and functions.

#[test]
fn globals() {
    let globals = |count| format!("(module {})", repeat(count, |_| "(global i32 (i32.const 0))".to_owned()));
    accepted(&globals(1000));
    refused(
        &globals(1001),
        "Wasm module defined 1001 globals which exceeds the maximum number allowed 1000.",
    );
    accepted(
        "(module (global i32 (i32.const 0)) (global i64 (i64.const 0)) (global f32 (f32.const 0))
           (global f64 (f64.const 0)) (global (mut v128) (v128.const i64x2 0 0)))",
    );
    refused(
        "(module (global funcref (ref.null func)))",
        "Wasm module has an invalid global section. Unsupported global type: funcref",
    );
}

#[test]
fn functions() {
    let import = "(import \"ic0\" \"msg_reply\" (func))";
    let functions = |count| format!("(module {import} {})", repeat(count, |_| "(func)".to_owned()));
    accepted(&functions(50_000));
    refused(
        &functions(50_001),
        "Wasm module defined 50001 functions which exceeds the maximum number allowed 50000.",
    );
}

// Rule 8, and tables.

#[test]
fn memories_and_tables() {
    accepted("(module (memory i64 98304))");
    refused(
        "(module (memory i64 98305))",
        "Wasm module has an invalid memory section. Initial size of 98305 Wasm pages exceeds the maximum allowed size \
         of 98304 for a 64-bit memory.",
    );
    accepted("(module (memory 65536))");
    accepted("(module (memory i64 1 281474976710656))");
    accepted("(module (table 1000000 funcref))");
    refused(
        "(module (table 1000001 funcref))",
        "Wasm module defined a table of 1000001 elements which exceeds the maximum number allowed 1000000.",
    );
    refused(
        "(module (table 1 funcref) (table 1 funcref))",
        "Wasm module defined 2 tables which exceeds the maximum number allowed 1.",
    );
}

// Several memories: refused unless asked for.

fn install_several(text: &str) -> Result<Manifest, Error> {
    let config = Config { allow_multi_memory: true, ..Config::default() };
    instrument(&wat::parse_str(text).unwrap(), &config).map(|(_, manifest)| manifest)
}

#[test]
fn several_memories() {
    let accepted = |text: &str| install_several(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let refused = |text: &str, message: &str| {
        let error = install_several(text).expect_err(text);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, message), "{text}");
        assert!(error.offset().is_some(), "{text}: {error}");
        invalid(text, "multiple memories");
    };
    let manifest = accepted(
        "(module (import \"env\" \"memory\" (memory i64 2)) (memory 1 7) (memory i64 0 9)
           (data (memory 1) (i32.const 65533) \"abc\") (data (i64.const 4) \"d\"))",
    );
    let memory = |index, memory64, wasm_pages_min, wasm_pages_max| DeclaredMemory {
        index,
        lifetime: Lifetime::Heap,
        memory64,
        wasm_pages_min,
        wasm_pages_max,
    };
    assert_eq!(
        manifest.memories,
        [memory(0, true, 2, None), memory(1, false, 1, Some(7)), memory(2, true, 0, Some(9))]
    );
    assert_eq!(manifest.names.heaps, ["bedstone:heap", "bedstone:heap 1", "bedstone:heap 2"]);
    let places: Vec<_> = manifest.data.iter().map(|data| (data.memory, data.offset)).collect();
    assert_eq!(places, [(1, 65533), (0, 4)]);

    // The rules for the one memory hold for each.
    refused(
        "(module (memory 2) (memory 1) (data (memory 1) (i32.const 65536) \"a\"))",
        "Wasm module has an invalid data section. Data segment of 1 bytes at 65536 exceeds the initial memory of 65536 \
         bytes.",
    );
    refused(
        "(module (memory 1) (memory i64 98305))",
        "Wasm module has an invalid memory section. Initial size of 98305 Wasm pages exceeds the maximum allowed size \
         of 98304 for a 64-bit memory.",
    );
    refused(
        "(module (import \"env\" \"memory\" (memory 1)) (import \"env\" \"memory\" (memory 1)))",
        "Wasm module has an invalid import section. The memory env.memory is imported more than once.",
    );
    let memories = |count| format!("(module {})", repeat(count, |_| "(memory 1)".to_owned()));
    accepted(&memories(98));
    refused(&memories(99), "Wasm module has 99 memories which exceeds the maximum number allowed 98.");
}

/// The system API works on memory 0: its width decides about types and about the older functions.
#[test]
fn memory_0_decides_about_imports() {
    let module = |name: &str, ty: &str, memories: &str| {
        format!("(module (import \"ic0\" \"{name}\" (func {ty})) {memories})")
    };
    let several = ["(memory 1) (memory i64 1)", "(memory i64 1) (memory 1)"];
    for (name, ty, allowed) in [
        ("stable_size", "(result i32)", [true, false]),
        ("msg_caller_copy", "(param i32 i32 i32)", [true, false]),
        ("msg_caller_copy", "(param i64 i64 i64)", [false, true]),
    ] {
        let found = several.map(|memories| install_several(&module(name, ty, memories)).is_ok());
        assert_eq!(found, allowed, "{name}");
    }
}

// Rule 9: function bodies.

/// A second function whose body is `count` times `item`, then nops.
fn body(count: usize, item: &str, nops: usize) -> String {
    format!("(module (table 1 funcref) (func) (func {} {}))", item.repeat(count), "nop ".repeat(nops))
}

#[test]
fn complexity() {
    let too_complex = |complexity: u64| {
        format!(
            "Wasm module contains a function at index 1 with complexity {complexity} which exceeds the maximum \
             complexity allowed 1000000"
        )
    };
    // A block counts 50, its `end` 1, as does that of the function.
    accepted(&body(19_607, "block end ", 42));
    refused(&body(19_607, "block end ", 43), &too_complex(1_000_001));
    accepted(&body(0, "", 999_999));
    refused(&body(0, "", 1_000_000), &too_complex(1_000_001));
    // A vector operator counts 1.
    accepted(&body(249_999, "i32.const 0 i8x16.splat i8x16.neg drop ", 3));
    refused(&body(249_999, "i32.const 0 i8x16.splat i8x16.neg drop ", 4), &too_complex(1_000_001));
}

#[test]
fn unsupported_instructions() {
    let unsupported = |name: &str| {
        format!("Wasm module contains a function at index 0 with unsupported instruction {name}.")
    };
    let module = |body: &str| {
        format!("(module (table 1 funcref) (elem $e funcref (ref.null func)) (func {body} nop))")
    };
    let (null, zero) = ("(ref.null func)", "(i32.const 0)");
    accepted(&module("(drop (table.get (i32.const 0))) (drop (table.size)) (elem.drop $e)"));
    for (name, body) in [
        ("table.set", format!("(table.set {zero} {null})")),
        ("table.grow", format!("(drop (table.grow {null} {zero}))")),
        ("table.fill", format!("(table.fill {zero} {null} {zero})")),
        ("table.copy", format!("(table.copy {zero} {zero} {zero})")),
        ("table.init", format!("(table.init $e {zero} {zero} {zero})")),
    ] {
        refused(&module(&body), &unsupported(name));
    }
}

// Rule 10: metadata.

fn with_custom(sections: &[(String, usize)]) -> Vec<u8> {
    let mut module = Module::new();
    for (name, bytes) in sections {
        module.section(&CustomSection { name: name.into(), data: vec![7; *bytes].into() });
    }
    module.finish()
}

fn custom(name: &str) -> Result<Manifest, Error> {
    install(&with_custom(&[(name.to_owned(), 3)]))
}

#[test]
fn metadata_names() {
    let kept = |name: &str| {
        let manifest = custom(name).unwrap();
        manifest.metadata.into_iter().map(|section| (section.visibility, section.name, section.data)).next()
    };
    let data = vec![7; 3];
    assert_eq!(kept("icp:public a b"), Some((Visibility::Public, "a b".to_owned(), data.clone())));
    assert_eq!(kept("icp:private "), Some((Visibility::Private, String::new(), data)));
    for ignored in ["name2", "icp", " icp:public x", "ICP:public x"] {
        assert_eq!(kept(ignored), None);
    }
    let section = |text: &str| format!("Wasm module has an invalid custom section. {text}");
    for name in ["icp:public", "icp:private"] {
        let text = section("'icp:' section names must have a space after the public/private scope");
        assert_eq!(custom(name).unwrap_err().message(), text);
    }
    for name in ["icp:", "icp:secret x", "icp:publicx", "icp: public x"] {
        let text =
            format!("Invalid custom section: Custom section '{name}' has no public/private scope defined.");
        assert_eq!(custom(name).unwrap_err().message(), section(&text));
    }
}

#[test]
fn number_and_size_of_metadata() {
    let named =
        |count: usize| -> Vec<_> { (0..count).map(|index| (format!("icp:public {index}"), 0)).collect() };
    assert_eq!(install(&with_custom(&named(16))).unwrap().metadata.len(), 16);
    assert_eq!(
        install(&with_custom(&named(17))).unwrap_err().message(),
        "Wasm module defined 17 custom sections which exceeds the maximum number allowed 16."
    );
    let twice = ["icp:public x", "icp:private x"].map(|name| (name.to_owned(), 0));
    assert_eq!(
        install(&with_custom(&twice)).unwrap_err().message(),
        "Wasm module has an invalid custom section. Invalid custom section: name x already exists"
    );
    let sized = |bytes| [("icp:public a".to_owned(), 1000), ("icp:private b".to_owned(), bytes)];
    install(&with_custom(&sized((1 << 20) - 1002))).unwrap();
    let error = install(&with_custom(&sized((1 << 20) - 1001))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(
        error.message(),
        "Wasm module has an invalid custom section. Invalid custom sections: total size of the custom sections exceeds \
         the maximum allowed: size 1048577 bytes, allowed 1048576 bytes"
    );
}

// Where.

#[test]
fn errors_say_where() {
    let offset = |text: &str, needle: &[u8]| {
        let wasm = wat::parse_str(text).unwrap();
        let found = wasm.windows(needle.len()).position(|window| window == needle).unwrap();
        let error = install(&wasm).unwrap_err();
        assert_eq!(error.offset(), Some(found), "{text}: {error}");
        assert!(error.to_string().ends_with(&format!("(at offset {found:#x})")), "{error}");
    };
    offset("(module (import \"ic0\" \"nothing\" (func)))", b"\x03ic0\x07nothing");
    offset("(module (func (export \"canister_\")))", b"canister_");
    offset("(module (memory 0) (data (i32.const 5) \"abcd\"))", b"abcd");
    offset("(module (table 1 funcref) (func (table.set (i32.const 0) (ref.null func))))", &[0x26, 0]);
    offset("(module (memory i64 98305))", &[1, 4, 0x81, 0x80, 6]);
    offset("(module (@custom \"icp:x\" \"\"))", b"icp:x");
}

#[test]
fn globals_are_listed_as_snapshots_list_them() {
    use bedstone_instrument::abi::{GlobalKind, ListedGlobal};
    let manifest = accepted(
        r#"(module
          (global $hidden (mut i64) (i64.const 6))
          (global $constant i32 (i32.const -5))
          (global $shown (mut f32) (f32.const 1.5))
          (global f64 (f64.const 2))
          (global $wide v128 (v128.const i64x2 1 2))
          (global (mut v128) (v128.const i64x2 0 0))
          (export "b" (global $shown)) (export "a" (global $constant)) (export "again" (global $shown))
          (export "w" (global $wide)))"#,
    );
    let saved = |kind, slot| ListedGlobal::Saved { kind, slot };
    let expected = [
        saved(GlobalKind::F32, 1),
        ListedGlobal::Constant { kind: GlobalKind::I32, bits: 0xffff_fffb },
        saved(GlobalKind::F32, 1),
        ListedGlobal::Constant { kind: GlobalKind::V128, bits: 2 << 64 | 1 },
        saved(GlobalKind::I64, 0),
        saved(GlobalKind::V128, 2),
    ];
    assert_eq!(manifest.listed_globals, expected);
}
