//! `nvfp4_prefill.cu`, `bf16_linear.cu`, `embed.cu` and `attention.cu`: the index arithmetic of their lanes and threads.

use half::{bf16, f16};

use super::activations::{Form, prepare};
use super::linear::{code_factor, decode_codes, decode_step, matrix, scale_pair, u32_at, values};
use super::warp::{LANES, Register, halves, mma_bf16, mma_f16};
use crate::backend::cuda::pack::{CodeOrder, TILE_BYTES, UNIT_BYTES, UNIT_ROWS, pack};
use crate::backend::cuda::plan;

fn lane(lane: usize) -> (usize, usize) {
    (lane / 4, lane % 4)
}

/// `nvfp4_prefill`: every block and warp, `[tokens, rows]`.
fn prefill(
    order: CodeOrder,
    weights: &[u8],
    scale: f32,
    x: &super::activations::Prepared,
    rows: usize,
    units: usize,
    tokens: usize,
) -> Vec<f32> {
    let form = if x.terms == 2 { plan::Form::Float } else { plan::Form::Static };
    let [grid_x, grid_y, _] = plan::nvfp4_prefill(rows, tokens as u32, form).blocks.map(|n| n as usize);
    let (row_groups, per_group) = (rows.div_ceil(UNIT_ROWS), 8 / x.terms);
    let groups = tokens.div_ceil(per_group);
    let mut out = vec![f32::NAN; tokens * rows];
    for (block_x, block_y, warp) in (0..grid_x * grid_y * 8).map(|i| (i / 8 % grid_x, i / 8 / grid_x, i % 8)) {
        let (row_group, first_group) = (block_x * 8 + warp, block_y * 8);
        if row_group >= row_groups {
            continue;
        }
        let count = (groups - first_group).min(8);
        let mut c = [[[[0.0f32; LANES]; 4]; 8]; 2];
        for unit in 0..units {
            let tiles = &weights[(row_group * units + unit) * UNIT_BYTES..][..UNIT_BYTES];
            for h in 0..2 {
                for n in 0..count {
                    // Shared memory holds the group's chunk piece by piece as it lies in memory.
                    let input = &x.pieces[((first_group + n) * units + unit) * 128..][..128];
                    let b: [Register; 8] = std::array::from_fn(|i| {
                        std::array::from_fn(|l| {
                            let (g, t) = lane(l);
                            input[g * 4 + t + (2 * h + i / 4) * 32][i % 4]
                        })
                    });
                    for r in 0..2 {
                        let tile = &tiles[r * TILE_BYTES..];
                        for s in 0..4 {
                            let mut a: [Register; 4] = [[0; LANES]; 4];
                            for l in 0..LANES {
                                let codes = u32_at(&tile[128 + h * 512..], 4 * l + s);
                                for (register, value) in a.iter_mut().zip(decode_step(order, codes, scale_pair(u32_at(tile, l), h))) {
                                    register[l] = value;
                                }
                            }
                            mma_f16(&mut c[r][n], &a, &[b[2 * s], b[2 * s + 1]]);
                        }
                    }
                }
            }
        }
        for n in 0..count {
            for r in 0..2 {
                for i in 0..4 {
                    for l in 0..LANES {
                        let (g, t) = lane(l);
                        let mut total = c[r][n][i][l];
                        if x.terms == 2 {
                            total += c[r][n][i][l ^ 2] * 2f32.powi(-11);
                        }
                        let (column, row) = (2 * t + i % 2, row_group * UNIT_ROWS + 16 * r + g + i / 2 * 8);
                        let token = (first_group + n) * per_group + column;
                        if column < per_group && token < tokens && row < rows {
                            out[token * rows + row] = scale * x.row_scales[token] * (total * code_factor(order));
                        }
                    }
                }
            }
        }
    }
    out
}

#[test]
fn prompts_give_the_product() {
    for order in [CodeOrder::Combined, CodeOrder::Nibbles] {
        for (rows, cols, tokens, form) in [
            (40, 272, 1, Form::Static(0.004)),
            (290, 144, 70, Form::Static(0.004)),
            (33, 128, 13, Form::Float),
            (20, 400, 9, Form::Dynamic),
        ] {
            let weights = matrix(5, rows, cols);
            let x = prepare(&values(6, tokens * cols), tokens, cols, form, Some(8));
            let out = prefill(order, &pack(&weights, order), weights.tensor_scale().multiplier(), &x, rows, cols.div_ceil(128), tokens);
            let mut row = vec![0.0; cols];
            for n in 0..rows {
                weights.row_to_f32(n, &mut row);
                for m in 0..tokens {
                    let products = || row.iter().enumerate().map(|(k, &w)| f64::from(w) * x.value(m, k));
                    let (exact, magnitude) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                    let found = f64::from(out[m * rows + n]);
                    let bound = magnitude * (cols.div_ceil(16) + 8) as f64 * 2f64.powi(-24);
                    assert!((found - exact).abs() <= bound, "{order:?} {form:?} row {n} token {m}: {found} {exact}");
                }
            }
        }
    }
}

