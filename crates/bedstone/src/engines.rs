//! Engines that the networks of a process share: a module is compiled for the first of them that installs it.

use std::sync::{Mutex, PoisonError};

use bedstone_subnet::engine::{CyclePrices, Engine, EngineConfig, Error};
use bedstone_subnet::subnet_info;

/// Most engines kept. A process rarely has networks of more than two kinds.
const ENGINES_MAX: usize = 4;

static ENGINES: Mutex<Vec<(Asked, Engine)>> = Mutex::new(Vec::new());

/// How canisters are run, the seed of the subnet's key, and its prices.
type Asked = (EngineConfig, [u8; 32], CyclePrices);

/// The engine for such networks; made with the first.
///
/// # Errors
/// If this machine cannot run compiled Wasm.
pub(crate) fn engine(config: EngineConfig, seed: [u8; 32], prices: CyclePrices) -> Result<Engine, Error> {
    let asked = (config, seed, prices);
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = engines.iter().position(|(other, _)| *other == asked);
    let engine = match found {
        Some(index) => engines.remove(index).1,
        None => Engine::on_subnet(config, subnet_info(seed, prices))?,
    };
    engines.push((asked, engine.clone()));
    if engines.len() > ENGINES_MAX {
        engines.remove(0);
    }
    Ok(engine)
}
