//! Rows of a weight matrix times activations. The specification.

use half::{bf16, f16};

use crate::numeric::{e2m1, e4m3};
use crate::simd::linear::{
    ACTIVATION_SCALE, ActivationTile, BLOCK, BLOCKS, F32_LINES, HALF_LINES, Line, NVFP4_LINES, Ops, PANEL, PanelSums, TILE, tiles,
};

pub const OPS: Ops = Ops { quantize, nvfp4_nvfp4, nvfp4_f32, bf16_f32, f16_f32, f32_f32 };

/// See [`Ops::quantize`].
pub fn quantize(x: &[f32; TILE], divisor: f32, tile: &mut ActivationTile) {
    *tile = ActivationTile::ZERO;
    let multiplier = 1.0 / divisor;
    for (block, x) in x.chunks_exact(BLOCK).enumerate() {
        // Magnitudes compare as integers; infinities and NaN are the largest.
        let largest = f32::from_bits(x.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0));
        if !largest.is_finite() {
            tile.scales[block] = f32::NAN;
            continue;
        }
        let scale = e4m3::decode(e4m3::encode(divisor * (largest * (1.0 / 6.0))));
        let inverse = 1.0 / (scale * multiplier);
        if !inverse.is_finite() {
            continue;
        }
        let codes = &mut tile.codes[block * BLOCK..][..BLOCK];
        for (code, &x) in codes.iter_mut().zip(x) {
            *code = e2m1::DOUBLED[usize::from(e2m1::encode((x * inverse).clamp(-6.0, 6.0)))];
        }
        tile.scales[block] = scale * ACTIVATION_SCALE;
        tile.offsets[block] = -12 * codes.iter().map(|&c| i32::from(c)).sum::<i32>();
    }
}

/// The code of column `k` of row `r` of an NVFP4 tile.
fn code(tile: &[Line], r: usize, k: usize) -> usize {
    let byte = tile[k / 8].0[4 * r + k % 4];
    usize::from(if k % 8 < 4 { byte & 15 } else { byte >> 4 })
}

/// The scale of block `b` of row `r` of an NVFP4 tile.
fn scale(tile: &[Line], r: usize, b: usize) -> f32 {
    e4m3::decode(tile[8].0[BLOCK * b + r])
}

fn nvfp4_nvfp4(panel: &[Line], x: &[ActivationTile], sums: &mut [PanelSums]) {
    tiles(NVFP4_LINES, panel, x, sums);
    let m = sums.len();
    sums.fill([0.0; PANEL]);
    for (t, tile) in panel.chunks_exact(NVFP4_LINES).enumerate() {
        for (x, sums) in x[t * m..].iter().zip(sums.iter_mut()) {
            for (r, total) in sums.iter_mut().enumerate() {
                for b in 0..BLOCKS {
                    let columns = b * BLOCK..(b + 1) * BLOCK;
                    let d: i32 = columns.map(|k| i32::from(e2m1::DOUBLED[code(tile, r, k)]) * i32::from(x.codes[k])).sum();
                    let f = (scale(tile, r, b) * (1.0 / 256.0)) * x.scales[b];
                    *total += d as f32 * f;
                }
            }
        }
    }
}

/// Weights × f32 for any format: `element(tile, row, column)` and `scale(tile, row, block)`.
fn times_f32(
    lines: usize,
    panel: &[Line],
    x: &[[f32; TILE]],
    sums: &mut [PanelSums],
    element: impl Fn(&[Line], usize, usize) -> f32,
    scale: impl Fn(&[Line], usize, usize) -> f32,
) {
    tiles(lines, panel, x, sums);
    let m = sums.len();
    sums.fill([0.0; PANEL]);
    for (t, tile) in panel.chunks_exact(lines).enumerate() {
        for r in 0..PANEL {
            let weights: [f32; TILE] = std::array::from_fn(|k| element(tile, r, k));
            let s: [f32; BLOCKS] = std::array::from_fn(|b| scale(tile, r, b));
            for (x, sums) in x[t * m..].iter().zip(sums.iter_mut()) {
                let c: [f32; BLOCKS] = std::array::from_fn(|b| {
                    let columns = b * BLOCK..(b + 1) * BLOCK;
                    columns.fold(0.0, |c, k| weights[k].mul_add(x[k], c))
                });
                sums[r] += s[1].mul_add(c[1], s[0] * c[0]) + s[3].mul_add(c[3], s[2] * c[2]);
            }
        }
    }
}

fn nvfp4_f32(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
    times_f32(NVFP4_LINES, panel, x, sums, |tile, r, k| e2m1::VALUES[code(tile, r, k)], scale);
}

fn bf16_f32(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
    let element = |tile: &[Line], r: usize, k: usize| {
        let at = 4 * r + 2 * (k % 2);
        bf16::from_le_bytes([tile[k / 2].0[at], tile[k / 2].0[at + 1]]).to_f32()
    };
    times_f32(HALF_LINES, panel, x, sums, element, |_, _, _| 1.0);
}

fn f16_f32(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
    let element = |tile: &[Line], r: usize, k: usize| {
        let at = 2 * r + 32 * (k % 2);
        f16::from_le_bytes([tile[k / 2].0[at], tile[k / 2].0[at + 1]]).to_f32()
    };
    times_f32(HALF_LINES, panel, x, sums, element, |_, _, _| 1.0);
}

fn f32_f32(panel: &[Line], x: &[[f32; TILE]], sums: &mut [PanelSums]) {
    let element =
        |tile: &[Line], r: usize, k: usize| f32::from_le_bytes(tile[k].0[4 * r..4 * r + 4].try_into().expect("four bytes of a line"));
    times_f32(F32_LINES, panel, x, sums, element, |_, _, _| 1.0);
}
