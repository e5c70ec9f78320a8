//! The thread on which canisters run.
//!
//! Wasm may use 5 MiB of stack, and a Rust test thread has 2: overflowing it would abort the process. So a network's work
//! happens on one thread of its own, which takes whole requests and answers them in order.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use bedstone_subnet::Subnet;

use crate::error::Error;

/// Bytes of stack: what Wasm may use, and as much again and more for the host below it.
const STACK_BYTES: usize = 16 << 20;

type Request = Box<dyn FnOnce(&mut Subnet) + Send>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Worker {
    requests: Mutex<Option<Sender<Request>>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Worker {
    /// Starts the thread, which makes the subnet.
    pub fn start(make: impl FnOnce() -> Result<Subnet, Error> + Send + 'static) -> Result<Self, Error> {
        let (requests, inbox) = mpsc::channel::<Request>();
        let (made, result) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("bedstone".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let mut subnet = match make() {
                    Ok(subnet) => {
                        let _ = made.send(Ok(()));
                        subnet
                    }
                    Err(error) => {
                        let _ = made.send(Err(error));
                        return Ok(());
                    }
                };
                for request in inbox {
                    request(&mut subnet);
                }
                Ok(subnet.close()?)
            })
            .map_err(|error| Error::Machine(format!("cannot start a thread for canisters: {error}")))?;
        result
            .recv()
            .map_err(|_| Error::Machine("the thread for canisters ended at its start".to_owned()))??;
        Ok(Self { requests: Mutex::new(Some(requests)), thread: Some(thread) })
    }

    /// Runs `work` on the thread and waits for it. Panics if it panics there.
    pub fn run<R: Send + 'static>(&self, work: impl FnOnce(&mut Subnet) -> R + Send + 'static) -> R {
        let (answer, result) = mpsc::channel();
        let request: Request = Box::new(move |subnet| {
            let _ = answer.send(work(subnet));
        });
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests
            .as_ref()
            .expect("open until dropped")
            .send(request)
            .expect("a request panicked; see its message");
        drop(requests);
        result.recv().expect("the request panicked; see its message")
    }
}

impl Worker {
    /// Ends the thread once all requests are answered, and gives the state directory back.
    pub fn end(&mut self) -> Result<(), Error> {
        self.requests.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // A panic, if any, was reported by its request.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.end(); // whoever wants to know calls `close`
    }
}
