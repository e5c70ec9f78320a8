//! `bedstone instrument`: what the rewriter makes of a module.

use std::path::PathBuf;

use anyhow::Context;
use bedstone_instrument::{Config, Counter, Explanation, Manifest, explain, explain::Store, instrument};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::output::grouped;
use crate::{Global, module_file, output};

const EXAMPLES: &str = "\
Examples:
  bedstone instrument map.wasm -o map.native.wasm
  bedstone instrument map.wasm -o map.host.wasm --stable host
  bedstone instrument map.wasm --explain | less";

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

    /// Where the rewritten module goes; may be left out with --explain
    #[arg(short, long, value_name = "OUT", required_unless_present = "explain")]
    output: Option<PathBuf>,

    /// Also list what was injected where, the size of each function before and after, and which stores mark their page
    #[arg(long)]
    explain: bool,

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
        let input = self.input.display();
        let wasm = module_file::read_plain(&self.input)?;
        let counter = match self.counter {
            CounterPlace::Threaded => Counter::Threaded,
            CounterPlace::Global => Counter::Global,
        };
        let (stable, tracker) = (global.stable.into(), global.tracker.into());
        let config = Config { stable, counter, tracker, ..Config::default() };
        let result = if self.explain {
            explain(&wasm, &config)
                .map(|(module, manifest, explanation)| (module, manifest, Some(explanation)))
        } else {
            instrument(&wasm, &config).map(|(module, manifest)| (module, manifest, None))
        };
        let (rewritten, manifest, explanation) =
            result.map_err(|error| anyhow::anyhow!("{input} is not a canister's module: {error}"))?;
        if let Some(out) = &self.output {
            std::fs::write(out, &rewritten)
                .with_context(|| format!("the rewritten module cannot be written to {}", out.display()))?;
        }
        output::print(if global.json {
            let mut summary = json(&manifest);
            if let Some(explanation) = &explanation {
                summary["explanation"] = explanation_json(explanation);
            }
            summary.to_string()
        } else {
            let mut lines = text(&manifest);
            if let Some(explanation) = &explanation {
                lines.push_str(&explanation_text(explanation));
            }
            lines
        })
    }
}

fn explanation_json(explanation: &Explanation) -> Value {
    let store = |store: &Store| json!({"offset": store.offset, "covered_by": store.covered_by});
    let injected: Vec<Value> = explanation
        .injected
        .iter()
        .map(|item| json!({"kind": item.kind, "index": item.index, "purpose": item.purpose}))
        .collect();
    let added: Vec<Value> = explanation
        .added
        .iter()
        .map(|added| json!({"index": added.index, "name": added.name, "code_bytes": added.code_bytes}))
        .collect();
    let functions: Vec<Value> = explanation
        .functions
        .iter()
        .map(|function| {
            json!({
                "index": function.index,
                "name": function.name,
                "offset": function.offset,
                "code_bytes_before": function.code_bytes.0,
                "code_bytes_after": function.code_bytes.1,
                "stores": function.stores.iter().map(store).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({"injected": injected, "added": added, "functions": functions})
}

fn explanation_text(explanation: &Explanation) -> String {
    let mut text = String::from("\n\ninjected\n");
    for item in &explanation.injected {
        text += &format!("  {:<8} {:>6}  {}\n", item.kind, item.index, item.purpose);
    }
    for added in &explanation.added {
        text += &format!(
            "  function {:>6}  {}, {} bytes\n",
            added.index,
            added.name,
            grouped(added.code_bytes as u64)
        );
    }
    text += "\nfunctions: index, bytes before → after, name; then each store by its offset in the module\n";
    for function in &explanation.functions {
        let (before, after) = function.code_bytes;
        let name = function.name.as_deref().unwrap_or_default();
        text += &format!(
            "{:>6}  {:>8} → {:<8} {name}\n",
            function.index,
            grouped(before as u64),
            grouped(after as u64)
        );
        for store in &function.stores {
            let what = match store.covered_by.map(|by| function.stores[by].offset) {
                None => "marks its page".to_owned(),
                Some(by) => format!("needs no mark: that of {by:#x} covers it"),
            };
            text += &format!("        {:#10x}  {what}\n", store.offset);
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn json(manifest: &Manifest) -> Value {
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
