//! Weights × f32: a tile is widened to f32 once, in the cache, and multiplied by eight rows of activations at a time.

use std::arch::x86_64::*;

use crate::numeric::e2m1;
use crate::simd::avx512::linear::nvfp4::scales;
use crate::simd::linear::{BLOCK, BLOCKS, F32_LINES, HALF_LINES, Line, NVFP4_LINES, PanelSums, TILE, tiles};
use crate::simd::prefetch::prefetch;

/// A tile as f32: a register of sixteen rows per column.
type Wide = [__m512; TILE];
/// The block scales of a tile.
type Scales = [__m512; BLOCKS];

/// Declares the kernel of one format: `$widen(tile, &mut wide, &mut scales)`, which also fetches what comes later, and whether blocks
/// have scales.
macro_rules! kernel {
    ($name:ident, $inner:ident, $lines:expr, $widen:ident, $scaled:literal) => {
        pub fn $name(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
            let tiles = tiles($lines, panel, x, sums);
            // SAFETY: these tables exist only where AVX-512 F, BW and VL do; `tiles` checked the lengths.
            unsafe { $inner(panel.as_ptr(), x.as_ptr(), tiles, sums) };
        }

        /// # Safety
        /// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        unsafe fn $inner(panel: *const Line, x: *const [f32; TILE], tiles: usize, sums: &mut [PanelSums]) {
            let m = sums.len();
            sums.fill([0.0; 16]);
            let sums = sums.as_mut_ptr().cast::<f32>();
            let mut wide: Wide = [_mm512_setzero_ps(); TILE];
            let mut s: Scales = [_mm512_setzero_ps(); BLOCKS];
            for t in 0..tiles {
                // SAFETY: `t < tiles`, and the rows of each call are below `m`.
                unsafe {
                    let (tile, x) = (panel.add($lines * t), x.add(t * m));
                    $widen(tile, &mut wide, &mut s);
                    let mut row = 0;
                    while row + 8 <= m {
                        rows::<8, $scaled>(&wide, &s, x.add(row), sums.add(16 * row));
                        row += 8;
                    }
                    if row + 4 <= m {
                        rows::<4, $scaled>(&wide, &s, x.add(row), sums.add(16 * row));
                        row += 4;
                    }
                    match m - row {
                        1 => rows::<1, $scaled>(&wide, &s, x.add(row), sums.add(16 * row)),
                        2 => rows::<2, $scaled>(&wide, &s, x.add(row), sums.add(16 * row)),
                        3 => rows::<3, $scaled>(&wide, &s, x.add(row), sums.add(16 * row)),
                        _ => {}
                    }
                }
            }
        }
    };
}

kernel!(nvfp4_f32_many, nvfp4_inner, NVFP4_LINES, widen_nvfp4, true);
kernel!(bf16_f32, bf16_inner, HALF_LINES, widen_bf16, false);
kernel!(f16_f32, f16_inner, HALF_LINES, widen_f16, false);
kernel!(f32_f32, f32_inner, F32_LINES, widen_f32, false);

pub fn nvfp4_f32(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
    if let [sums] = sums {
        let tiles = tiles(NVFP4_LINES, panel, x, std::slice::from_ref(sums));
        // SAFETY: these tables exist only where AVX-512 F, BW and VL do; `tiles` checked the lengths.
        unsafe { nvfp4_one(panel.as_ptr(), x.as_ptr(), tiles, sums) };
    } else {
        nvfp4_f32_many(panel, x, sums);
    }
}

/// One row of activations: widened weights stay in registers. The four blocks go side by side, since a block is one chain.
///
/// # Safety
/// `panel` has `tiles` tiles, `x` as many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn nvfp4_one(panel: *const Line, x: *const [f32; TILE], tiles: usize, sums: &mut PanelSums) {
    let mut total = _mm512_setzero_ps();
    for t in 0..tiles {
        // SAFETY: `t < tiles`.
        unsafe {
            let (tile, x) = (panel.add(NVFP4_LINES * t), &*x.add(t));
            prefetch(tile, NVFP4_LINES);
            let mut c = [_mm512_setzero_ps(); BLOCKS];
            for v in 0..2 {
                let lines: [_; BLOCKS] = std::array::from_fn(|block| _mm512_load_si512(tile.add(2 * block + v).cast()));
                for k in 0..8 {
                    for block in 0..BLOCKS {
                        let x = _mm512_set1_ps(x[BLOCK * block + 8 * v + k]);
                        c[block] = _mm512_fmadd_ps(column(lines[block], k), x, c[block]);
                    }
                }
            }
            let s: Scales = std::array::from_fn(|block| nvfp4_scales(tile, block));
            let left = _mm512_fmadd_ps(s[1], c[1], _mm512_mul_ps(s[0], c[0]));
            let right = _mm512_fmadd_ps(s[3], c[3], _mm512_mul_ps(s[2], c[2]));
            total = _mm512_add_ps(total, _mm512_add_ps(left, right));
        }
    }
    // SAFETY: sixteen results.
    unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), total) };
}

