//! Attention over the cache.
//!
//! ```text
//! for each key and value head, for each chunk of 32 positions:
//!     scores = scale · q · K                                              for every query head of the group and every row
//!     out = out · exp(old max − new max) + Σ exp(score − new max) · V
//! at the end out / Σ exp(score − max)
//! ```
//!
//! A chunk is read from memory once for all rows and heads of its group, and fetched while the one before it is computed with.
//! bf16 is widened in registers on the way; narrower formats are widened once, into a buffer.
//!
//! Chunks start at multiples of 32 whatever the rows, the batch or the threads are, so each query's sums have one order.
//! Work is split by row in a prefill (rows of one sequence share the widened chunk) and by row and head in a decode step.

use crate::backend::cpu::Cpu;
use crate::backend::cpu::cache::{Cache, PAGE, Rows, Side, Span};
use crate::backend::{Attention, Row};
use crate::parallel::Columns;
use crate::simd::Table;

/// Positions computed at once; divides [`PAGE`].
const CHUNK: usize = 32;
const _: () = assert!(PAGE.is_multiple_of(CHUNK));

/// Buffers of one thread.
#[derive(Debug, Default)]
pub struct Scratch {
    wide: Vec<f32>,      // [CHUNK, head_dim]
    scores: Vec<f32>,    // [rows, group, CHUNK]
    softmax: Vec<State>, // [rows, group]
    rescale: Vec<f32>,   // [rows, group]: factor of what was added before the current chunk
}

/// Running softmax of one query head.
#[derive(Clone, Copy, Debug)]
struct State {
    max: f32,
    sum: f32,
}

/// Some rows of one sequence and one key and value head.
struct Work<'a> {
    cache: &'a Cache,
    attention: Attention,
    head: usize,
    rows: &'a [Row],
    query: &'a [f32], // [rows, stride], from this head's first query head on
    stride: usize,
}

/// `query` and `out` are `[rows, heads · head_dim]`.
pub fn attend(cpu: &Cpu, caches: &[Cache], attention: Attention, rows: &[Row], query: &[f32], out: &mut [f32]) {
    let Cpu { pool, table, spare, .. } = cpu;
    let spec = caches[rows[0].sequence].spec();
    let group = attention.heads / spec.heads * spec.head_dim;
    let width = spec.heads * group;
    let one_sequence = rows.len() > 1 && rows.iter().all(|r| r.sequence == rows[0].sequence);
    let unit = if one_sequence { width } else { group };
    pool.fill(&mut [Columns::new(&mut out[..rows.len() * width], 1)], unit, |_, mut share| {
        let range = share.range();
        let out = share.row_mut(0);
        let mut scratch = spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
        let work = |first: usize, count: usize, head: usize| Work {
            cache: &caches[rows[first].sequence],
            attention,
            head,
            rows: &rows[first..first + count],
            query: &query[first * width + head * group..],
            stride: width,
        };
        if one_sequence {
            for head in 0..spec.heads {
                work(range.start / width, range.len() / width, head).run(table, &mut scratch, &mut out[head * group..]);
            }
        } else {
            for (out, place) in out.chunks_exact_mut(group).zip(range.step_by(group)) {
                work(place / width, 1, place % width / group).run(table, &mut scratch, out);
            }
        }
        if let Ok(mut spare) = spare.lock() {
            spare.push(scratch);
        }
    });
}

