//! What the card and driver really do: copies are right and how fast, what a node of a graph costs, whether records reach the host.
//!
//! These are the figures every other one is read against: a linear layer's time against the bandwidth, a step's against its nodes.

#![allow(unsafe_code, reason = "launches kernels")]

use std::mem;
use std::time::{Duration, Instant};

use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::graph::{Graph, Shape};
use crate::backend::cuda::launch::{Arguments, Plan};
use crate::backend::cuda::module::Function;
use crate::backend::cuda::problem::Problem;
use crate::backend::cuda::ring::Ring;
use crate::backend::cuda::runtime::Runtime;
use crate::backend::cuda::stream::{Event, Stream};
use crate::error::Result;

/// How long an idle chip is kept busy before anything is timed: it takes some tens of milliseconds to reach its clocks.
const WARM_UP: Duration = Duration::from_millis(300);
/// The same between two measurements.
const STAY_WARM: Duration = Duration::from_millis(30);
/// A record that takes longer than this to come is lost; from the first of these on, the device is asked whether it still runs.
const PATIENCE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Bytes of each of two buffers in the bandwidth measurements, several times the second-level cache; no more than an eighth of the
    /// memory that is free.
    pub bytes: usize,
    /// Kernels of a graph.
    pub nodes: usize,
    /// Repetitions of which the median is taken.
    pub repetitions: usize,
}

/// What was measured; every result was checked before it was timed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Bytes of each buffer.
    pub bytes: usize,
    /// Bytes read and written by a copy, per second.
    pub copy_bytes_per_second: f64,
    /// Bytes read per second where nothing is written.
    pub read_bytes_per_second: f64,
    /// Seconds per node of a graph of empty kernels, each of which waits for the one before.
    pub node_seconds: f64,
    /// The same where each may begin before the one before has ended.
    pub overlapping_node_seconds: f64,
    /// Dependences of that graph that allow it: as many as nodes, less one, if the driver kept them.
    pub overlapping_edges: usize,
    /// Seconds from a graph's launch to its record in the host's hands.
    pub record_seconds: f64,
}

/// Runs the checks, then the measurements.
pub fn check(runtime: &Runtime, effort: Effort) -> Result<Report> {
    runtime.prepare(&["probe"])?;
    let stream = Stream::new(runtime.device())?;
    let bench = Bench { runtime, stream, effort };
    let (bytes, copy, read) = bench.bandwidth()?;
    let (node_seconds, _) = bench.chain(false)?;
    let (overlapping_node_seconds, shape) = bench.chain(true)?;
    Ok(Report {
        bytes,
        copy_bytes_per_second: copy,
        read_bytes_per_second: read,
        node_seconds,
        overlapping_node_seconds,
        overlapping_edges: shape.overlapping_edges,
        record_seconds: bench.ring()?,
    })
}

struct Bench<'a> {
    runtime: &'a Runtime,
    stream: Stream,
    effort: Effort,
}