/// Adds one tile's products for `M` rows, in the order that `simd::linear` states.
///
/// # Safety
/// `x` has `M` tiles, `sums` `M · 16` results.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn rows<const M: usize, const SCALED: bool>(wide: &Wide, s: &Scales, x: *const [f32; TILE], sums: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pairs = [[_mm512_setzero_ps(); M]; 2];
        for (pair, joined) in pairs.iter_mut().enumerate() {
            for second in 0..2 {
                let block = 2 * pair + second;
                let mut c = [_mm512_setzero_ps(); M];
                for k in BLOCK * block..BLOCK * (block + 1) {
                    for (i, c) in c.iter_mut().enumerate() {
                        *c = _mm512_fmadd_ps(wide[k], _mm512_set1_ps((*x.add(i))[k]), *c);
                    }
                }
                for (joined, c) in joined.iter_mut().zip(c) {
                    *joined = match (SCALED, second) {
                        (true, 0) => _mm512_mul_ps(s[block], c),
                        (true, _) => _mm512_fmadd_ps(s[block], c, *joined),
                        (false, 0) => c,
                        (false, _) => _mm512_add_ps(*joined, c),
                    };
                }
            }
        }
        for i in 0..M {
            let at = sums.add(16 * i);
            _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), _mm512_add_ps(pairs[0][i], pairs[1][i])));
        }
    }
}

/// Column `k` of the eight of a line, as f32: a look-up reads the low four bits of each dword.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn column(line: __m512i, k: usize) -> __m512 {
    // SAFETY: sixteen values.
    let table = unsafe { _mm512_loadu_ps(e2m1::VALUES.as_ptr()) };
    let shift = 8 * (k % 4) + 4 * (k / 4);
    _mm512_permutexvar_ps(_mm512_srl_epi32(line, _mm_cvtsi32_si128(shift as i32)), table)
}

/// Scales of a block.
///
/// # Safety
/// `tile` has nine lines; `block < 4`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn nvfp4_scales(tile: *const Line, block: usize) -> __m512 {
    // SAFETY: the caller's promise.
    unsafe { _mm512_mul_ps(scales(tile, block), _mm512_set1_ps(256.0)) }
}

/// # Safety
/// `tile` has nine lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn widen_nvfp4(tile: *const Line, wide: &mut Wide, s: &mut Scales) {
    prefetch(tile, NVFP4_LINES);
    // SAFETY: the caller's promise.
    unsafe {
        for (block, s) in s.iter_mut().enumerate() {
            *s = nvfp4_scales(tile, block);
        }
        for (line, wide) in wide.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let v = _mm512_load_si512(tile.add(line).cast());
            for (k, wide) in wide.iter_mut().enumerate() {
                *wide = column(v, k);
            }
        }
    }
}

/// bf16 is the upper half of an f32. Lines are fetched ahead one by one, here and below: a whole dense tile is more than a core can wait
/// for at once.
///
/// # Safety
/// `tile` has 32 lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn widen_bf16(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    let upper = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
    for line in 0..HALF_LINES {
        // SAFETY: the caller's promise.
        let v = unsafe {
            prefetch(tile.add(line), 1);
            _mm512_load_si512(tile.add(line).cast())
        };
        wide[2 * line] = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v));
        wide[2 * line + 1] = _mm512_castsi512_ps(_mm512_and_si512(v, upper));
    }
}

/// # Safety
/// `tile` has 32 lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn widen_f16(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    for (line, wide) in wide.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let line = tile.add(line);
            prefetch(line, 1);
            for (k, wide) in wide.iter_mut().enumerate() {
                *wide = _mm512_cvtph_ps(_mm256_load_si256(line.cast::<__m256i>().add(k)));
            }
        }
    }
}

/// # Safety
/// `tile` has 64 lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn widen_f32(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    for (line, wide) in wide.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            let line = tile.add(line);
            prefetch(line, 1);
            *wide = _mm512_load_ps(line.cast());
        }
    }
}
