//! Weights × f32: a tile is widened to f32 once, in the cache, and multiplied by four rows of activations at a time.

use std::arch::x86_64::*;

use crate::numeric::e2m1;
use crate::simd::avx2::linear::nvfp4::scales;
use crate::simd::avx2::linear::prefetch;
use crate::simd::linear::{BLOCK, BLOCKS, F32_LINES, HALF_LINES, Line, NVFP4_LINES, PanelSums, TILE, tiles};

/// A tile as f32: per column, sixteen rows in two registers.
type Wide = [[__m256; 2]; TILE];
/// The block scales of a tile, `[block][half]`.
type Scales = [[__m256; 2]; BLOCKS];

/// Declares the kernel of one format: `$widen(tile, &mut wide)`, and whether blocks have scales.
macro_rules! kernel {
    ($name:ident, $inner:ident, $lines:expr, $widen:ident, $scaled:literal) => {
        pub fn $name(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
            let tiles = tiles($lines, panel, x, sums);
            // SAFETY: this table exists only where AVX2, FMA and F16C do; `tiles` checked the lengths.
            unsafe { $inner(panel.as_ptr(), x.as_ptr(), tiles, sums) };
        }

        /// # Safety
        /// `panel` has `tiles` tiles, `x` as many for each row of `sums`.
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn $inner(panel: *const Line, x: *const [f32; TILE], tiles: usize, sums: &mut [PanelSums]) {
            let m = sums.len();
            sums.fill([0.0; 16]);
            let sums = sums.as_mut_ptr().cast::<f32>();
            let mut wide: Wide = [[_mm256_setzero_ps(); 2]; TILE];
            let mut s: Scales = [[_mm256_setzero_ps(); 2]; BLOCKS];
            for t in 0..tiles {
                // SAFETY: `t < tiles`, and the rows of each call are below `m`.
                unsafe {
                    let (tile, x) = (panel.add($lines * t), x.add(t * m));
                    prefetch(tile, $lines);
                    $widen(tile, &mut wide, &mut s);
                    let mut row = 0;
                    while row + 4 <= m {
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
        // SAFETY: this table exists only where AVX2, FMA and F16C do; `tiles` checked the lengths.
        unsafe { nvfp4_one(panel.as_ptr(), x.as_ptr(), tiles, sums) };
    } else {
        nvfp4_f32_many(panel, x, sums);
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
                for part in 0..4 {
                    // Four columns: a nibble of a line.
                    let (v, high) = (part / 2, part % 2 == 1);
                    let codes = [0, 1].map(|second| [0, 1].map(|half| doubled(tile.add(2 * (2 * pair + second) + v), half, high)));
                    for j in 0..4 {
                        for second in 0..2 {
                            let x = _mm256_broadcast_ss(&x[BLOCK * (2 * pair + second) + 4 * part + j]);
                            for half in 0..2 {
                                c[second][half] = _mm256_fmadd_ps(column(codes[second][half], j), x, c[second][half]);
                            }
                        }
                    }
                }
                for half in 0..2 {
                    let s = [0, 1].map(|second| nvfp4_scales(tile, 2 * pair + second, half));
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
/// `x` has `M` tiles, `sums` `M · 16` results.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<const M: usize, const SCALED: bool>(wide: &Wide, s: &Scales, x: *const [f32; TILE], sums: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut pairs = [[[_mm256_setzero_ps(); 2]; M]; 2];
        for (pair, joined) in pairs.iter_mut().enumerate() {
            for second in 0..2 {
                let block = 2 * pair + second;
                let mut c = [[_mm256_setzero_ps(); 2]; M];
                for k in BLOCK * block..BLOCK * (block + 1) {
                    let w = wide[k];
                    for (i, c) in c.iter_mut().enumerate() {
                        let x = _mm256_broadcast_ss(&(*x.add(i))[k]);
                        c[0] = _mm256_fmadd_ps(w[0], x, c[0]);
                        c[1] = _mm256_fmadd_ps(w[1], x, c[1]);
                    }
                }
                for (joined, c) in joined.iter_mut().zip(c) {
                    for half in 0..2 {
                        joined[half] = match (SCALED, second) {
                            (true, 0) => _mm256_mul_ps(s[block][half], c[half]),
                            (true, _) => _mm256_fmadd_ps(s[block][half], c[half], joined[half]),
                            (false, 0) => c[half],
                            (false, _) => _mm256_add_ps(joined[half], c[half]),
                        };
                    }
                }
            }
        }
        for i in 0..M {
            for half in 0..2 {
                let at = sums.add(16 * i + 8 * half);
                _mm256_storeu_ps(at, _mm256_add_ps(_mm256_loadu_ps(at), _mm256_add_ps(pairs[0][i][half], pairs[1][i][half])));
            }
        }
    }
}

/// Doubled E2M1 in both halves of a register.
const DOUBLED: [i8; 32] = {
    let mut table = [0; 32];
    let mut i = 0;
    while i < 32 {
        table[i] = e2m1::DOUBLED[i % 16];
        i += 1;
    }
    table
};

/// For each byte of a dword, the shuffle that moves it to the top and clears the others.
const TO_TOP: [[u8; 32]; 4] = {
    let mut shuffles = [[0x80; 32]; 4];
    let mut i = 0;
    while i < 32 {
        shuffles[i % 4][i / 4 * 4 + 3] = (i % 16) as u8;
        i += 1;
    }
    shuffles
};

/// Four columns of eight rows as doubled E2M1, four bytes per row: the low or the high nibbles of half a line.
///
/// # Safety
/// `line` is valid; `half < 2`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn doubled(line: *const Line, half: usize, high: bool) -> __m256i {
    // SAFETY: the caller's promise.
    let (v, table) = unsafe { (_mm256_load_si256(line.cast::<__m256i>().add(half)), _mm256_loadu_si256(DOUBLED.as_ptr().cast())) };
    let nibbles = if high { _mm256_srli_epi16::<4>(v) } else { v };
    _mm256_shuffle_epi8(table, _mm256_and_si256(nibbles, _mm256_set1_epi8(15)))
}

/// Column `j` of four, times 2²⁴: a byte at the top of a dword, converted. [`nvfp4_scales`] take the factor back; both are
/// exact.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn column(doubled: __m256i, j: usize) -> __m256 {
    // SAFETY: 32 bytes.
    let to_top = unsafe { _mm256_loadu_si256(TO_TOP[j].as_ptr().cast()) };
    _mm256_cvtepi32_ps(_mm256_shuffle_epi8(doubled, to_top))
}

/// Scales of a block, for elements that are doubled and times 2²⁴.
///
/// # Safety
/// `tile` has nine lines; `block < 4`, `half < 2`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nvfp4_scales(tile: *const Line, block: usize, half: usize) -> __m256 {
    // 2⁸ for the scales read as f16, ½ for doubled codes, 2⁻²⁴.
    let factor = _mm256_set1_ps(1.0 / (1 << 17) as f32);
    // SAFETY: the caller's promise.
    unsafe { _mm256_mul_ps(scales(tile, block, half), factor) }
}

/// # Safety
/// `tile` has nine lines.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen_nvfp4(tile: *const Line, wide: &mut Wide, s: &mut Scales) {
    // SAFETY: the caller's promise.
    unsafe {
        for half in 0..2 {
            for (block, s) in s.iter_mut().enumerate() {
                s[half] = nvfp4_scales(tile, block, half);
            }
            for (part, wide) in wide.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let codes = doubled(tile.add(part / 2), half, part % 2 == 1);
                for (j, wide) in wide.iter_mut().enumerate() {
                    wide[half] = column(codes, j);
                }
            }
        }
    }
}

