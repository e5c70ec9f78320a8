//! Group commit: who writes the log, and who may be answered.
//!
//! - Records are queued in the order of their numbers, under one lock; whoever waits and finds nobody writing
//!   writes for all.
//! - A writer takes the whole queue and, before it writes, the newest number given out: that number is what it
//!   publishes, not the newest at the end, whose record it may not have seen.
//! - A number is published only after its record and all before it were written, and synced where that is
//!   asked.
//! - After a failure nothing is published any more; what was published stays true.
//! - A writer that ends wakes only those who need not wait any longer, and one who is to look whether to write
//!   next; if nobody else waits and callbacks do, that one is the attendant. So while somebody waits, somebody
//!   writes or was told to look.
//! - This file knows neither files nor records, so that a model checker can run it.

use std::sync::Arc;
use std::time::Duration;

use crate::format::Hash;
use crate::mutants::mutant;
use crate::page::Lsn;
use crate::sync::checked::{Condvar, Mutex, MutexGuard, lock, wait, wait_for};

/// How far a record must have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Written: it survives the end of the process.
    Written,
    /// Synced: it survives a power cut.
    Synced,
}

/// Nothing more will be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// Where the log is written.
pub(crate) trait Sink<R> {
    /// Writes records in their order, and makes these and all earlier ones durable if `reach` says so. After a
    /// failure it is not called again.
    fn write(&self, batch: &[R], reach: Reach) -> Result<(), Ended>;
}

/// Called once a record has come as far as its mode promises, or never will.
pub(crate) type Callback = Box<dyn FnOnce(Result<(), Ended>) + Send>;

/// The last record and the link after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub(crate) last: Lsn,
    pub(crate) link: Hash,
}

/// Orders records and publishes how far they have come.
pub(crate) struct Group<R> {
    state: Mutex<State<R>>,
    /// The attendant has to look: there is a callback and nobody writes, or all has ended.
    attention: Condvar,
    /// Nobody notifies it: it only lets a writer wait for company.
    company: Condvar,
}

struct State<R> {
    order: Order,
    queue: Vec<R>,
    written: Lsn,
    synced: Lsn,
    is_writing: bool,
    has_ended: bool,
    waiters: Vec<Waiter>,
    callbacks: Vec<(Lsn, Reach, Callback)>,
}

/// One who waits until its record has come so far.
struct Waiter {
    lsn: Lsn,
    reach: Reach,
    signal: Arc<Signal>,
}

/// What one who waits is told.
#[derive(Clone, Copy)]
enum Told {
    Reached,
    Ended,
    /// To look again, and to write if nobody does.
    Look,
}

/// Wakes one thread: notifying all of them has each fight for the lock only to wait again.
struct Signal {
    told: Mutex<Option<Told>>,
    is_told: Condvar,
}

impl Signal {
    fn new() -> Arc<Signal> {
        Arc::new(Signal { told: Mutex::new(None), is_told: Condvar::new() })
    }

    fn tell(&self, what: Told) {
        *lock(&self.told) = Some(what);
        self.is_told.notify_one();
    }

    fn wait(&self) -> Told {
        let mut told = lock(&self.told);
        loop {
            match *told {
                Some(what) => return what,
                None => told = wait(&self.is_told, told),
            }
        }
    }
}

impl<R> State<R> {
    fn has_reached(&self, lsn: Lsn, reach: Reach) -> bool {
        lsn <= match reach {
            Reach::Written => self.written,
            Reach::Synced => self.synced,
        }
    }

    /// Takes out those who wait no longer, and before them the one who is to write next.
    fn take_told(&mut self) -> Vec<(Arc<Signal>, Told)> {
        let mut told = Vec::with_capacity(self.waiters.len() + 1);
        let mut waiting = Vec::new();
        for waiter in std::mem::take(&mut self.waiters) {
            if self.has_reached(waiter.lsn, waiter.reach) {
                told.push((waiter.signal, Told::Reached));
            } else if self.has_ended {
                told.push((waiter.signal, Told::Ended));
            } else {
                waiting.push(waiter);
            }
        }
        if !waiting.is_empty() {
            // First, so that the disk has something to do while the others wake up.
            told.insert(0, (waiting.remove(0).signal, Told::Look));
        }
        self.waiters = waiting;
        told
    }
}

/// How far the log has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    pub(crate) last: Lsn,
    pub(crate) synced: Lsn,
}

impl<R> Group<R> {
    /// After a record that is durable.
    pub(crate) fn new(order: Order) -> Group<R> {
        let state = State {
            order,
            queue: Vec::new(),
            written: order.last,
            synced: order.last,
            is_writing: false,
            has_ended: false,
            waiters: Vec::new(),
            callbacks: Vec::new(),
        };
        Group { state: Mutex::new(state), attention: Condvar::new(), company: Condvar::new() }
    }

