//! `bedstone instrument`: what the rewriter makes of a module.

use std::path::PathBuf;

use anyhow::Context;
use bedstone_instrument::{Config, Counter, Manifest, instrument};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::output::grouped;
use crate::{Global, module_file, output};

const EXAMPLES: &str = "\
Examples:
  bedstone instrument map.wasm -o map.native.wasm
  bedstone instrument map.wasm -o map.host.wasm --stable host";

/// Rewrite a module as it is before it is compiled, and say what was injected
///
/// The output is plain Wasm with two more memories, one of them the stable memory. It is for reading and measuring: only
/// the engine knows how to run it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Instrument {
    /// The module: .wasm, .wasm.gz or .wat
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// Where the rewritten module goes
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// Where the instruction counter is kept while code runs
    #[arg(long, value_enum, default_value_t = CounterPlace::Threaded)]
    counter: CounterPlace,
}

/// See [`Counter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CounterPlace {
    /// In a parameter and a result of every function
    Threaded,
    /// In a global
    Global,
}

impl Instrument {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let (input, out) = (self.input.display(), self.output.display());
        let wasm = module_file::read_plain(&self.input)?;
        let counter = match self.counter {
            CounterPlace::Threaded => Counter::Threaded,
            CounterPlace::Global => Counter::Global,
        };
        let config = Config { stable: global.stable.into(), counter, ..Config::default() };
        let (rewritten, manifest) = instrument(&wasm, &config)
            .map_err(|error| anyhow::anyhow!("{input} is not a canister's module: {error}"))?;
        std::fs::write(&self.output, &rewritten)
            .with_context(|| format!("the rewritten module cannot be written to {out}"))?;
        output::print(if global.json { json(&manifest) } else { text(&manifest) })
    }
}

fn json(manifest: &Manifest) -> String {
    let summary = &manifest.summary;
    let (module, code) = (summary.module_bytes, summary.code_bytes);
    json!({
        "module_bytes_before": module.0,
        "module_bytes_after": module.1,
        "code_bytes_before": code.0,
        "code_bytes_after": code.1,
        "functions_added": summary.functions_added,
        "stable_calls": summary.stable_calls,
        "stores_marked": summary.stores_marked,
        "stores_elided": summary.stores_elided,
        "blocks": summary.blocks,
    })
    .to_string()
}

fn text(manifest: &Manifest) -> String {
    let summary = &manifest.summary;
    let sizes = |(before, after): (usize, usize)| {
        let factor = after as f64 / before.max(1) as f64;
        format!("{} → {} bytes ({factor:.2}×)", grouped(before as u64), grouped(after as u64))
    };
    let stores = summary.stores_marked + summary.stores_elided;
    let lines = [
        ("module", sizes(summary.module_bytes)),
        ("code section", sizes(summary.code_bytes)),
        ("functions added", grouped(summary.functions_added)),
        ("stable calls", format!("{} call sites re-pointed", grouped(summary.stable_calls))),
        (
            "heap stores",
            format!(
                "{}, of which {} mark their page and {} share another's mark",
                grouped(stores),
                grouped(summary.stores_marked),
                grouped(summary.stores_elided)
            ),
        ),
        ("counted blocks", grouped(summary.blocks)),
    ];
    lines.map(|(label, value)| format!("{label:<17}{value}")).join("\n")
}
