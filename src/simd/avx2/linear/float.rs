//! Weights × f32, four rows of activations at a time: a block's sums are then eight registers, the chains of additions that it
//! takes to keep both multipliers busy.
//!
//! Few rows widen a tile on the way, again for each group of four: on ports that multiplication leaves idle, which costs less
//! than to store it widened and load it again. For many rows it is widened once, in the cache. Both have the same order of
//! operations.

mod formats;

use std::arch::x86_64::*;

use crate::simd::linear::{BLOCK, BLOCKS, Line, NVFP4_LINES, PanelSums, TILE, tiles};
use crate::simd::prefetch::prefetch;
use formats::{Bf16, F16, F32, Format, Nvfp4, STEP};

/// Most rows of activations in one pass over a tile.
const GROUP: usize = 4;
/// A tile as f32: per column, sixteen rows in two registers.
type Wide = [[__m256; 2]; TILE];
/// The block scales of a tile, `[block][half]`.
type Scales = [[__m256; 2]; BLOCKS];
/// A block's sums of `M` rows of activations, `[row][half]`.
type Sums<const M: usize> = [[__m256; 2]; M];

/// Declares the kernel of one format.
macro_rules! kernel {
    ($name:ident, $format:ty) => {
        pub fn $name(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
            let tiles = tiles(<$format>::LINES, panel, x, sums);
            // SAFETY: this table exists only where AVX2, FMA and F16C do; `tiles` checked the lengths.
            unsafe {
                if sums.len() <= <$format>::FEW {
                    few::<$format>(panel.as_ptr(), x.as_ptr(), tiles, sums);
                } else {
                    many::<$format>(panel.as_ptr(), x.as_ptr(), tiles, sums);
                }
            }
        }
    };
}

kernel!(nvfp4_f32_batch, Nvfp4);
kernel!(bf16_f32, Bf16);
kernel!(f16_f32, F16);
kernel!(f32_f32, F32);

/// Calls `$rows::<…, M>(x, sums)` for all rows of activations of one tile, in groups of nearly equal size.
macro_rules! groups {
    ($m:expr, $x:expr, $sums:expr, |$rows_x:ident, $rows_sums:ident| $rows:ident::<$format:ty>($($argument:expr),*)) => {
        let mut row = 0;
        for left in (1..=$m.div_ceil(GROUP)).rev() {
            let group = ($m - row).div_ceil(left);
            let ($rows_x, $rows_sums) = ($x.add(row), $sums.add(16 * row));
            match group {
                1 => $rows::<$format, 1>($($argument),*),
                2 => $rows::<$format, 2>($($argument),*),
                3 => $rows::<$format, 3>($($argument),*),
                _ => $rows::<$format, 4>($($argument),*),
            }
            row += group;
        }
    };
}

/// # Safety
/// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn few<F: Format>(panel: *const Line, x: *const [f32; TILE], tiles: usize, sums: &mut [PanelSums]) {
    let m = sums.len();
    sums.fill([0.0; 16]);
    let sums = sums.as_mut_ptr().cast::<f32>();
    for t in 0..tiles {
        // SAFETY: `t < tiles`, and the rows of each call are below `m`.
        unsafe {
            let (tile, x) = (panel.add(F::LINES * t), x.add(t * m));
            groups!(m, x, sums, |x, sums| rows::<F>(tile, x, sums));
        }
    }
}

/// # Safety
/// As [`few`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn many<F: Format>(panel: *const Line, x: *const [f32; TILE], tiles: usize, sums: &mut [PanelSums]) {
    let m = sums.len();
    sums.fill([0.0; 16]);
    let sums = sums.as_mut_ptr().cast::<f32>();
    let mut wide: Wide = [[_mm256_setzero_ps(); 2]; TILE];
    let mut s: Scales = [[_mm256_setzero_ps(); 2]; BLOCKS];
    for t in 0..tiles {
        // SAFETY: `t < tiles`, and the rows of each call are below `m`.
        unsafe {
            let (tile, x) = (panel.add(F::LINES * t), x.add(t * m));
            prefetch(tile, F::LINES);
            for (step, wide) in wide.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
                let columns = F::load(tile, step);
                for (j, wide) in wide.iter_mut().enumerate() {
                    *wide = F::widen(columns, j);
                }
            }
            for (block, s) in s.iter_mut().enumerate() {
                *s = [F::scale(tile, block, 0), F::scale(tile, block, 1)];
            }
            groups!(m, x, sums, |x, sums| wide_rows::<F>(&wide, &s, x, sums));
        }
    }
}

pub fn nvfp4_f32(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
    if let [sums] = sums {
        let tiles = tiles(NVFP4_LINES, panel, x, std::slice::from_ref(sums));
        // SAFETY: this table exists only where AVX2, FMA and F16C do; `tiles` checked the lengths.
        unsafe { nvfp4_one(panel.as_ptr(), x.as_ptr(), tiles, sums) };
    } else {
        nvfp4_f32_batch(panel, x, sums);
    }
}

