//! The threads on which canisters run.
//!
//! Wasm may use 5 MiB of stack, and a Rust test thread has 2: overflowing it would abort the process. So a network's work
//! happens on threads of its own. One takes whole requests that may change something, in order. Queries are answered
//! beside each other by a few more, which start with the first query, while nobody changes anything.
//!
//! Invariants:
//! - Whoever changes the subnet has it alone; whoever answers a query sees it between two requests.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::JoinHandle;

use bedstone_subnet::{Replicas, Subnet};

use crate::error::Error;

/// Bytes of stack: what Wasm may use, and as much again and more for the host below it.
const STACK_BYTES: usize = 16 << 20;
/// Most threads that answer queries.
const QUERY_THREADS_MAX: usize = 8;

type Request = Box<dyn FnOnce(&mut Subnet) + Send>;
/// Gone once the network has ended.
type Shared = Arc<RwLock<Option<Subnet>>>;

const ENDED: &str = "the network has not ended";
const PANICKED: &str = "the request panicked; see its message";

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Worker {
    subnet: Shared,
    requests: Mutex<Option<Sender<Request>>>,
    thread: Option<JoinHandle<()>>,
    queries: OnceLock<Queries>,
}

impl Worker {
    /// Starts the thread, which makes the subnet.
    pub fn start(make: impl FnOnce() -> Result<Subnet, Error> + Send + 'static) -> Result<Self, Error> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let (made, result) = mpsc::channel();
        let subnet = Shared::default();
        let shared = Arc::clone(&subnet);
        let thread = spawn("bedstone", move || {
            match make() {
                Ok(subnet) => {
                    *shared.write().unwrap_or_else(PoisonError::into_inner) = Some(subnet);
                    let _ = made.send(Ok(()));
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                    return;
                }
            }
            for request in inbox {
                let mut subnet = shared.write().unwrap_or_else(PoisonError::into_inner);
                request(subnet.as_mut().expect(ENDED));
            }
        })?;
        result
            .recv()
            .map_err(|_| Error::Machine("the thread for canisters ended at its start".to_owned()))??;
        Ok(Self {
            subnet,
            requests: Mutex::new(Some(requests)),
            thread: Some(thread),
            queries: OnceLock::new(),
        })
    }

    /// Runs `work` on the thread and waits for it. Panics if it panics there.
    pub fn run<R: Send + 'static>(&self, work: impl FnOnce(&mut Subnet) -> R + Send + 'static) -> R {
        let (answer, result) = mpsc::channel();
        let request: Request = Box::new(move |subnet| {
            let _ = answer.send(work(subnet));
        });
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.as_ref().expect("open until dropped").send(request).expect(PANICKED);
        drop(requests);
        result.recv().expect(PANICKED)
    }

    /// Runs `work`, which changes nothing, beside others of its kind, and waits for it. Panics if it panics there.
    pub fn look<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Subnet, &mut Replicas) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let queries = match self.queries.get() {
            Some(queries) => queries,
            None => {
                let started = Queries::start()?;
                self.queries.get_or_init(|| started)
            }
        };
        let (answer, result) = mpsc::channel();
        let subnet = Arc::clone(&self.subnet);
        queries.queue.add(Box::new(move |replicas| {
            let subnet = subnet.read().unwrap_or_else(PoisonError::into_inner);
            let _ = answer.send(work(subnet.as_ref().expect(ENDED), replicas));
        }));
        Ok(result.recv().expect(PANICKED))
    }

    /// Ends the threads once all requests are answered, and gives the state directory back.
    pub fn end(&mut self) -> Result<(), Error> {
        drop(self.queries.take());
        self.requests.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // A panic, if any, was reported by its request.
        let _ = self.thread.take().map(JoinHandle::join);
        let subnet = self.subnet.write().unwrap_or_else(PoisonError::into_inner).take();
        subnet.map_or(Ok(()), |subnet| Ok(subnet.close()?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.end(); // whoever wants to know calls `close`
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map_err(|error| Error::Machine(format!("cannot start a thread for canisters: {error}")))
}

type Query = Box<dyn FnOnce(&mut Replicas) + Send>;

/// Threads that answer queries, each with copies of the canisters that it was asked about.
#[derive(Debug)]
struct Queries {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Queries {
    fn start() -> Result<Self, Error> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(QUERY_THREADS_MAX);
        let mut queries = Self { queue: Arc::default(), threads: Vec::new() };
        for _ in 0..count {
            let queue = Arc::clone(&queries.queue);
            queries.threads.push(spawn("bedstone query", move || {
                let mut replicas = Replicas::default();
                while let Some(query) = queue.next() {
                    query(&mut replicas);
                }
            })?);
        }
        Ok(queries)
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Queries that wait for a thread.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    added: Condvar,
}

#[derive(Default)]
struct Waiting {
    queries: VecDeque<Query>,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, query: Query) {
        self.waiting().queries.push_back(query);
        self.added.notify_one();
    }

    /// The next query; `None` once there is none and will be none.
    fn next(&self) -> Option<Query> {
        let mut waiting = self.waiting();
        loop {
            if let Some(query) = waiting.queries.pop_front() {
                return Some(query);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.added.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        self.waiting().closed = true;
        self.added.notify_all();
    }
}
