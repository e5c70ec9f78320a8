//! The state directory of a command: opened, searched for a canister, saved.
//!
//! - Only an installation makes a state directory, and takes it away again when it fails.
//! - A canister's name is given once its first installation has succeeded.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail};
use bedstone::{CompileCache, Durability, Error, Network, NetworkBuilder, Principal};
use bedstone_store::Config;

use crate::{Global, output};

/// How long to wait for a command that uses the same directory.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// How commands that are about the files alone open the store in a state directory.
pub fn store_config() -> anyhow::Result<Config> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow!("the system gives no random bytes: {error}"))?;
    let mut config = Config::new(seed);
    config.lock_wait = LOCK_WAIT;
    Ok(config)
}

/// An open state directory.
pub struct State<'a> {
    /// The canisters in it.
    pub network: Network,
    directory: &'a Path,
    before: Before,
}

/// What a state directory was before it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Missing,
    Empty,
    /// Something was in it.
    Used,
}

impl<'a> State<'a> {
    /// Opens the state directory that is there.
    pub fn open(global: &'a Global) -> anyhow::Result<Self> {
        let directory = global.state.as_path();
        let network = builder(global)?.existing_state_dir(directory).build();
        match network {
            Ok(network) => Ok(Self { network, directory, before: Before::Used }),
            Err(Error::NotFound(_)) => {
                bail!("no state in {}; `bedstone install NAME FILE` makes one", directory.display())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the state directory, or makes it.
    pub fn open_or_make(global: &'a Global) -> anyhow::Result<Self> {
        let directory = global.state.as_path();
        let before = match std::fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Before::Empty,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Before::Missing,
            _ => Before::Used,
        };
        let network = builder(global)?.state_dir(directory).build()?;
        Ok(Self { network, directory, before })
    }

    /// The canister of a name, or of an id.
    pub fn find(&self, name: &str) -> anyhow::Result<Principal> {
        self.look_up(name)?.ok_or_else(|| {
            anyhow!(
                "there is no canister {name:?} in {}; `bedstone status` lists those that are",
                self.place()
            )
        })
    }

    /// The canister of a name, or of an id; `None` if the name is free.
    pub fn look_up(&self, name: &str) -> anyhow::Result<Option<Principal>> {
        if let Some(canister) = self.network.canister_named(name) {
            return Ok(Some(canister));
        }
        let Ok(id) = Principal::from_text(name) else { return Ok(None) };
        if self.network.status(id)?.is_none() {
            bail!("there is no canister {id} in {}; `bedstone status` lists those that are", self.place());
        }
        Ok(Some(id))
    }

    /// What to call the directory in messages.
    pub fn place(&self) -> impl std::fmt::Display + '_ {
        self.directory.display()
    }

    /// Makes everything so far durable.
    pub fn save(&self) -> anyhow::Result<()> {
        Ok(self.network.save()?)
    }

    /// Takes back a directory that was made for what then failed.
    pub fn discard_if_made(self) -> anyhow::Result<()> {
        // Another command may have been quicker to make the state, and to put something into it. From here on none can:
        // the network holds the directory's lock, and is dropped last.
        if self.before == Before::Used || !self.network.names().is_empty() {
            return Ok(());
        }
        self.network.abandon();
        let directory = self.directory;
        let failed = || format!("the new state directory {} cannot be removed again", directory.display());
        if self.before == Before::Missing {
            return std::fs::remove_dir_all(directory).with_context(failed);
        }
        for entry in std::fs::read_dir(directory).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let is_directory = entry.file_type().with_context(failed)?.is_dir();
            let path = entry.path();
            if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                .with_context(failed)?;
        }
        Ok(())
    }
}

fn builder(global: &Global) -> anyhow::Result<NetworkBuilder> {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("this machine's clock is set before 1970, set it right")?;
    let time_nanos =
        u64::try_from(since_1970.as_nanos()).context("this machine's clock is set after 2554")?;
    // A command is kept or not as a whole, by the one save at its end.
    let builder = Network::builder().stable(global.stable.into()).time_nanos(time_nanos);
    let builder = builder.compiler(global.compiler.into()).tracker(global.tracker.into());
    let builder = builder.lock_wait(LOCK_WAIT).durability(Durability::Off);
    Ok(match compile_cache(global.compile_cache.as_deref()) {
        Some(cache) => builder.compile_cache(cache),
        None => builder,
    })
}

/// The cache of compiled modules. Where there can be none, a command compiles, and says so if one was to be expected.
fn compile_cache(given: Option<&Path>) -> Option<CompileCache> {
    let directory = match given {
        Some(given) if given == "off" => return None,
        Some(given) => given.to_owned(),
        None => cache_home()?.join("bedstone"),
    };
    CompileCache::open(directory)
        .map_err(|error| output::note(format_args!("warning: {error}; --compile-cache names another place")))
        .ok()
}

/// Where programs keep what they can make again, by the XDG base directory specification.
fn cache_home() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))
}