    /// Gives the next place in the order to the record that `make` makes; it is told the newest record known
    /// to be durable, and updates the order. What panics in it alters nothing.
    pub(crate) fn push<T>(&self, make: impl FnOnce(&mut Order, Lsn) -> (Option<R>, T)) -> Result<T, Ended> {
        let mut state = lock(&self.state);
        if state.has_ended {
            return Err(Ended);
        }
        let synced = state.synced;
        let (record, result) = make(&mut state.order, synced);
        state.queue.extend(record);
        Ok(result)
    }

    /// Returns once the record has come so far; writes the queue if nobody else does. A writer first waits up
    /// to `company` for others to join.
    pub(crate) fn reach(
        &self,
        lsn: Lsn,
        reach: Reach,
        sink: &dyn Sink<R>,
        company: Duration,
    ) -> Result<(), Ended> {
        let mut state = lock(&self.state);
        loop {
            if state.has_reached(lsn, reach) {
                return Ok(());
            }
            if state.has_ended {
                return Err(Ended);
            }
            if !state.is_writing {
                state = self.write(state, reach, sink, company);
                continue;
            }
            let signal = Signal::new();
            state.waiters.push(Waiter { lsn, reach, signal: signal.clone() });
            drop(state);
            match signal.wait() {
                Told::Reached => return Ok(()),
                Told::Ended => return Err(Ended),
                Told::Look => state = lock(&self.state),
            }
        }
    }

    fn write<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<R>>,
        reach: Reach,
        sink: &dyn Sink<R>,
        company: Duration,
    ) -> MutexGuard<'a, State<R>> {
        state.is_writing = true;
        if !company.is_zero() {
            state = wait_for(&self.company, state, company);
        }
        let batch = std::mem::take(&mut state.queue);
        let captured = state.order.last;
        drop(state);
        let mut writing = Writing { group: self, is_done: false };
        let result = sink.write(&batch, reach);
        let mut state = lock(&self.state);
        writing.is_done = true;
        state.is_writing = false;
        match result {
            Ok(()) if state.has_ended => {}
            Ok(()) => {
                let published = if mutant!(PUBLISH_NEWEST) { state.order.last } else { captured };
                state.written = published;
                if reach == Reach::Synced {
                    state.synced = published;
                }
            }
            Err(Ended) => state.has_ended = true,
        }
        let state = self.tell(state);
        // Not before: freeing what others allocated takes a while.
        drop(batch);
        state
    }

    /// Wakes whom the state lets go on, and calls back, without the lock.
    fn tell<'a>(&'a self, mut state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        let told = state.take_told();
        let is_led = told.first().is_some_and(|(_, told)| matches!(told, Told::Look));
        if !told.is_empty() {
            drop(state);
            told.into_iter().for_each(|(signal, what)| signal.tell(what));
            state = lock(&self.state);
        }
        state = self.answer(state);
        if state.has_ended || (!is_led && !state.callbacks.is_empty()) {
            self.attention.notify_all();
        }
        state
    }

    /// Calls those that wait no longer, without the lock.
    fn answer<'a>(&'a self, mut state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        if state.callbacks.is_empty() {
            return state;
        }
        let mut answers = Vec::new();
        for (lsn, reach, callback) in std::mem::take(&mut state.callbacks) {
            if state.has_reached(lsn, reach) {
                answers.push((callback, Ok(())));
            } else if state.has_ended {
                answers.push((callback, Err(Ended)));
            } else {
                state.callbacks.push((lsn, reach, callback));
            }
        }
        drop(state);
        answers.into_iter().for_each(|(callback, answer)| callback(answer));
        lock(&self.state)
    }

    /// Calls back once the record has come so far; whoever writes next does the work.
    pub(crate) fn when(&self, lsn: Lsn, reach: Reach, callback: Callback) {
        let mut state = lock(&self.state);
        state.callbacks.push((lsn, reach, callback));
        if !state.is_writing {
            self.attention.notify_all();
        }
        drop(self.answer(state));
    }

    /// Writes for callbacks until all has ended or `is_over` says so; to be called after [`stir`](Group::stir).
    pub(crate) fn attend(&self, sink: &dyn Sink<R>, company: Duration, is_over: &dyn Fn() -> bool) {
        let mut state = lock(&self.state);
        while !state.has_ended && !is_over() {
            let reach = state.callbacks.iter().map(|(_, reach, _)| *reach);
            let reach = reach.reduce(|one, other| if one == Reach::Synced { one } else { other });
            state = match reach {
                Some(reach) if !state.is_writing => self.write(state, reach, sink, company),
                _ => wait(&self.attention, state),
            };
        }
    }

    /// Has the attendant look again.
    pub(crate) fn stir(&self) {
        let _state = lock(&self.state);
        self.attention.notify_all();
    }

    /// Publishes nothing more and tells all who wait.
    pub(crate) fn end(&self) {
        let mut state = lock(&self.state);
        state.has_ended = true;
        drop(self.tell(state));
    }

    /// How far the log has come.
    pub(crate) fn published(&self) -> Published {
        let state = lock(&self.state);
        Published { last: state.order.last, synced: state.synced }
    }

    /// Whether somebody waits for a callback.
    pub(crate) fn has_callbacks(&self) -> bool {
        !lock(&self.state).callbacks.is_empty()
    }
}

