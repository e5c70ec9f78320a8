//! Taking locks; and the lock and the condition variable of the group committer, so that a model checker can
//! take their place.
//!
//! - With the feature `shuttle` the schedule of [`checked`] is the model checker's; otherwise it is the
//!   machine's.
//! - A lock that was held during a panic is taken all the same: whatever may panic under a lock of this crate
//!   does so before it alters what the lock protects.

use std::sync::PoisonError;

/// Takes a lock.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a model checker can replace.
pub(crate) mod checked {
    use std::sync::PoisonError;
    use std::time::Duration;

    #[cfg(feature = "shuttle")]
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    #[cfg(not(feature = "shuttle"))]
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

    /// Takes a lock.
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a notification.
    pub(crate) fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a notification, but no longer than `time`. A model checker has no time: there it returns at
    /// once.
    pub(crate) fn wait_for<'a, T>(
        condition: &Condvar,
        guard: MutexGuard<'a, T>,
        time: Duration,
    ) -> MutexGuard<'a, T> {
        if cfg!(feature = "shuttle") {
            return guard;
        }
        condition.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0
    }
}
