//! What this machine gives a process, as the kernel tells it in `/proc`.
//!
//! - What a kernel does not tell is `None`, which is no error.

use std::fs::read_to_string;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// Bytes of a page.
    pub page_bytes: Option<u64>,
    /// Bytes of memory, and how many of them could be had now.
    pub memory_bytes: Option<u64>,
    /// See [`Machine::memory_bytes`].
    pub memory_available_bytes: Option<u64>,
    /// Bytes of memory that may be promised where the kernel promises no more than it has.
    pub commit_limit_bytes: Option<u64>,
    /// 0: the kernel refuses only what is plainly too much; 1: nothing; 2: what is more than the commit limit.
    pub overcommit: Option<u64>,
    /// Bytes of address space that a process may take.
    pub address_space_bytes: Option<Limit>,
    /// Files that a process may have open.
    pub open_files: Option<Limit>,
}

/// A limit on this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Unlimited,
    /// So many.
    At(u64),
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path: &str| read_to_string(path).ok();
        let (limits, memory) = (read("/proc/self/limits"), read("/proc/meminfo"));
        let limit = |name| limits.as_deref().and_then(|text| soft_limit(text, name));
        let kibibytes = |name| memory.as_deref().and_then(|text| kibibytes(text, name));
        let mappings = read("/proc/self/smaps");
        Self {
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            page_bytes: mappings.as_deref().and_then(|text| self::kibibytes(text, "KernelPageSize:")),
            memory_bytes: kibibytes("MemTotal:"),
            memory_available_bytes: kibibytes("MemAvailable:"),
            commit_limit_bytes: kibibytes("CommitLimit:"),
            overcommit: read("/proc/sys/vm/overcommit_memory").and_then(|text| text.trim().parse().ok()),
            address_space_bytes: limit("Max address space"),
            open_files: limit("Max open files"),
        }
    }
}

/// A line of `/proc/self/limits`: name, soft limit, hard limit, unit.
fn soft_limit(text: &str, name: &str) -> Option<Limit> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(Limit::Unlimited),
        number => number.parse().ok().map(Limit::At),
    }
}

/// The first line of the form `name   12 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_understood() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 20000                files     \n\
                      Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(Limit::At(1024)));
        assert_eq!(soft_limit(limits, "Max address space"), Some(Limit::Unlimited));
        assert_eq!(soft_limit(limits, "Max file locks"), None);
        assert_eq!(kibibytes("MemTotal:        4 kB\nMemFree: 8 kB\n", "MemFree:"), Some(8192));
        assert_eq!(kibibytes("MemTotal: many kB\n", "MemTotal:"), None);
    }

    #[test]
    fn this_machine_tells_everything() {
        let machine = Machine::this();
        assert!(machine.kernel.is_some_and(|kernel| !kernel.is_empty()));
        assert!(machine.page_bytes.is_some_and(u64::is_power_of_two));
        assert!(
            machine.memory_bytes >= machine.memory_available_bytes
                && machine.memory_available_bytes.is_some()
        );
        assert!(machine.overcommit.is_some_and(|mode| mode <= 2) && machine.commit_limit_bytes.is_some());
        assert!(machine.address_space_bytes.is_some() && machine.open_files.is_some());
    }
}