/// A writer that panics has failed: nobody may wait for it for ever.
struct Writing<'a, R> {
    group: &'a Group<R>,
    is_done: bool,
}

impl<R> Drop for Writing<'_, R> {
    fn drop(&mut self) {
        if !self.is_done {
            let mut state = lock(&self.group.state);
            state.has_ended = true;
            state.is_writing = false;
            let told = state.take_told();
            drop(state);
            told.into_iter().for_each(|(signal, what)| signal.tell(what));
            // Callbacks are not called in a panic: they are the attendant's.
            self.group.attention.notify_all();
        }
    }
}

#[cfg(all(test, feature = "shuttle"))]
mod schedules {
    //! The group committer under schedules that a model checker chooses.
    //!
    //! - What was released was synced; nobody waits for ever (the checker reports a deadlock).

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A log that remembers what was written and what was synced.
    #[derive(Default)]
    struct Disk {
        written: AtomicU64,
        synced: AtomicU64,
        fails_at: u64,
    }

    impl Sink<u64> for Disk {
        fn write(&self, batch: &[u64], reach: Reach) -> Result<(), Ended> {
            let mut last = self.written.load(Ordering::SeqCst);
            for &record in batch {
                assert_eq!(record, last + 1, "records are written in their order");
                last = record;
            }
            shuttle::thread::yield_now();
            if self.fails_at != 0 && last >= self.fails_at {
                return Err(Ended);
            }
            self.written.store(last, Ordering::SeqCst);
            shuttle::thread::yield_now();
            if reach == Reach::Synced {
                self.synced.store(last, Ordering::SeqCst);
            }
            Ok(())
        }
    }

    fn append(group: &Group<u64>) -> Result<Lsn, Ended> {
        group.push(|order, _| {
            order.last = Lsn::new(order.last.get() + 1);
            (Some(order.last.get()), order.last)
        })
    }

    fn run(fails_at: u64) {
        let group = Arc::new(Group::<u64>::new(Order { last: Lsn::new(0), link: [0; 32] }));
        let disk = Arc::new(Disk { fails_at, ..Disk::default() });
        let released = Arc::new(AtomicU64::new(0));
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let attendant = {
            let (group, disk, over) = (group.clone(), disk.clone(), over.clone());
            shuttle::thread::spawn(move || {
                group.attend(&*disk, Duration::ZERO, &|| over.load(Ordering::SeqCst));
            })
        };
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let (group, disk, released) = (group.clone(), disk.clone(), released.clone());
                shuttle::thread::spawn(move || {
                    for _ in 0..2 {
                        let Ok(lsn) = append(&group) else { return };
                        if number == 0 {
                            let (disk, released) = (disk.clone(), released.clone());
                            let answer = Box::new(move |result: Result<(), Ended>| {
                                let synced = disk.synced.load(Ordering::SeqCst);
                                assert!(result.is_err() || synced >= lsn.get(), "released and not synced");
                                released.fetch_add(1, Ordering::SeqCst);
                            });
                            group.when(lsn, Reach::Synced, answer);
                        } else {
                            let result = group.reach(lsn, Reach::Synced, &*disk, Duration::ZERO);
                            let synced = disk.synced.load(Ordering::SeqCst);
                            assert!(result.is_err() || synced >= lsn.get(), "released and not synced");
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread fails"));
        let last = group.published().last;
        let _ = group.reach(last, Reach::Synced, &*disk, Duration::ZERO);
        over.store(true, Ordering::SeqCst);
        group.stir();
        attendant.join().expect("no thread fails");
        assert!(fails_at != 0 || released.load(Ordering::SeqCst) == 2, "each callback is called once");
    }

    #[test]
    fn what_is_released_was_synced() {
        shuttle::check_random(|| run(0), 5_000);
        shuttle::check_pct(|| run(0), 5_000, 3);
    }

    #[test]
    fn a_failed_write_releases_nobody_and_wakes_everybody() {
        for fails_at in 1..=4 {
            shuttle::check_random(move || run(fails_at), 1_500);
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_number_published_too_early_is_noticed() {
        let found = std::panic::catch_unwind(|| {
            shuttle::check_random(
                || {
                    crate::mutants::activate(Some("PUBLISH_NEWEST"));
                    run(0);
                },
                5_000,
            );
        });
        crate::mutants::activate(None);
        assert!(found.is_err());
    }
}