impl Work<'_> {
    /// `out` is `[rows, stride]` from this head's first query head on.
    fn run(&self, table: &Table, scratch: &mut Scratch, out: &mut [f32]) {
        let head_dim = self.cache.spec().head_dim;
        let group = self.attention.heads / self.cache.spec().heads;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let Scratch { wide, scores, softmax, rescale } = scratch;
        wide.resize(CHUNK * head_dim, 0.0);
        scores.resize(self.rows.len() * group * CHUNK, 0.0);
        softmax.clear();
        softmax.resize(self.rows.len() * group, State { max: f32::NEG_INFINITY, sum: 0.0 });
        rescale.resize(self.rows.len() * group, 0.0);
        for row in 0..self.rows.len() {
            out[row * self.stride..][..group * head_dim].fill(0.0);
        }
        let first = self.seen(self.rows[0]).0 / CHUNK * CHUNK;
        let last = self.rows[self.rows.len() - 1].position;
        for begin in (first..=last).step_by(CHUNK) {
            let end = (begin + CHUNK).min(last + 1);
            let span = |side| Span { layer: self.attention.layer, side, head: self.head, first: begin, count: end - begin };
            let mut ahead = self.cache.stored_bf16(span(Side::Value)); // once: the first row's kernel fetches it
            let keys = self.cache.rows(table, span(Side::Key), wide);
            for (row, (from, to)) in self.visible(begin, end) {
                let seen = (from - begin) * head_dim..(to - begin) * head_dim;
                let query = &self.query[row * self.stride..][..group * head_dim];
                let heads = row * group..(row + 1) * group;
                let scores = &mut scores[heads.start * CHUNK..heads.end * CHUNK];
                match keys {
                    Rows::Bf16(keys) => {
                        (table.vector.dots_bf16)(query, &keys[seen], head_dim, scale, scores, CHUNK, std::mem::take(&mut ahead));
                    }
                    Rows::F32(keys) => {
                        for (query, scores) in query.chunks_exact(head_dim).zip(scores.chunks_exact_mut(CHUNK)) {
                            (table.vector.dots)(query, &keys[seen.clone()], scale, &mut scores[..to - from]);
                        }
                    }
                }
                for ((state, rescale), scores) in
                    softmax[heads.clone()].iter_mut().zip(&mut rescale[heads]).zip(scores.chunks_exact_mut(CHUNK))
                {
                    // Positions that are not seen weigh 0: whole chunks are faster than what is left of them, and +0 changes no sum.
                    scores[to - from..].fill(f32::NEG_INFINITY);
                    *rescale = state.take(table, scores);
                }
            }
            let next = Span { first: end, count: CHUNK.min(last + 1 - end), ..span(Side::Key) };
            let mut ahead = if next.count > 0 { self.cache.stored_bf16(next) } else { &[] };
            let values = self.cache.rows(table, span(Side::Value), wide);
            for (row, (from, to)) in self.visible(begin, end) {
                let seen = (from - begin) * head_dim..(to - begin) * head_dim;
                let out = &mut out[row * self.stride..][..group * head_dim];
                let heads = row * group..(row + 1) * group;
                let (rescale, weights) = (&rescale[heads.clone()], &scores[heads.start * CHUNK..heads.end * CHUNK]);
                match values {
                    Rows::Bf16(values) => {
                        (table.vector.weighted_sums_bf16)(out, rescale, weights, CHUNK, &values[seen], std::mem::take(&mut ahead));
                    }
                    Rows::F32(values) => {
                        for ((out, &rescale), weights) in out.chunks_exact_mut(head_dim).zip(rescale).zip(weights.chunks_exact(CHUNK)) {
                            (table.vector.weighted_sum)(out, rescale, &weights[..to - from], &values[seen.clone()]);
                        }
                    }
                }
            }
        }
        for row in 0..self.rows.len() {
            for g in 0..group {
                let sum = softmax[row * group + g].sum;
                for x in &mut out[row * self.stride + g * head_dim..][..head_dim] {
                    *x /= sum;
                }
            }
        }
    }

    /// Positions that `row` sees: from, to (exclusive).
    fn seen(&self, row: Row) -> (usize, usize) {
        let end = row.position + 1;
        (end.saturating_sub(self.attention.window.unwrap_or(end)), end)
    }

    /// Rows that see part of `begin..end`, and which part.
    fn visible(&self, begin: usize, end: usize) -> impl Iterator<Item = (usize, (usize, usize))> {
        self.rows.iter().enumerate().filter_map(move |(index, &row)| {
            let (from, to) = self.seen(row);
            let (from, to) = (from.max(begin), to.min(end));
            (from < to).then_some((index, (from, to)))
        })
    }
}

impl State {
    /// Turns `scores` into weights under the new maximum; returns the factor of what was added under the old one.
    fn take(&mut self, table: &Table, scores: &mut [f32]) -> f32 {
        let max = (table.vector.max)(scores).max(self.max);
        let mut rescale = [self.max];
        (table.vector.exp_sum)(&mut rescale, max);
        self.sum = self.sum * rescale[0] + (table.vector.exp_sum)(scores, max);
        self.max = max;
        rescale[0]
    }
}
