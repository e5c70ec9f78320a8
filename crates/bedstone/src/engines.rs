//! Engines that the networks of a process share: a module is compiled for the first of them that installs it.

use std::sync::{Arc, Mutex, PoisonError};

use bedstone_subnet::engine::{CyclePrices, Engine, EngineConfig, Error};
use bedstone_subnet::subnet_info;

use crate::compile_cache::CompileCache;

/// Most engines kept. A process rarely has networks of more than two kinds.
const ENGINES_MAX: usize = 4;

static ENGINES: Mutex<Vec<(Asked, Engine)>> = Mutex::new(Vec::new());

/// How canisters are run, the seed of the subnet's key, its prices, and where compiled modules are kept.
type Asked = (EngineConfig, [u8; 32], CyclePrices, Option<CompileCache>);

/// The engine for such networks; made with the first.
///
/// # Errors
/// If this machine cannot run compiled Wasm.
pub(crate) fn engine(asked: Asked) -> Result<Engine, Error> {
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = engines.iter().position(|(other, _)| *other == asked);
    let engine = match found {
        Some(index) => engines.remove(index).1,
        None => {
            let (config, seed, prices, cache) = &asked;
            let cache = cache.as_ref().map(|cache| Arc::clone(&cache.inner));
            Engine::with_cache(*config, subnet_info(*seed, *prices), cache)?
        }
    };
    engines.push((asked, engine.clone()));
    if engines.len() > ENGINES_MAX {
        engines.remove(0);
    }
    Ok(engine)
}
