//! Keys and values of one sequence, in pages.
//!
//! ```text
//! page (128 positions) → layer → keys, then values → head → position → head_dim elements
//! ```
//!
//! A page is made when a sequence reaches it: all layers in one allocation, which lies in huge pages of the system where it is
//! long. Copies of a sequence share all pages until one writes: then the last page is
//! copied, so many samples of one prompt hold the prompt once.

use std::sync::Arc;

use half::bf16;
use half::vec::HalfBitsVecExt;

use crate::backend::{KvFormat, KvSpec};
use crate::memory::advise_huge_pages;
use crate::numeric::{e2m1, e4m3};
use crate::nvfp4::BLOCK;
use crate::simd::Table;

/// Positions in a page.
pub const PAGE: usize = 128;

/// Which of the two.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    Key = 0,
    Value = 1,
}

/// Some positions of one head, all in one page.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub layer: usize,
    pub side: Side,
    pub head: usize,
    pub first: usize,
    pub count: usize,
}

/// Keys or values of neighbouring positions, `[positions, head_dim]`, in a format that attention computes with.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// Keys and values of one sequence.
#[derive(Clone, Debug)]
pub struct Cache {
    spec: Arc<KvSpec>,
    pages: Vec<Arc<Page>>,
}

/// `[layers, 2, heads, PAGE, head_dim]` in the cache's format.
#[derive(Clone, Debug)]
enum Page {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    Fp8(Vec<u8>),
    Nvfp4 { codes: Vec<u8>, block_scales: Vec<u8> },
}

impl Page {
    fn new(spec: &KvSpec) -> Self {
        let len = spec.scales.len() * 2 * spec.heads * PAGE * spec.head_dim;
        match spec.format {
            KvFormat::F32 => Self::F32(zeros(len)),
            KvFormat::Bf16 => Self::Bf16(zeros::<u16>(len).reinterpret_into()),
            KvFormat::Fp8 => Self::Fp8(zeros(len)),
            KvFormat::Nvfp4 => Self::Nvfp4 { codes: zeros(len / 2), block_scales: zeros(len / BLOCK) },
        }
    }
}

impl Cache {
    /// An empty cache.
    pub fn new(spec: Arc<KvSpec>) -> Self {
        Self { pages: Vec::new(), spec }
    }

    /// Shape and format.
    pub fn spec(&self) -> &KvSpec {
        &self.spec
    }

    /// Bytes that one more position takes.
    pub fn bytes_per_position(spec: &KvSpec) -> usize {
        let elements = 2 * spec.heads * spec.head_dim * spec.scales.len();
        match spec.format {
            KvFormat::F32 => elements * 4,
            KvFormat::Bf16 => elements * 2,
            KvFormat::Fp8 => elements,
            KvFormat::Nvfp4 => elements / 2 + elements / BLOCK,
        }
    }

    /// Writes one position: `key` and `value` are `[heads, head_dim]`.
    pub fn store(&mut self, table: &Table, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        while self.pages.len() <= position / PAGE {
            self.pages.push(Arc::new(Page::new(&self.spec)));
        }
        let page = Arc::make_mut(&mut self.pages[position / PAGE]);
        for (side, data) in [(Side::Key, key), (Side::Value, value)] {
            let scale = self.spec.scales[layer][side as usize];
            for (head, row) in data.chunks_exact(self.spec.head_dim).enumerate() {
                write(table, page, place(&self.spec, layer, side, head, position % PAGE), scale, row);
            }
        }
    }

    /// The positions of `span` as they are stored, to be fetched ahead of their use; nothing of caches in other formats than bf16.
    pub fn stored_bf16(&self, span: Span) -> &[bf16] {
        let begin = place(&self.spec, span.layer, span.side, span.head, span.first % PAGE);
        match &*self.pages[span.first / PAGE] {
            Page::Bf16(data) => &data[begin..begin + span.count * self.spec.head_dim],
            Page::F32(_) | Page::Fp8(_) | Page::Nvfp4 { .. } => &[],
        }
    }

    /// The positions of `span`, `[count, head_dim]`: in the page itself, or widened into `wide`.
    pub fn rows<'a>(&'a self, table: &Table, span: Span, wide: &'a mut [f32]) -> Rows<'a> {
        let Span { layer, side, head, first, count } = span;
        let begin = place(&self.spec, layer, side, head, first % PAGE);
        let len = count * self.spec.head_dim;
        let end = begin + len;
        let scale = self.spec.scales[layer][side as usize];
        let wide = &mut wide[..len];
        match &*self.pages[first / PAGE] {
            Page::F32(data) => return Rows::F32(&data[begin..end]),
            Page::Bf16(data) => return Rows::Bf16(&data[begin..end]),
            Page::Fp8(data) => (table.vector.widen_e4m3)(&data[begin..end], scale, wide),
            Page::Nvfp4 { codes, block_scales } => {
                let scales = &block_scales[begin / BLOCK..end / BLOCK];
                (table.vector.widen_nvfp4)(&codes[begin / 2..end / 2], scales, scale, wide);
            }
        }
        Rows::F32(wide)
    }
}