impl Bench<'_> {
    fn function(&self, entry: &str) -> Result<Function> {
        self.runtime.function("probe", entry)
    }

    fn wrong(&self, what: &str) -> crate::error::Error {
        self.runtime.device().error(Problem::new(format!("the card computed something else: {what}"), "test it with another program"))
    }

    /// Median seconds of `work`, after runs for `warm_up` that are not counted, and the number of all runs.
    fn seconds(&self, warm_up: Duration, mut work: impl FnMut() -> Result<()>) -> Result<(f64, usize)> {
        let device = self.runtime.device();
        let (start, end) = (Event::new(device)?, Event::new(device)?);
        let (begun, mut runs) = (Instant::now(), 0);
        while runs == 0 || begun.elapsed() < warm_up {
            work()?;
            self.stream.synchronize()?;
            runs += 1;
        }
        let mut seconds = Vec::new();
        for _ in 0..self.effort.repetitions.max(1) {
            start.record(&self.stream)?;
            work()?;
            end.record(&self.stream)?;
            seconds.push(end.seconds_since(&start)?);
        }
        runs += seconds.len();
        seconds.sort_by(f64::total_cmp);
        Ok((seconds[seconds.len() / 2], runs))
    }

    /// Bytes of a buffer, bytes per second copied, bytes per second read.
    fn bandwidth(&self) -> Result<(usize, f64, f64)> {
        let (device, stream) = (self.runtime.device(), &self.stream);
        let (copy, read) = (self.function("probe_copy")?, self.function("probe_read")?);
        let room = device.memory()?.0 as usize / 8;
        let len = (self.effort.bytes.min(room) / 16).max(1) * 4; // 32-bit words, a multiple of 16 bytes
        let mut from = Buffer::<u32>::new(device, len)?;
        let mut to = Buffer::<u32>::new(device, len)?;
        to.fill(stream, 0xFF)?;
        // A few megabytes that the host knows, repeated: the whole buffer is then known too.
        let mut state = 0x9E37_79B9_u32;
        let known: Vec<u32> = (0..len.min(1 << 20)).map(|_| next(&mut state)).collect();
        for at in (0..len).step_by(known.len()) {
            from.upload(stream, at, &known[..known.len().min(len - at)])?;
        }
        let count = (len / 4) as u64;
        let plan = Plan::stride(count, 4, 256, 2, device.card());
        let copying = Arguments::new().with(to.pointer()).with(from.pointer()).with(count);
        // SAFETY: two addresses of `count` elements of 16 bytes and their number, as `probe_copy` declares; both buffers outlive the run.
        let (copy_seconds, _) = self.seconds(WARM_UP, || unsafe { copy.launch(stream, plan, &copying) })?;
        let mut found = vec![0; known.len()];
        for at in (0..len).step_by(known.len()) {
            let part = &mut found[..known.len().min(len - at)];
            to.download(stream, at, part)?;
            if *part != known[..part.len()] {
                return Err(self.wrong("a copy differs from its source"));
            }
        }
        let mut sums = Buffer::<u32>::zeros(device, stream, plan.blocks[0] as usize)?;
        let reading = Arguments::new().with(sums.pointer()).with(from.pointer()).with(count);
        // SAFETY: a word per block, the elements and their number, as `probe_read` declares; both buffers outlive the run.
        let run = || unsafe { read.launch(stream, plan, &reading) };
        run()?;
        let whole = sums.to_vec(stream)?.into_iter().fold(0, |a, b| a ^ b);
        let expected = (0..len).step_by(known.len()).flat_map(|at| &known[..known.len().min(len - at)]).fold(0, |a, b| a ^ b);
        if whole != expected {
            return Err(self.wrong("the sum of a buffer read differs"));
        }
        sums.fill(stream, 0)?;
        let (read_seconds, _) = self.seconds(STAY_WARM, run)?;
        let rate = |bytes: usize, seconds: f64| bytes as f64 / seconds.max(f64::MIN_POSITIVE);
        Ok((4 * len, rate(8 * len, copy_seconds), rate(4 * len, read_seconds)))
    }

    /// Seconds per node of a graph of kernels that count, and what the graph is made of.
    fn chain(&self, overlap: bool) -> Result<(f64, Shape)> {
        let (device, stream, nodes) = (self.runtime.device(), &self.stream, self.effort.nodes.max(1));
        let chain = self.function("probe_chain")?;
        let mut counter = Buffer::<u32>::zeros(device, stream, 1)?;
        let plan = Plan::line(device.card().multiprocessors, 128).with_overlap(overlap, device.card());
        let arguments = Arguments::new().with(counter.pointer());
        // SAFETY: one address of one word, as `probe_chain` declares; the buffer outlives the graph.
        let graph = Graph::capture(stream, || (0..nodes).try_for_each(|_| unsafe { chain.launch(stream, plan, &arguments) }))?;
        if graph.shape().nodes != nodes {
            return Err(self.wrong(&format!("{} nodes from {nodes} launches", graph.shape().nodes)));
        }
        graph.upload(stream)?;
        // SAFETY: as for the launches.
        unsafe { graph.launch(stream) }?;
        if counter.to_vec(stream)? != [nodes as u32] {
            return Err(self.wrong("kernels of a graph did not wait for each other"));
        }
        counter.fill(stream, 0)?;
        // SAFETY: as for the launches.
        let (seconds, runs) = self.seconds(STAY_WARM, || unsafe { graph.launch(stream) })?;
        if counter.to_vec(stream)? != [(nodes * runs) as u32] {
            return Err(self.wrong("kernels of a replayed graph did not wait for each other"));
        }
        Ok((seconds / nodes as f64, graph.shape()))
    }

    /// Seconds from launch to record. The device runs ahead as far as the ring allows, and every record is looked at.
    fn ring(&self) -> Result<f64> {
        const SLOTS: usize = 5;
        const ROWS: usize = 3;
        const WORDS: usize = 4;
        const STEPS: u64 = 23;
        let (device, stream) = (self.runtime.device(), &self.stream);
        let write = self.function("probe_ring")?;
        let mut ring = Ring::new(device, SLOTS, ROWS, WORDS)?;
        let step = Buffer::<u64>::zeros(device, stream, 1)?;
        let plan = Plan::line(1, 32).with_overlap(true, device.card());
        let arguments = Arguments::new().with(ring.pointer()).with(step.pointer()).with(SLOTS as u32).with(ROWS as u32).with(WORDS as u32);
        // SAFETY: the ring, one word, and the ring's sizes, as `probe_ring` declares; ring and word outlive the graph.
        let graph = Graph::capture(stream, || unsafe { write.launch(stream, plan, &arguments) })?;
        let mut started = 0;
        let mut run = |ring: &mut Ring, ahead: u64| {
            while started < ahead && ring.room(ROWS - 1, started) > 0 {
                // SAFETY: as for the launch.
                unsafe { graph.launch(stream) }?;
                started += 1;
            }
            self.take(ring, ROWS, WORDS)
        };
        let mut measure = || {
            for _ in 0..STEPS {
                run(&mut ring, STEPS)?;
            }
            let mut seconds = Vec::new();
            for ahead in STEPS..STEPS + self.effort.repetitions.max(1) as u64 {
                stream.synchronize()?;
                let start = Instant::now();
                run(&mut ring, ahead + 1)?;
                seconds.push(start.elapsed().as_secs_f64());
            }
            stream.synchronize()?;
            seconds.sort_by(f64::total_cmp);
            Ok(seconds[seconds.len() / 2])
        };
        let measured = measure();
        if measured.is_err() && matches!(stream.is_done(), Ok(false)) {
            // A device that does not come to an end would be waited for if anything it uses were freed.
            mem::forget((graph, ring, step, write));
        }
        measured
    }

    /// Waits for the next record of every row and looks at it.
    fn take(&self, ring: &mut Ring, rows: usize, words: usize) -> Result<()> {
        let mut record = vec![0; words];
        for row in 0..rows {
            let (step, waiting) = (ring.taken(row), Instant::now());
            while !ring.take(row, &mut record)? {
                std::hint::spin_loop();
                let waited = waiting.elapsed();
                if waited < PATIENCE[0] {
                    continue;
                }
                let ended = self.stream.is_done()?;
                if ring.take(row, &mut record)? {
                    break; // what the device wrote before it was done is there afterwards
                }
                if ended {
                    return Err(self.wrong("a record did not reach the host although its kernel has run"));
                }
                if waited > PATIENCE[1] {
                    return Err(self.wrong("a record did not reach the host within ten seconds: a kernel hangs"));
                }
            }
            let serial = |w: usize| if w + 1 == words { (step + 1) << 32 } else { 0 };
            let expected = (0..words).map(|w| serial(w) | u64::from((step as u32) << 16 | (row as u32) << 8 | w as u32));
            if !expected.eq(record.iter().copied()) {
                return Err(self.wrong("a record holds other words"));
            }
        }
        Ok(())
    }
}

/// Marsaglia's xorshift: words that no pattern of addresses explains.
fn next(state: &mut u32) -> u32 {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    *state
}
