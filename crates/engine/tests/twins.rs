//! One program-running canister in every mode at once, and its model: they agree after every message or the test fails.

use bedstone_engine::{Engine, Entry, Outcome, Response};

use crate::machine::{self, Effects, Model, Step, Stop, assert_same, pages_changed};
use crate::support::{MODES, Subject};

/// The same canister in every mode, and the model.
pub struct Twins {
    pub subjects: Vec<(&'static str, Subject)>,
    pub model: Model,
}

impl Twins {
    pub fn new(memory64: bool) -> Self {
        let subject = |(name, config)| {
            let engine = Engine::new(config).unwrap();
            (name, Subject::installed(&engine, &machine::wat(memory64)))
        };
        Self { subjects: MODES.into_iter().map(subject).collect(), model: Model::new(memory64) }
    }

    /// Runs one program as an update.
    pub fn run(&mut self, program: &[Step]) -> Outcome {
        self.execute(Entry::Update("run"), program)
    }

    /// Runs one program in every mode; outcomes are equal and are the model's.
    pub fn execute(&mut self, entry: Entry<'_>, program: &[Step]) -> Outcome {
        let arg = machine::encode(program);
        let keeps = entry == Entry::Update("run");
        let mut effects = Effects::default();
        let mut next = self.model.clone();
        let expected = next.run(program, &mut effects);
        let mut first: Option<Outcome> = None;
        for (mode, subject) in &mut self.subjects {
            let outcome = subject.execute(entry, &arg);
            let same = first.get_or_insert_with(|| outcome.clone());
            assert_eq!(*same, outcome, "{mode}: {program:?}");
        }
        let outcome = first.unwrap();
        let changed = match expected {
            Ok(()) => {
                assert_eq!(outcome.response, Response::Reply(effects.reply), "{program:?}");
                let changed = pages_changed(&self.model.heap, &next.heap);
                if keeps {
                    self.model = next;
                }
                changed
            }
            Err(stop) => {
                assert!(stop.is(&outcome.response), "{:?} must be {stop:?}: {program:?}", outcome.response);
                pages_changed(&self.model.heap, &next.heap)
            }
        };
        // Where the heap's changes are thrown away they are not looked at, except in composite queries.
        let counted = keeps || entry == Entry::Query("wake");
        assert_eq!(outcome.heap_pages_dirtied, if counted { changed } else { 0 }, "{program:?}");
        assert_eq!(outcome.stable_pages_accessed, effects.accessed.len() as u64, "{program:?}");
        assert_eq!(outcome.stable_pages_dirtied, effects.written.len() as u64, "{program:?}");
        outcome
    }

    /// Every byte of every mode's memories is the model's.
    pub fn check_memories(&self) {
        for (mode, subject) in &self.subjects {
            assert_same(mode, &machine::heap(&subject.canister), &self.model.heap);
            assert_same(mode, &machine::stable(&subject.canister), &self.model.stable);
        }
    }

    pub fn stops(&mut self, step: Step, stop: Stop) {
        let outcome = self.run(&[step]);
        assert!(stop.is(&outcome.response), "{step:?}: {:?}", outcome.response);
    }

    pub fn succeeds(&mut self, step: Step) -> Outcome {
        let outcome = self.run(&[step]);
        assert!(matches!(outcome.response, Response::Reply(_)), "{step:?}: {:?}", outcome.response);
        outcome
    }
}
