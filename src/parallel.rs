//! The decode thread pool: its own threads, a static split, and a wait that first spins and then parks.
//!
//! One token of a small model is some hundred parallel sections of 20 to 200 µs each, so what counts is the cost of
//! starting and joining one. A general pool queues boxed tasks and wakes sleepers through the kernel, which costs as much
//! as the section itself. Here a section is two atomic words:
//!
//! ```text
//! caller   writes the job, epoch += 1 ──► runs part 0 ──► runs parts nobody has begun ──► waits until `unfinished` is 0
//! worker i    spins on the epoch     ──► runs part i ──► unfinished −= 1, spins on the epoch again
//! ```
//!
//! A part belongs to whoever claims it first for the current epoch. On idle cores that is always its worker; where a worker
//! is parked, or some other process has its core, the caller does not wait for it to begin.
//!
//! Nothing is allocated or queued. Between tokens the workers spin for [`SPIN`], then park, so an idle notebook burns no
//! core. Work is split by part index, never by arrival, so a result can only depend on the split if the caller lets it.
//!
//! Threads start with the first call. A process that forks keeps the memory of the pool but not its threads; the pool
//! compares the process id at each call and starts new threads in the child. A panic in any part is raised again on the
//! caller after all parts are done. A call from inside a part runs inline, as one part.

#![expect(
    unsafe_code,
    reason = "a borrowed closure crosses to threads that outlive it; columns of one matrix are written by several threads"
)]

mod columns;
#[cfg(test)]
mod tests;

pub use columns::{Columns, ColumnsMut};

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker spins for the next section before it parks: longer than the gaps inside a token, shorter than
/// anything a person would notice.
const SPIN: Duration = Duration::from_micros(100);
/// The same where there are more threads than cores, so that a spinning thread may be keeping a working one off its core.
const SPIN_CROWDED: Duration = Duration::from_micros(5);

type Part<'a> = dyn Fn(usize, usize) + Sync + 'a;
type Payload = Box<dyn Any + Send>;

thread_local! {
    /// Set while this thread runs a part of some section.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A fixed number of threads that run sections together. Shared by reference; sections of several callers take turns.
#[derive(Debug)]
pub struct Pool {
    threads: usize,
    team: AtomicPtr<Team>, // null before the first call; replaced in a forked child, where the old one is leaked
}

impl Pool {
    /// A pool of `threads` threads, the caller included; `None`: as many as the process may use (cores, affinity, cgroup).
    pub fn new(threads: Option<usize>) -> Self {
        let threads = threads.unwrap_or_else(available).max(1);
        Self { threads, team: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Threads, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `part(index, count)` for every `index < count` at once and returns when all are done. `count` is
    /// [`Pool::threads`], fewer where the system grants fewer threads, or 1 inside another part.
    ///
    /// # Panics
    /// With the panic of a part, after all parts have ended.
    pub fn run(&self, part: impl Fn(usize, usize) + Sync) {
        if self.threads == 1 || INSIDE.get() {
            part(0, 1);
        } else {
            self.team().run(&part);
        }
    }

    /// The team of this process, made where there is none.
    fn team(&self) -> &Team {
        let found = self.team.load(SeqCst);
        // SAFETY: a non-null pointer came from `Box::into_raw` below and is freed by `Drop` only, which borrows mutably.
        if let Some(team) = unsafe { found.as_ref() }
            && team.process == std::process::id()
        {
            return team;
        }
        // First call, or first call in a forked child: the old team's threads stayed in the parent and its lock may be
        // held for ever, so it is left alone.
        let new = Box::into_raw(Box::new(Team::start(self.threads)));
        match self.team.compare_exchange(found, new, SeqCst, SeqCst) {
            // SAFETY: `new` is now owned by `self.team`, and freed by `Drop` only.
            Ok(_) => unsafe { &*new },
            Err(other) => {
                // SAFETY: `new` was never shared; `other` was installed by another caller and is freed by `Drop` only.
                unsafe {
                    drop(Box::from_raw(new));
                    &*other
                }
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let team = *self.team.get_mut();
        // SAFETY: the pointer is null or came from `Box::into_raw`; nobody else holds the pool any more.
        unsafe {
            if team.as_ref().is_some_and(|t| t.process == std::process::id()) {
                drop(Box::from_raw(team));
            }
        }
    }
}

fn available() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The threads of one process.
#[derive(Debug)]
struct Team {
    process: u32,
    turn: Mutex<()>, // one section at a time
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What caller and workers share.
#[derive(Debug)]
struct Shared {
    epoch: AtomicUsize,        // counts sections; a change means that there is a new job
    claimed: Vec<AtomicUsize>, // per worker: the last epoch whose part was begun, by the worker or by the caller
    unfinished: AtomicUsize,   // parts of workers that have not ended in the current section
    job: UnsafeCell<Option<Job>>,
    stop: AtomicBool,
    asleep: Vec<AtomicBool>, // per worker: parked, or about to park
    spin: Duration,
    caller_asleep: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panic: Mutex<Option<Payload>>,
}

/// The current section. The pointer is valid from the epoch's change until `unfinished` is 0.
#[derive(Clone, Copy, Debug)]
struct Job {
    part: *const Part<'static>,
    count: usize,
}

// SAFETY: `job` is written only by the caller that holds `Team::turn`, between sections, and read only by threads that claimed a
// part of the current one (an atomic update that follows the write and the new epoch); what it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Team {
    fn start(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            claimed: (1..threads).map(|_| AtomicUsize::new(0)).collect(),
            unfinished: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            stop: AtomicBool::new(false),
            asleep: (1..threads).map(|_| AtomicBool::new(false)).collect(),
            spin: if threads > available() { SPIN_CROWDED } else { SPIN },
            caller_asleep: AtomicBool::new(false),
            caller: Mutex::new(None),
            panic: Mutex::new(None),
        });
        // Where the system refuses a thread, the team is smaller: slower, same results.
        let workers = (1..threads)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("reset-{index}")).spawn(move || shared.work(index)).ok()
            })
            .collect();
        Self { process: std::process::id(), turn: Mutex::new(()), shared, workers }
    }

    fn run(&self, part: &Part<'_>) {
        let turn = lock(&self.turn);
        let shared = &*self.shared;
        let count = self.workers.len() + 1;
        // SAFETY: only the lifetime changes; the pointer is not used after this function returns (see `Job`).
        let part = unsafe { std::mem::transmute::<&Part<'_>, &'static Part<'static>>(part) };
        let job = Job { part, count };
        // SAFETY: `turn` is held, and all parts of the last section have ended, so nobody else reads or writes the cell.
        unsafe { *shared.job.get() = Some(job) };
        shared.unfinished.store(count - 1, SeqCst);
        let epoch = shared.epoch.fetch_add(1, SeqCst) + 1;
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep) {
            if asleep.load(SeqCst) {
                worker.thread().unpark();
            }
        }
        // SAFETY: the pointer is the argument of this function.
        let mine = unsafe { job.run(0) };
        for index in 1..count {
            shared.run_if_unclaimed(index, epoch);
        }
        shared.wait_for_workers();
        let theirs = lock(&shared.panic).take();
        drop(turn);
        if let Some(payload) = mine.err().or(theirs) {
            resume_unwind(payload);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.shared.epoch.fetch_add(1, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches the panics of its parts, so it ends without one.
            let _ = worker.join();
        }
    }
}

impl Job {
    /// # Safety
    /// `part` must be valid: between the epoch's change and the end of this section.
    unsafe fn run(self, index: usize) -> Result<(), Payload> {
        INSIDE.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller's promise.
            unsafe { (*self.part)(index, self.count) }
        }));
        INSIDE.set(false);
        result
    }
}

