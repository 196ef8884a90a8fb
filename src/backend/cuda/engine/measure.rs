//! What a linear layer costs, alone: a graph of launches on one operand, with weights that come from memory or from the second-level cache.

#![allow(unsafe_code, reason = "replays a graph")]

use std::time::{Duration, Instant};

use half::bf16;

use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::engine::Cuda;
use crate::backend::cuda::engine::layers::{Linear, Ready};
use crate::backend::cuda::engine::queue::{Queue, Split};
use crate::backend::cuda::graph::Graph;
use crate::backend::cuda::plan;
use crate::backend::cuda::problem::Problem;
use crate::backend::cuda::stream::Event;
use crate::backend::{Inputs, LinearParts};
use crate::error::Result;
use crate::nvfp4::{Nvfp4Matrix, TensorScale};
use crate::tensor::{Dense, Matrix};

/// Launches of a graph.
const LAUNCHES: usize = 64;
/// How long an idle chip is kept busy before anything is timed: it takes some tens of milliseconds to reach its clocks.
const WARM_UP: Duration = Duration::from_millis(300);
/// The same between two numbers of tokens.
const STAY_WARM: Duration = Duration::from_millis(20);

/// A layer to time.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Outputs.
    pub rows: usize,
    /// Inputs, a multiple of 16.
    pub cols: usize,
    /// NVFP4 weights and inputs, else bf16 weights.
    pub nvfp4: bool,
    /// Copies of the weights that launches take in turn: one to find them in the cache, enough to exceed it several times to find none.
    pub copies: usize,
}

impl Cuda {
    /// Seconds of one launch for each number of `tokens` (1 to 8), the median over `repetitions` replays of a graph of 64, and the bytes of
    /// one copy of the weights. An error if a replay gives other numbers than the first, or none.
    pub fn time_linear(&self, shape: Shape, tokens: &[u32], repetitions: usize) -> Result<(Vec<f64>, usize)> {
        let Shape { rows, cols, nvfp4, copies } = shape;
        let state = self.state();
        let queue = &state.queue;
        let mut word = 1_u32;
        let mut byte = || {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (word >> 24) as u8
        };
        let weight = if nvfp4 {
            let codes = (0..rows * cols / 2).map(|_| byte()).collect();
            let scales = (0..rows * cols / 16).map(|_| 0x30 + (byte() & 15)).collect();
            Matrix::Nvfp4(Nvfp4Matrix::new(codes, scales, TensorScale::Multiplier(0.01), rows, cols)?)
        } else {
            let data: Vec<_> = (0..rows * cols).map(|_| bf16::from_f32(f32::from(byte()) / 128.0 - 1.0)).collect();
            Matrix::Bf16(Dense { data: data.into(), rows, cols })
        };
        let inputs = if nvfp4 { Inputs::Static(8.0 / 2688.0) } else { Inputs::Float };
        let mut layers = vec![Linear::new(queue, LinearParts { weight, bias: None, pre_quant_scale: None, inputs })?];
        while layers.len() < copies.max(1) {
            layers.push(layers[0].again(queue)?);
        }
        let most = tokens.iter().copied().max().unwrap_or(0);
        debug_assert!(most <= plan::COLUMNS);
        let x: Vec<f32> = (0..most as usize * cols).map(|_| f32::from(byte()) / 64.0 - 2.0).collect();
        let x = Buffer::from_slice(&queue.device, &queue.stream, &x)?;
        let mut warm_up = WARM_UP;
        let mut seconds = Vec::with_capacity(tokens.len());
        for &count in tokens {
            seconds.push(time_one(queue, &layers, &x, count, (warm_up, repetitions))?);
            warm_up = STAY_WARM;
        }
        Ok((seconds, layers[0].nbytes()))
    }
}

/// Median seconds of a launch of `layers` in turn on the first `tokens` rows of `x`.
fn time_one(queue: &Queue, layers: &[Linear], x: &Buffer<f32>, tokens: u32, (warm_up, repetitions): (Duration, usize)) -> Result<f64> {
    let (device, stream) = (&queue.device, &queue.stream);
    let (rows, cols, feed) = (layers[0].rows, layers[0].cols, layers[0].feed(false));
    let form = feed.form();
    let operand = Buffer::<u32>::new(device, 4 * form.pieces(tokens, cols, tokens * form.terms()))?;
    let scales = Buffer::<f32>::new(device, tokens as usize)?;
    let mut out = Buffer::<f32>::new(device, tokens as usize * rows)?;
    out.fill(stream, 0xFF)?; // NaN: what a kernel does not write shows
    let [sums, counts] = layers[0].split_room(queue);
    let (sums, counts) = (Buffer::<f32>::new(device, sums)?, Buffer::<u32>::zeros(device, stream, counts)?);
    queue.activations(x.pointer(), feed.prepared(operand.pointer(), scales.pointer(), tokens), form, tokens as usize, cols)?;
    let ready = Ready { x: operand.pointer(), scales: scales.pointer(), form };
    let split = Split { partials: sums.pointer(), arrivals: counts.pointer() };
    let graph = Graph::capture(stream, || {
        (0..LAUNCHES).try_for_each(|n| layers[n % layers.len()].apply(queue, ready, tokens, 0, out.pointer(), split))
    })?;
    let replay = || {
        // SAFETY: every buffer that the graph names lives until the end of this function, which waits for the last replay.
        unsafe { graph.launch(stream) }
    };
    let (begun, mut first) = (Instant::now(), None);
    while first.is_none() || begun.elapsed() < warm_up {
        replay()?;
        stream.synchronize()?;
        if first.is_none() {
            first = Some(out.to_vec(stream)?);
        }
    }
    let (start, end) = (Event::new(device)?, Event::new(device)?);
    let mut seconds = Vec::new();
    for _ in 0..repetitions.max(1) {
        start.record(stream)?;
        replay()?;
        end.record(stream)?;
        seconds.push(end.seconds_since(&start)? / LAUNCHES as f64);
    }
    let (first, last) = (first.unwrap_or_default(), out.to_vec(stream)?);
    let same = first.iter().zip(&last).all(|(a, b)| a.to_bits() == b.to_bits());
    if !same || !last.iter().all(|y| y.is_finite()) {
        let found = format!("a layer of {rows} × {cols} gave {tokens} tokens other numbers when it was run again, or none");
        return Err(device.error(Problem::new(found, "its times mean nothing")));
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}
