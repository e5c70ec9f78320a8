//! Golden tests: what modules look like after rewriting.
//!
//! Each `golden/*.wat` starts with a line that says how it is rewritten, goes on with a module, and ends, after a line
//! `;; becomes`, with the result: the canister's own functions only, or everything if the first line says `all`.
//! `BLESS=1 cargo test -p bedstone-instrument` writes the results anew; read the difference before you commit it.

use std::path::Path;

use bedstone_instrument::abi::INJECTED;
use bedstone_instrument::{Config, Counter, StableAccess, instrument};

const BECOMES: &str = "\n;; becomes\n";

#[test]
fn golden_modules() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let bless = std::env::var_os("BLESS").is_some();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let (source, expected) = text.split_once(BECOMES).unwrap_or((text.trim_end(), ""));
        let result = result(source);
        if bless {
            std::fs::write(&path, format!("{source}{BECOMES}{result}")).unwrap();
        } else {
            assert!(
                expected == result,
                "{}: the result differs; BLESS=1 shows how\n{result}",
                path.display()
            );
        }
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} golden modules were found");
}

fn result(source: &str) -> String {
    let words: Vec<&str> = source.lines().next().unwrap().split_whitespace().collect();
    let config = Config {
        stable: if words.contains(&"host") { StableAccess::Host } else { StableAccess::Native },
        counter: if words.contains(&"threaded") { Counter::Threaded } else { Counter::Global },
        allow_multi_memory: words.contains(&"several"),
        ..Config::default()
    };
    let wasm = wat::parse_str(source).unwrap();
    let (rewritten, _) = instrument(&wasm, &config).unwrap();
    let printed = wasmprinter::print_bytes(&rewritten).unwrap();
    if words.contains(&"all") { printed } else { own_functions(&printed) }
}

/// The functions that are the canister's own: printed functions begin at two spaces and end with a line `  )`.
fn own_functions(printed: &str) -> String {
    let mut own = String::new();
    let mut inside = false;
    for line in printed.lines() {
        let starts = line.starts_with("  (func ");
        if starts {
            inside = !line.contains(INJECTED);
        }
        if inside {
            own.push_str(line);
            own.push('\n');
        }
        if line == "  )" || (starts && line.ends_with("))")) {
            inside = false;
        }
    }
    own
}
