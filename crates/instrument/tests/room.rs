//! Bounds of the rewriter's own, documented in `limits`: accepted just below, refused just above.

use bedstone_instrument::{Error, ErrorKind, Manifest, limits};
use wasm_encoder::{Module, TypeSection};

use crate::validation::{install, install_text, repeat};

#[track_caller]
fn too_large(result: Result<Manifest, Error>, kind: ErrorKind, message: &str) {
    let error = result.expect_err(message);
    assert_eq!((error.kind(), error.message()), (kind, message));
    assert!(error.offset().is_some(), "{error}");
}

#[test]
fn number_of_types() {
    let module = |count: u64| {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        (0..count).for_each(|_| types.ty().function([], []));
        module.section(&types);
        module.finish()
    };
    assert!(install(&module(limits::TYPES_MAX)).is_ok());
    let text = "Wasm module has 60001 types which exceeds the maximum number allowed 60000.";
    too_large(install(&module(limits::TYPES_MAX + 1)), ErrorKind::TooLarge, text);
}

#[test]
fn number_of_exports() {
    let module = |count: u64| {
        let mut module = Module::new();
        let mut globals = wasm_encoder::GlobalSection::new();
        let ty =
            wasm_encoder::GlobalType { val_type: wasm_encoder::ValType::I32, mutable: false, shared: false };
        globals.global(ty, &wasm_encoder::ConstExpr::i32_const(0));
        module.section(&globals);
        let mut exports = wasm_encoder::ExportSection::new();
        for index in 0..count {
            exports.export(&index.to_string(), wasm_encoder::ExportKind::Global, 0);
        }
        module.section(&exports);
        module.finish()
    };
    assert!(install(&module(limits::EXPORTS_MAX)).is_ok());
    let text = "Wasm module has 100001 exports which exceeds the maximum number allowed 100000.";
    too_large(install(&module(limits::EXPORTS_MAX + 1)), ErrorKind::TooLarge, text);
}

#[test]
fn locals_and_size_of_a_function() {
    let module =
        |locals: u64| format!("(module (func (param i32) (local {})))", repeat(locals, |_| "i64 ".into()));
    assert!(install_text(&module(limits::FUNCTION_LOCALS_MAX - 1)).is_ok());
    let text = "Wasm module has a function, number 0, of 49981 locals; the maximum is 49980.";
    too_large(install_text(&module(limits::FUNCTION_LOCALS_MAX)), ErrorKind::Refused, text);
    // A store takes some 24 bytes here and twice as many after rewriting.
    let store = "(i64.store offset=99999999 (i32.const -2000000000) (i64.const -9000000000000000000))";
    let stores = |count| format!("(module (memory 1) (func {}))", repeat(count, |_| store.into()));
    assert!(install_text(&stores(120_000)).is_ok());
    let error = install_text(&stores(200_000)).map(drop).unwrap_err();
    assert!(error.message().ends_with("bytes after rewriting; the maximum is 7654321."), "{error}");
}
