//! Engines that the networks of a process share: a module is compiled for the first of them that installs it.

use std::sync::{Mutex, PoisonError};

use bedstone_subnet::engine::{Engine, EngineConfig, Error, SubnetInfo};

/// Most engines kept. A process rarely has networks of more than two kinds.
const ENGINES_MAX: usize = 4;

static ENGINES: Mutex<Vec<Engine>> = Mutex::new(Vec::new());

/// The engine for such networks; made with the first.
///
/// # Errors
/// If this machine cannot run compiled Wasm.
pub(crate) fn engine(config: EngineConfig, subnet: &SubnetInfo) -> Result<Engine, Error> {
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = engines.iter().position(|engine| *engine.config() == config && engine.subnet() == subnet);
    let engine = match found {
        Some(index) => engines.remove(index),
        None => Engine::on_subnet(config, subnet.clone())?,
    };
    engines.push(engine.clone());
    if engines.len() > ENGINES_MAX {
        engines.remove(0);
    }
    Ok(engine)
}
