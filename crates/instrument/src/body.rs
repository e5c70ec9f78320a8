//! Rewrites one function body: meters it, marks its stores, re-points its calls.
//!
//! The walk that validates the operators also adds up block costs (`meter`), decides about stores (`barrier`) and lists
//! what must change (`events`). Then the new code is written (`write`). Nothing of the function's own is renumbered except, under [`Counter::Threaded`], the first local after the
//! parameters: it gives its place to the counter, which is a parameter, and becomes the last.
//!
//! Code that can never run (from an unconditional branch to the end of its block) is left out: it needs no charge and no
//! mark, and a function made of nothing else could make the list of events large.
//!
//! Under [`Counter::Threaded`] the whole body stands in one block, so that branches to the function's own label keep
//! their depth and land before the code that returns the counter.

mod events;
mod write;

use wasmparser::FunctionBody;

use crate::barrier::{BarrierPlan, StoreMark};
use crate::cost::CostTable;
use crate::encode::{Layout, Types};
use crate::error::Error;
use crate::explain;
use crate::info::{ModuleInfo, is_external_reference};
use crate::limits;
use crate::validate::{self, Body};
use crate::walk;

use events::{Edit, Event, Walk};
pub(crate) use write::CodeBytes;

/// Numbers gathered over all functions.
#[derive(Debug, Default)]
pub(crate) struct BodyStats {
    pub stores_marked: u64,
    pub stores_elided: u64,
    pub blocks: u64,
    pub stable_calls: u32,
    /// Whether a local or an instruction makes an `externref`.
    pub external_references: bool,
    /// Production's count of instructions after its own instrumentation, the base of the compile charge.
    pub compiled_instructions: u64,
}

/// Rewrites bodies of one module, reusing its buffers.
pub(crate) struct BodyRewriter<'a, 'm> {
    info: &'a ModuleInfo<'m>,
    layout: &'a Layout,
    prices: &'a CostTable,
    plan: BarrierPlan<'a, 'm>,
    events: Vec<Event>,
    walk: Walk,
    types: Types,
    code: CodeBytes,
    /// The first function that became too large, reported after all other faults.
    fault: Option<Error>,
    /// One function's new code.
    buffer: Vec<u8>,
    stats: BodyStats,
    /// What was done, if anybody asked.
    notes: Option<Vec<explain::Rewritten>>,
}

/// What rewriting all bodies gives.
pub(crate) struct Rewritten {
    pub types: Types,
    pub code: CodeBytes,
    pub stats: BodyStats,
    pub notes: Option<Vec<explain::Rewritten>>,
}

impl<'a, 'm> BodyRewriter<'a, 'm> {
    /// `types` are those of the module so far; with `explain`, what is done is noted.
    pub fn new(
        info: &'a ModuleInfo<'m>,
        layout: &'a Layout,
        prices: &'a CostTable,
        types: Types,
        explain: bool,
    ) -> Self {
        Self {
            info,
            layout,
            prices,
            plan: BarrierPlan::new(info),
            events: Vec::new(),
            walk: Walk::new(0),
            types,
            code: CodeBytes {
                bytes: Vec::with_capacity(info.code_section.as_ref().map_or(0, |code| code.len() * 7 / 4)),
            },
            fault: None,
            buffer: Vec::new(),
            stats: BodyStats::default(),
            notes: explain.then(Vec::new),
        }
    }

    /// What came of the bodies, all of which were handed to it.
    ///
    /// # Errors
    /// If a function is too large for what must be added.
    pub fn finish(self) -> Result<Rewritten, Error> {
        match self.fault {
            Some(fault) => Err(fault),
            None => {
                let Self { types, code, stats, notes, .. } = self;
                Ok(Rewritten { types, code, stats, notes })
            }
        }
    }

    /// Walks over a function, then writes it anew; for [`validate::validate`].
    pub fn rewrite(&mut self, body: Body<'_, '_>) -> Result<Option<Error>, Error> {
        let (info, code, index) = (self.info, body.code, body.index);
        let type_index = info.functions[index];
        let ty = &info.types[type_index as usize];
        let params = u32::try_from(ty.params().len()).expect("the validator bounds parameters at 1,000");
        let mut groups = Vec::new();
        let mut declared = 0_u64;
        for group in code.get_locals_reader()? {
            let (count, ty) = group?;
            declared += u64::from(count);
            self.stats.external_references |= is_external_reference(ty);
            groups.push((count, ty));
        }
        let all = u64::from(params) + declared;
        if all > limits::FUNCTION_LOCALS_MAX {
            let fault = validate::validate_body(body)?;
            let most = limits::FUNCTION_LOCALS_MAX;
            self.fault.get_or_insert_with(|| too_large(index, all, "locals", most).at(code.range().start));
            return Ok(fault);
        }
        let all = u32::try_from(all).expect("compared with the limit");

        self.plan.begin(all as usize, ty.results().len());
        self.events.clear();
        self.walk = Walk::new(params);
        walk::walk(body, self)?;
        self.stats.compiled_instructions += self.walk.compiled;
        for mark in self.plan.marks() {
            match mark {
                StoreMark::Mark { .. } => self.stats.stores_marked += 1,
                StoreMark::Covered { .. } => self.stats.stores_elided += 1,
            }
        }
        let fault = self.walk.seen.fault(index, code.range().start);
        if fault.is_none() && self.fault.is_none() {
            self.write(code, index, type_index, all, groups)?;
        }
        Ok(fault)
    }

    /// Notes what became of function `index`.
    fn note(&mut self, body: &FunctionBody<'_>, index: usize, bytes: usize) {
        let Some(notes) = &mut self.notes else { return };
        let stores = self.events.iter().filter(|event| matches!(event.edit, Edit::Store(_)));
        notes.push(explain::Rewritten {
            index: self.layout.imports + u32::try_from(index).expect("the parser bounds functions"),
            name: None,
            offset: body.range().start,
            code_bytes: (body.range().len(), bytes),
            stores: stores
                .zip(self.plan.marks())
                .map(|(event, mark)| explain::Store::new(event.at as usize, *mark))
                .collect(),
        });
    }
}

fn too_large(function: usize, count: u64, what: &str, most: u64) -> Error {
    let text =
        format!("Wasm module has a function, number {function}, of {count} {what}; the maximum is {most}.");
    Error::refused(text)
}