/// One row of activations: widened weights stay in registers. Two blocks go side by side, since a block's chain of
/// sixteen additions takes longer than its other work.
///
/// # Safety
/// `panel` has `tiles` tiles, `x` as many.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nvfp4_one(panel: *const Line, x: *const [f32; TILE], tiles: usize, sums: &mut PanelSums) {
    let zero = _mm256_setzero_ps();
    let mut total = [zero; 2];
    for t in 0..tiles {
        // SAFETY: `t < tiles`.
        unsafe {
            let (tile, x) = (panel.add(NVFP4_LINES * t), &*x.add(t));
            prefetch(tile, NVFP4_LINES);
            let mut pairs = [[zero; 2]; 2];
            for (pair, joined) in pairs.iter_mut().enumerate() {
                let mut c = [[zero; 2]; 2]; // [block of the pair][half]
                for part in 0..BLOCK / STEP {
                    let steps = [BLOCK / STEP * 2 * pair + part, BLOCK / STEP * (2 * pair + 1) + part];
                    let columns = [Nvfp4::load(tile, steps[0]), Nvfp4::load(tile, steps[1])];
                    for j in 0..STEP {
                        for second in 0..2 {
                            let x = _mm256_broadcast_ss(&x[STEP * steps[second] + j]);
                            let w = Nvfp4::widen(columns[second], j);
                            c[second][0] = _mm256_fmadd_ps(w[0], x, c[second][0]);
                            c[second][1] = _mm256_fmadd_ps(w[1], x, c[second][1]);
                        }
                    }
                }
                for half in 0..2 {
                    let s = [Nvfp4::scale(tile, 2 * pair, half), Nvfp4::scale(tile, 2 * pair + 1, half)];
                    joined[half] = _mm256_fmadd_ps(s[1], c[1][half], _mm256_mul_ps(s[0], c[0][half]));
                }
            }
            for half in 0..2 {
                total[half] = _mm256_add_ps(total[half], _mm256_add_ps(pairs[0][half], pairs[1][half]));
            }
        }
    }
    // SAFETY: sixteen results.
    unsafe {
        _mm256_storeu_ps(sums.as_mut_ptr(), total[0]);
        _mm256_storeu_ps(sums.as_mut_ptr().add(8), total[1]);
    }
}

/// Adds one tile's products for `M` rows, in the order that `simd::linear` states.
///
/// # Safety
/// The tile is there, `x` has `M` tiles, `sums` `M · 16` results.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<F: Format, const M: usize>(tile: *const Line, x: *const [f32; TILE], sums: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pairs: [Sums<M>; 2] = [[[_mm256_setzero_ps(); 2]; M]; 2];
        for (pair, joined) in pairs.iter_mut().enumerate() {
            for second in 0..2 {
                let block = 2 * pair + second;
                // A block's share at a time: a whole dense tile is more lines than a core can wait for at once.
                prefetch(tile.add(F::LINES * block / BLOCKS), F::LINES * (block + 1) / BLOCKS - F::LINES * block / BLOCKS);
                let mut c: Sums<M> = [[_mm256_setzero_ps(); 2]; M];
                for step in BLOCK / STEP * block..BLOCK / STEP * (block + 1) {
                    let columns = F::load(tile, step);
                    for j in 0..STEP {
                        let w = F::widen(columns, j);
                        for (i, c) in c.iter_mut().enumerate() {
                            let x = _mm256_broadcast_ss(&(*x.add(i))[STEP * step + j]);
                            c[0] = _mm256_fmadd_ps(w[0], x, c[0]);
                            c[1] = _mm256_fmadd_ps(w[1], x, c[1]);
                        }
                    }
                }
                let s = [F::scale(tile, block, 0), F::scale(tile, block, 1)];
                join::<F, M>(joined, c, s, second);
            }
        }
        add(sums, &pairs);
    }
}

/// The same for a tile that is widened already.
///
/// # Safety
/// As [`rows`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn wide_rows<F: Format, const M: usize>(wide: &Wide, s: &Scales, x: *const [f32; TILE], sums: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pairs: [Sums<M>; 2] = [[[_mm256_setzero_ps(); 2]; M]; 2];
        for (pair, joined) in pairs.iter_mut().enumerate() {
            for second in 0..2 {
                let block = 2 * pair + second;
                let mut c: Sums<M> = [[_mm256_setzero_ps(); 2]; M];
                for k in BLOCK * block..BLOCK * (block + 1) {
                    let w = wide[k];
                    for (i, c) in c.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&(*x.add(i))[k]);
                        c[0] = _mm256_fmadd_ps(w[0], x, c[0]);
                        c[1] = _mm256_fmadd_ps(w[1], x, c[1]);
                    }
                }
                join::<F, M>(joined, c, s[block], second);
            }
        }
        add(sums, &pairs);
    }
}

/// Joins the sums of a pair's first or second block.
///
/// # Safety
/// As [`Format`].
#[inline(always)]
unsafe fn join<F: Format, const M: usize>(joined: &mut Sums<M>, c: Sums<M>, s: [__m256; 2], second: usize) {
    for (joined, c) in joined.iter_mut().zip(c) {
        for half in 0..2 {
            // SAFETY: arithmetic on registers.
            joined[half] = unsafe {
                match (F::SCALED, second) {
                    (true, 0) => _mm256_mul_ps(s[half], c[half]),
                    (true, _) => _mm256_fmadd_ps(s[half], c[half], joined[half]),
                    (false, 0) => c[half],
                    (false, _) => _mm256_add_ps(joined[half], c[half]),
                }
            };
        }
    }
}

/// Adds both pairs to the totals.
///
/// # Safety
/// `sums` has `M · 16` results.
#[inline(always)]
unsafe fn add<const M: usize>(sums: *mut f32, pairs: &[Sums<M>; 2]) {
    for i in 0..M {
        for half in 0..2 {
            // SAFETY: the caller's promise.
            unsafe {
                let at = sums.add(16 * i + 8 * half);
                _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), _mm256_add_ps(pairs[0][i][half], pairs[1][i][half])));
            }
        }
    }
}