/// `write_prepared` in the form BF16X3, as 16-byte pieces `[chunk of 32][column][4]`.
fn bf16_terms(x: &[f32], tokens: usize, cols: usize) -> Vec<[u32; 4]> {
    let (chunks, columns) = (cols.div_ceil(128), 3 * tokens);
    let mut words = vec![0u32; chunks * 4 * columns * 16];
    for token in 0..tokens {
        for k in (0..chunks * 128).step_by(4) {
            let mut v: [f32; 4] = std::array::from_fn(|i| if k + i < cols { x[token * cols + k + i] } else { 0.0 });
            for term in 0..3 {
                let bits = v.map(|v| bf16::from_f32(v).to_bits());
                let at = (((k / 32) * columns + token + term * tokens) * 8 + k % 32 / 4) * 2;
                (words[at], words[at + 1]) = (u32::from(bits[0]) | u32::from(bits[1]) << 16, u32::from(bits[2]) | u32::from(bits[3]) << 16);
                v = std::array::from_fn(|i| v[i] - bf16::from_bits(bits[i]).to_f32());
            }
        }
    }
    words.as_chunks::<4>().0.to_vec()
}

/// `bf16_linear`: `[tokens, rows]`.
fn bf16_linear(weights: &[bf16], x: &[[u32; 4]], rows: usize, cols: usize, tokens: usize) -> Vec<f32> {
    let (columns, chunks) = (3 * tokens, cols.div_ceil(32));
    let (_, launch) = plan::bf16_linear(rows, tokens as u32);
    let mut out = vec![f32::NAN; tokens * rows];
    for block in 0..launch.blocks[0] as usize {
        let first_row = block * 32;
        let mut sums = vec![f32::NAN; 8 * columns * 36];
        for warp in 0..8 {
            let mut c = [[[[0.0f32; LANES]; 4]; 3]; 2];
            for chunk in (warp..chunks).step_by(8) {
                // w[r]: eight columns of row g + 8r, as four registers.
                let w: [[Register; 4]; 4] = std::array::from_fn(|r| {
                    std::array::from_fn(|word| {
                        std::array::from_fn(|l| {
                            let (g, t) = lane(l);
                            let (row, k) = (first_row + g + 8 * r, chunk * 32 + 8 * t);
                            let at = |i: usize| if row < rows && k < cols { u32::from(weights[row * cols + k + i].to_bits()) } else { 0 };
                            at(2 * word) | at(2 * word + 1) << 16
                        })
                    })
                });
                for n in 0..columns.div_ceil(8) {
                    let b: [Register; 4] = std::array::from_fn(|word| {
                        std::array::from_fn(|l| {
                            let (g, t) = lane(l);
                            if 8 * n + g < columns { x[(chunk * columns + 8 * n + g) * 4 + t][word] } else { 0 }
                        })
                    });
                    for r in 0..2 {
                        for (first, second) in [(0, 1), (2, 3)] {
                            let a = [w[2 * r][first], w[2 * r + 1][first], w[2 * r][second], w[2 * r + 1][second]];
                            mma_bf16(&mut c[r][n], &a, &[b[first], b[second]]);
                        }
                    }
                }
            }
            for (r, n, i, l) in (0..2 * 3 * 4 * LANES).map(|at| (at / 384, at / 128 % 3, at / 32 % 4, at % 32)) {
                let (g, t) = lane(l);
                let (row, column) = (16 * r + g + i / 2 * 8, 8 * n + 2 * t + i % 2);
                if column < columns {
                    sums[(warp * columns + column) * 36 + row] = c[r][n][i][l];
                }
            }
        }
        for (token, row) in (0..tokens * 32).map(|i| (i / 32, i % 32)).filter(|(_, row)| first_row + row < rows) {
            let term = |term: usize| (0..8).fold(0.0, |v, w| v + sums[(w * columns + token + term * tokens) * 36 + row]);
            out[token * rows + first_row + row] = (0..3).fold(0.0, |y, t| y + term(t));
        }
    }
    out
}

#[test]
fn bf16_layers_give_the_product_of_f32_activations() {
    for (rows, cols) in [(1, 8), (33, 40), (40, 264), (70, 776)] {
        for tokens in 1..=8 {
            let weights: Vec<bf16> = values(3, rows * cols).into_iter().map(bf16::from_f32).collect();
            let x = values(4, tokens * cols);
            let out = bf16_linear(&weights, &bf16_terms(&x, tokens, cols), rows, cols, tokens);
            for (n, m) in (0..rows * tokens).map(|i| (i / tokens, i % tokens)) {
                let products = || (0..cols).map(|k| weights[n * cols + k].to_f64() * f64::from(x[m * cols + k]));
                let (exact, magnitude) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                let bound = magnitude * (cols.div_ceil(16) + 16) as f64 * 2f64.powi(-24);
                let found = f64::from(out[m * rows + n]);
                assert!((found - exact).abs() <= bound, "{rows} × {cols}, row {n}, token {m} of {tokens}: {found} {exact}");
            }
        }
    }
}

