//! What a linear layer costs, alone: a graph of launches on one operand, with weights that come from memory or from the second-level cache.

#![allow(unsafe_code, reason = "replays a graph")]

use half::bf16;

use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::engine::Cuda;
use crate::backend::cuda::engine::layers::{Linear, Ready};
use crate::backend::cuda::engine::queue::Split;
use crate::backend::cuda::graph::Graph;
use crate::backend::cuda::plan;
use crate::backend::cuda::stream::Event;
use crate::backend::{Inputs, LinearParts};
use crate::error::Result;
use crate::nvfp4::{Nvfp4Matrix, TensorScale};
use crate::tensor::{Dense, Matrix};

/// Launches of a graph.
const LAUNCHES: usize = 64;

/// A layer to time.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Outputs.
    pub rows: usize,
    /// Inputs, a multiple of 16.
    pub cols: usize,
    /// NVFP4 weights and inputs, else bf16 weights.
    pub nvfp4: bool,
    /// Tokens, 1 to 8.
    pub tokens: u32,
    /// Copies of the weights that launches take in turn: one to find them in the cache, enough to exceed it several times to find none.
    pub copies: usize,
}

impl Cuda {
    /// Seconds of one launch: the median over `repetitions` replays of a graph of 64, and the bytes of one copy of the weights.
    pub fn time_linear(&self, shape: Shape, repetitions: usize) -> Result<(f64, usize)> {
        let Shape { rows, cols, nvfp4, tokens, copies } = shape;
        let state = self.state();
        let queue = &state.queue;
        let (device, stream) = (&queue.device, &queue.stream);
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
        let feed = layers[0].feed(false);
        let form = feed.form();
        let x: Vec<f32> = (0..tokens as usize * cols).map(|_| f32::from(byte()) / 64.0 - 2.0).collect();
        let x = Buffer::from_slice(device, stream, &x)?;
        let operand = Buffer::<u32>::new(device, 4 * form.pieces(tokens, cols, tokens * form.terms()))?;
        let scales = Buffer::<f32>::new(device, tokens as usize)?;
        let out = Buffer::<f32>::new(device, tokens as usize * rows)?;
        let [sums, counts] = layers[0].split_room(queue);
        let (sums, counts) = (Buffer::<f32>::new(device, sums)?, Buffer::<u32>::zeros(device, stream, counts)?);
        queue.activations(x.pointer(), feed.prepared(operand.pointer(), scales.pointer(), tokens), form, tokens as usize, cols)?;
        let ready = Ready { x: operand.pointer(), scales: scales.pointer(), form };
        let split = Split { partials: sums.pointer(), arrivals: counts.pointer() };
        let graph = Graph::capture(stream, || {
            (0..LAUNCHES).try_for_each(|n| layers[n % layers.len()].apply(queue, ready, tokens, 0, out.pointer(), split))
        })?;
        let (start, end) = (Event::new(device)?, Event::new(device)?);
        let mut seconds = Vec::new();
        for repetition in 0..repetitions.max(1) + 2 {
            start.record(stream)?;
            // SAFETY: every buffer that the graph names lives until the end of this function, which waits for the last replay.
            unsafe { graph.launch(stream) }?;
            end.record(stream)?;
            let taken = end.seconds_since(&start)?;
            if repetition >= 2 {
                seconds.push(taken / LAUNCHES as f64);
            }
        }
        stream.synchronize()?;
        debug_assert!(tokens <= plan::COLUMNS);
        seconds.sort_by(f64::total_cmp);
        Ok((seconds[seconds.len() / 2], layers[0].nbytes()))
    }
}