/// Offset in elements.
fn place(spec: &KvSpec, layer: usize, side: Side, head: usize, slot: usize) -> usize {
    (((layer * 2 + side as usize) * spec.heads + head) * PAGE + slot) * spec.head_dim
}

/// `len` zeros that the system makes when they are first touched, in huge pages where they are many.
fn zeros<T: Copy + Default>(len: usize) -> Vec<T> {
    let zeros = vec![T::default(); len];
    advise_huge_pages(&zeros);
    zeros
}

fn write(table: &Table, page: &mut Page, begin: usize, scale: f32, row: &[f32]) {
    let end = begin + row.len();
    match page {
        Page::F32(data) => data[begin..end].copy_from_slice(row),
        Page::Bf16(data) => (table.vector.narrow_bf16)(row, &mut data[begin..end]),
        Page::Fp8(data) => {
            for (stored, &x) in data[begin..end].iter_mut().zip(row) {
                *stored = e4m3::encode(x / scale);
            }
        }
        Page::Nvfp4 { codes, block_scales } => {
            let codes = codes[begin / 2..end / 2].chunks_exact_mut(BLOCK / 2);
            for ((codes, stored), block) in codes.zip(&mut block_scales[begin / BLOCK..end / BLOCK]).zip(row.chunks_exact(BLOCK)) {
                *stored = e4m3::encode((table.vector.absmax)(block) / 6.0 / scale);
                let factor = e4m3::decode(*stored) * scale;
                let code = |x: f32| if factor > 0.0 { e2m1::encode(x / factor) } else { 0 };
                for (byte, pair) in codes.iter_mut().zip(block.chunks_exact(2)) {
                    *byte = code(pair[0]) | code(pair[1]) << 4;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    fn spec(format: KvFormat) -> Arc<KvSpec> {
        Arc::new(KvSpec { format, heads: 2, head_dim: 32, scales: vec![[0.01, 0.02]; 2] })
    }

    fn wave(seed: usize) -> Vec<f32> {
        (0..64).map(|i| ((i * 7 + seed * 13) as f32).sin()).collect()
    }

    #[test]
    fn what_is_stored_comes_back_within_the_format() {
        // Relative half-steps: bf16 2⁻⁹; E4M3 2⁻⁴; E2M1 with an E4M3 scale: 1/6 of the block's largest plus 2⁻⁴ of it.
        for (format, error) in [(KvFormat::F32, 0.0), (KvFormat::Bf16, 0.002), (KvFormat::Fp8, 0.0626), (KvFormat::Nvfp4, 0.23)] {
            for table in simd::available() {
                let wide_rows = |cache: &Cache, span, wide: &mut [f32]| match cache.rows(table, span, wide) {
                    Rows::F32(rows) => rows.to_vec(),
                    Rows::Bf16(rows) => rows.iter().map(|x| x.to_f32()).collect(),
                };
                let mut cache = Cache::new(spec(format));
                for position in 0..PAGE + 5 {
                    cache.store(table, 1, position, &wave(position), &wave(position + 1000));
                }
                let mut wide = vec![0.0; 8 * 32];
                for (side, offset) in [(Side::Key, 0), (Side::Value, 1000)] {
                    for first in [0, 64, PAGE - 4, PAGE] {
                        let rows = wide_rows(&cache, Span { layer: 1, side, head: 1, first, count: 4 }, &mut wide);
                        for (n, row) in rows.chunks_exact(32).enumerate() {
                            for (x, y) in row.iter().zip(&wave(first + n + offset)[32..]) {
                                assert!((x - y).abs() <= error, "{format:?} {x} {y}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_copy_shares_pages_until_it_writes() {
        let table = simd::scalar();
        let mut first = Cache::new(spec(KvFormat::F32));
        for position in 0..=PAGE {
            first.store(table, 0, position, &wave(position), &wave(position));
        }
        let mut second = first.clone();
        second.store(table, 0, PAGE + 1, &wave(1), &wave(1));
        first.store(table, 0, PAGE + 1, &wave(2), &wave(2));
        assert!(Arc::ptr_eq(&first.pages[0], &second.pages[0]));
        assert!(!Arc::ptr_eq(&first.pages[1], &second.pages[1]));
        let last = Span { layer: 0, side: Side::Key, head: 0, first: PAGE + 1, count: 1 };
        assert!(matches!(first.rows(table, last, &mut [0.0; 32]), Rows::F32(rows) if rows == &wave(2)[..32]));
        assert!(matches!(second.rows(table, last, &mut [0.0; 32]), Rows::F32(rows) if rows == &wave(1)[..32]));
    }
}