#[test]
fn embeddings_come_out_of_the_tiles() {
    let (rows, cols) = (70, 272);
    let weights = matrix(11, rows, cols);
    let mut row = vec![0.0; cols];
    for order in [CodeOrder::Combined, CodeOrder::Nibbles] {
        let units = pack(&weights, order);
        for id in 0..rows {
            weights.row_to_f32(id, &mut row);
            for (k, &exact) in row.iter().enumerate() {
                let (r, h) = (id % 16, k / 64 % 2);
                let l = r % 8 * 4 + k / 16 % 4;
                let tile = &units[(id / UNIT_ROWS * cols.div_ceil(128) + k / 128) * UNIT_BYTES + id / 16 % 2 * TILE_BYTES..];
                let pair = scale_pair(u32_at(tile, l), h);
                let word = u32_at(&tile[128 + 512 * h + 16 * l..], k / 4 % 4);
                let codes = decode_codes(order, word)[r / 8 + k / 2 % 2 * 2];
                let (w, s): (f16, f16) = (halves(codes)[k % 2], halves(pair)[r / 8]);
                let (w, s) = match order {
                    CodeOrder::Nibbles => (w.to_f32(), s.to_f32() * 256.0),
                    CodeOrder::Combined => (w.to_f32() * 16_384.0, s.to_f32() * 0.007_812_5),
                };
                assert_eq!((w * (s * weights.tensor_scale().multiplier())).to_bits(), exact.to_bits(), "{order:?} {id} {k}");
            }
        }
    }
}

/// `attend` and `merge` for one query head: the order of tiles, splits and warps, in the kernels' f32.
fn attention(query: &[f32], keys: &[f32], values: &[f32], position: usize, window: usize) -> Vec<f32> {
    const TILE: usize = 64;
    let d = query.len();
    let end = position + 1;
    let begin = if window != 0 && window < end { end - window } else { 0 };
    let exp = |x: f32| x.exp();
    let mut parts = Vec::new();
    for split in 0..plan::splits(position) {
        if split * plan::PAGE >= end || (split + 1) * plan::PAGE <= begin {
            continue;
        }
        let (mut acc, mut most, mut total) = (vec![0.0f32; d], f32::NEG_INFINITY, 0.0f32);
        for first in [split * plan::PAGE, split * plan::PAGE + TILE] {
            if first >= end || first + TILE <= begin {
                continue;
            }
            let count = TILE.min(end - first);
            let seen = |place: usize| place < count && first + place >= begin;
            let score = |place: usize| {
                let key = &keys[(first + place) * d..][..d];
                query.iter().zip(key).fold(0.0f32, |dot, (q, k)| q.mul_add(*k, dot)) * (1.0 / (d as f32).sqrt())
            };
            let scores: Vec<f32> = (0..TILE).map(|place| if seen(place) { score(place) } else { f32::NEG_INFINITY }).collect();
            let m = scores.iter().copied().fold(most, f32::max);
            let rescale = exp(most - m);
            let weights: Vec<f32> = scores.iter().map(|s| exp(s - m)).collect();
            total = total * rescale + weights.iter().sum::<f32>();
            for (column, acc) in acc.iter_mut().enumerate() {
                *acc *= rescale;
                for n in begin.saturating_sub(first)..count {
                    *acc = weights[n].mul_add(values[(first + n) * d + column], *acc);
                }
            }
            most = m;
        }
        parts.push((acc, most, total));
    }
    let m = parts.iter().map(|p| p.1).fold(f32::NEG_INFINITY, f32::max);
    let (mut sums, mut below) = (vec![0.0f32; d], 0.0f32);
    for warp in 0..8 {
        let (mut acc, mut bottom) = (vec![0.0f32; d], 0.0f32);
        for (part, most, total) in parts.iter().skip(warp).step_by(8) {
            let weight = exp(most - m);
            bottom = weight.mul_add(*total, bottom);
            acc.iter_mut().zip(part).for_each(|(acc, x)| *acc = weight.mul_add(*x, *acc));
        }
        below += bottom;
        sums.iter_mut().zip(acc).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().map(|x| x / below).collect()
}

#[test]
fn splits_and_windows_of_attention_join_to_the_softmax() {
    let d = 32;
    let (keys, contents) = (values(1, 2000 * d), values(2, 2000 * d));
    let query = values(3, d);
    for position in [0, 1, 63, 64, 127, 128, 200, 1023, 1500, 1999] {
        for window in [0, 1, 60, 64, 65, 128, 300, 5000] {
            let found = attention(&query, &keys, &contents, position, window);
            let from = if window == 0 { 0 } else { (position + 1).saturating_sub(window) };
            let scores: Vec<f64> = (from..=position)
                .map(|p| (0..d).map(|i| f64::from(query[i]) * f64::from(keys[p * d + i])).sum::<f64>() / (d as f64).sqrt())
                .collect();
            let most = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for (i, &found) in found.iter().enumerate() {
                let exact: f64 = weights.iter().enumerate().map(|(n, w)| w * f64::from(contents[(from + n) * d + i])).sum::<f64>() / sum;
                assert!((f64::from(found) - exact).abs() <= 2e-5, "position {position}, window {window}: {found} {exact}");
            }
        }
    }
}