/// Waits by spinning: `true` as soon as `ready`, `false` after `limit`. Yields now and then, for whoever needs the core.
fn spin_until(limit: Duration, ready: impl Fn() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..64 {
            if ready() {
                return true;
            }
            spin_loop();
        }
        let start = *start.get_or_insert_with(Instant::now);
        if start.elapsed() > limit {
            return false;
        }
        if limit == SPIN_CROWDED {
            thread::yield_now();
        }
    }
}

impl Shared {
    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let asleep = &self.asleep[index - 1];
        let mut seen = 0;
        loop {
            let new_epoch = || self.epoch.load(SeqCst) != seen;
            if !spin_until(self.spin, new_epoch) {
                // The flag is raised before the epoch is read again, the caller changes the epoch before it reads the
                // flag: one of the two sees the other, so no wake-up is lost.
                asleep.store(true, SeqCst);
                while !new_epoch() {
                    thread::park();
                }
                asleep.store(false, SeqCst);
            }
            seen = self.epoch.load(SeqCst);
            if self.stop.load(SeqCst) {
                return;
            }
            self.run_if_unclaimed(index, seen);
        }
    }

    /// Runs part `index` of the section of `epoch`, unless it was begun already.
    fn run_if_unclaimed(&self, index: usize, epoch: usize) {
        // A section does not end before each part was claimed, so a thread that comes late finds its epoch taken, and one
        // that claims holds the section open.
        if self.claimed[index - 1].fetch_max(epoch, SeqCst) >= epoch {
            return;
        }
        // SAFETY: the part is claimed and not ended, so `unfinished` is not 0: the job is this epoch's, and valid (see `Job`).
        let result = unsafe { (*self.job.get()).expect("a section has a job").run(index) };
        if let Err(payload) = result {
            *lock(&self.panic) = Some(payload);
        }
        if self.unfinished.fetch_sub(1, SeqCst) == 1 && self.caller_asleep.load(SeqCst) {
            // Left in place: this may already be the next section's caller, whose last worker needs it.
            if let Some(caller) = &*lock(&self.caller) {
                caller.unpark();
            }
        }
    }

    /// Returns when every worker has ended the current section.
    fn wait_for_workers(&self) {
        let done = || self.unfinished.load(SeqCst) == 0;
        if spin_until(self.spin, done) {
            return;
        }
        *lock(&self.caller) = Some(thread::current());
        self.caller_asleep.store(true, SeqCst);
        while !done() {
            thread::park();
        }
        self.caller_asleep.store(false, SeqCst);
        lock(&self.caller).take();
    }
}