/// bf16 is the upper half of an f32.
///
/// # Safety
/// `tile` has 32 lines.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen_bf16(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    let upper = _mm256_set1_epi32(0xFFFF_0000_u32 as i32);
    for line in 0..HALF_LINES {
        for half in 0..2 {
            // SAFETY: the caller's promise.
            let v = unsafe { _mm256_load_si256(tile.add(line).cast::<__m256i>().add(half)) };
            wide[2 * line][half] = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(v));
            wide[2 * line + 1][half] = _mm256_castsi256_ps(_mm256_and_si256(v, upper));
        }
    }
}

/// # Safety
/// `tile` has 32 lines.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen_f16(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    for line in 0..HALF_LINES {
        for part in 0..4 {
            // SAFETY: the caller's promise.
            let v = unsafe { _mm_load_si128(tile.add(line).cast::<__m128i>().add(part)) };
            wide[2 * line + part / 2][part % 2] = _mm256_cvtph_ps(v);
        }
    }
}

/// # Safety
/// `tile` has 64 lines.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen_f32(tile: *const Line, wide: &mut Wide, _: &mut Scales) {
    for (line, wide) in wide.iter_mut().enumerate() {
        for (half, wide) in wide.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *wide = unsafe { _mm256_load_ps(tile.add(line).cast::<f32>().add(8 * half)) };
        }
    }
}
