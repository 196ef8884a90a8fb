//! `nvfp4_linear.cu`, block by block.

use half::f16;

use super::activations::{Form, Prepared, prepare};
use super::warp::{LANES, Register, halves, mma_f16, multiply_high, multiply_low};
use crate::backend::cuda::pack::{CodeOrder, TILE_BYTES, UNIT_BYTES, UNIT_ROWS, pack};
use crate::backend::cuda::plan;
use crate::backend::cuda::plan::LinearPlan;
use crate::numeric::{e2m1, e4m3};
use crate::nvfp4::{Nvfp4Matrix, TensorScale};

const WARPS: usize = 8;
const PADDED_ROWS: usize = 36;

pub fn code_factor(order: CodeOrder) -> f32 {
    if order == CodeOrder::Nibbles { 256.0 } else { 128.0 }
}

pub fn decode_codes(order: CodeOrder, q: u32) -> [u32; 4] {
    const MASK: u32 = 0x8E00_8E00;
    match order {
        CodeOrder::Combined => [q & MASK, q << 3 & MASK, (q << 6 ^ q << 1) & MASK, (q << 9 ^ q << 2) & MASK],
        // cvt.rn.f16x2.e2m1x2: the low four bits of a byte go to the low half.
        CodeOrder::Nibbles => q.to_le_bytes().map(|byte| {
            let [low, high] = [byte & 15, byte >> 4].map(|code| u32::from(f16::from_f32(e2m1::decode(code)).to_bits()));
            low | high << 16
        }),
    }
}

pub fn scale_pair(scales: u32, h: usize) -> u32 {
    (if h == 1 { scales >> 1 } else { scales << 7 }) & 0x7F80_7F80
}

pub fn decode_step(order: CodeOrder, codes: u32, scales: u32) -> [u32; 4] {
    let a = decode_codes(order, codes);
    [multiply_low(a[0], scales), multiply_high(a[1], scales), multiply_low(a[2], scales), multiply_high(a[3], scales)]
}

pub fn u32_at(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[4 * index..4 * index + 4].try_into().expect("four bytes"))
}

/// The units one warp streams, and its ring. Copies are made when they are issued, so a slot filled too early gives wrong sums.
struct Stream<'a> {
    weights: &'a [u8],
    next: usize,
    to_group: usize,
    left: usize,
    per_group: usize,
    groups: usize,
    ring: Vec<Vec<u8>>,
    fills: Vec<u32>, // completed phases of each slot's barrier
}

impl Stream<'_> {
    fn issue(&mut self, slot: usize) {
        if self.groups != 0 {
            self.ring[slot].copy_from_slice(&self.weights[self.next..self.next + UNIT_BYTES]);
            self.fills[slot] += 1;
            // Pointers may run past the end after the last unit, and are then not read.
            self.next = self.next.wrapping_add(WARPS * UNIT_BYTES);
            self.left -= 1;
            if self.left == 0 {
                self.left = self.per_group;
                self.next = self.next.wrapping_add(self.to_group);
                self.groups -= 1;
            }
        }
    }
}

struct Arguments<'a> {
    order: CodeOrder,
    weights: &'a [u8],
    weight_scales: &'a [f32],
    bias: Option<&'a [f32]>,
    x: &'a Prepared,
    residual: Option<&'a [f32]>,
    rows: usize,
    stages: usize,
    plan: LinearPlan,
}

/// The whole grid, blocks in an order of our choice: `[tokens, rows]`.
fn run(k: &Arguments) -> Vec<f32> {
    let [workers, slices, _] = k.plan.launch.blocks.map(|n| n as usize);
    let tokens = k.x.columns / k.x.terms;
    let mut out = vec![f32::NAN; tokens * k.rows]; // poisoned
    let mut partials = vec![f32::NAN; k.plan.partials];
    let mut arrivals = vec![0; k.plan.arrivals];
    // Any order of blocks is possible; slices from the last to the first is as good as another.
    for slice in (0..slices).rev() {
        for worker in 0..workers {
            block(k, worker, slice, &mut out, &mut partials, &mut arrivals);
        }
    }
    assert!(arrivals.iter().all(|&n| n == 0), "ready for the next launch");
    out
}

fn block(k: &Arguments, block_x: usize, block_y: usize, out: &mut [f32], partials: &mut [f32], arrivals: &mut [usize]) {
    let [grid_x, slices, _] = k.plan.launch.blocks.map(|n| n as usize);
    let (units, slice_units) = (k.plan.units as usize, k.plan.slice_units as usize);
    let (rows, columns, terms) = (k.rows, k.x.columns, k.x.terms);
    let (groups, tokens) = (rows.div_ceil(UNIT_ROWS), columns / terms);
    let first_unit = block_y * slice_units;
    let count = slice_units.min(units - first_unit);
    let inputs = &k.x.pieces[first_unit * 16 * columns..][..count * 16 * columns];

    let mut streams: Vec<Stream> = (0..WARPS)
        .map(|warp| {
            let per_group = if count > warp { (count - warp).div_ceil(WARPS) } else { 0 };
            let groups = if block_x < groups { (groups - block_x).div_ceil(grid_x) } else { 0 };
            Stream {
                weights: k.weights,
                next: (block_x * units + first_unit + warp) * UNIT_BYTES,
                to_group: (grid_x * units).wrapping_sub(per_group * WARPS).wrapping_mul(UNIT_BYTES), // may be negative
                left: per_group,
                per_group,
                groups: if per_group == 0 { 0 } else { groups },
                ring: vec![vec![0xFF; UNIT_BYTES]; k.stages],
                fills: vec![0; k.stages],
            }
        })
        .collect();
    for stream in &mut streams {
        for slot in 0..k.stages - 1 {
            stream.issue(slot);
        }
    }
    let mut cursors = [(0usize, k.stages - 1, 0u32); WARPS]; // slot, free slot, parity
    for group in (block_x..groups).step_by(grid_x) {
        let mut sums = vec![f32::NAN; WARPS * columns * PADDED_ROWS];
        for (warp, (stream, cursor)) in streams.iter_mut().zip(&mut cursors).enumerate() {
            let mut c = [[[0.0f32; LANES]; 4]; 2];
            for unit in 0..stream.per_group {
                let (slot, free_slot, parity) = cursor;
                stream.issue(*free_slot);
                // A wait for a parity passes when the phase under way has the other one.
                assert_eq!(stream.fills[*slot] % 2, 1 - *parity, "the barrier's phase");
                let tile = &stream.ring[*slot];
                let base = (warp + unit * WARPS) * 16 * columns;
                for h in 0..2 {
                    let mut b = [[0u32; LANES]; 8];
                    for (lane, (g, t)) in (0..LANES).map(|lane| (lane, (lane / 4, lane % 4))).filter(|(_, (g, _))| *g < columns) {
                        for octet in 0..2 {
                            let piece = inputs[base + ((2 * h + octet) * columns + g) * 4 + t];
                            for i in 0..4 {
                                b[4 * octet + i][lane] = piece[i];
                            }
                        }
                    }
                    for r in 0..2 {
                        for s in 0..4 {
                            let mut a: [Register; 4] = [[0; LANES]; 4];
                            for lane in 0..LANES {
                                let tile = &tile[r * TILE_BYTES..(r + 1) * TILE_BYTES];
                                let scales = scale_pair(u32_at(tile, lane), h);
                                let codes = u32_at(&tile[128 + h * 512..], 4 * lane + s);
                                for (register, value) in a.iter_mut().zip(decode_step(k.order, codes, scales)) {
                                    register[lane] = value;
                                }
                            }
                            mma_f16(&mut c[r], &a, &[b[2 * s], b[2 * s + 1]]);
                        }
                    }
                }
                *free_slot = *slot;
                *slot += 1;
                if *slot == k.stages {
                    (*slot, *parity) = (0, *parity ^ 1);
                }
            }
            for r in 0..2 {
                for i in 0..4 {
                    for lane in 0..LANES {
                        let (g, t) = (lane / 4, lane % 4);
                        let (row, column) = (16 * r + g + i / 2 * 8, 2 * t + i % 2);
                        if column < columns {
                            sums[(warp * columns + column) * PADDED_ROWS + row] = c[r][i][lane];
                        }
                    }
                }
            }
        }
        for thread in 0..256 {
            let (row, warp) = (thread % 32, thread / 32);
            let over_warps = |column: usize| (0..WARPS).fold(0.0, |v, w| v + sums[(w * columns + column) * PADDED_ROWS + row]);
            if slices == 1 {
                if warp < tokens {
                    finish(k, group, row, warp, joined(terms, tokens, warp, over_warps), out);
                }
            } else if warp < columns {
                partials[((block_y * groups + group) * columns + warp) * 32 + row] = over_warps(warp);
            }
        }
        if slices > 1 {
            arrivals[group] += 1;
            if arrivals[group] == slices {
                let part = |slice: usize, column: usize, row: usize| partials[((slice * groups + group) * columns + column) * 32 + row];
                for thread in 0..256 {
                    let (row, warp) = (thread % 32, thread / 32);
                    if warp < tokens {
                        let over_slices = |column: usize| (0..slices).fold(0.0, |v, s| v + part(s, column, row));
                        finish(k, group, row, warp, joined(terms, tokens, warp, over_slices), out);
                    }
                }
                arrivals[group] = 0;
            }
        }
    }
    assert!(streams.iter().all(|s| s.groups == 0), "every unit was copied");
}

fn joined(terms: usize, tokens: usize, token: usize, sum: impl Fn(usize) -> f32) -> f32 {
    let total = sum(token);
    if terms == 2 { sum(token + tokens).mul_add(2f32.powi(-11), total) } else { total }
}

fn finish(k: &Arguments, group: usize, row: usize, token: usize, total: f32, out: &mut [f32]) {
    let n = group * UNIT_ROWS + row;
    if n < k.rows {
        let scale = k.weight_scales[n] * k.x.row_scales[token];
        let mut y = scale * (total * code_factor(k.order));
        if let Some(bias) = k.bias {
            y += bias[n];
        }
        let at = token * k.rows + n;
        out[at] = k.residual.map_or(y, |r| r[at] + y);
    }
}

fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

pub fn matrix(seed: u64, rows: usize, cols: usize) -> Nvfp4Matrix {
    let mut next = noise(seed);
    let codes = (0..rows * cols / 2).map(|_| (next() >> 20) as u8).collect();
    let scales = (0..rows * cols / 16).map(|_| ((next() >> 20) % 0x7F) as u8).collect();
    Nvfp4Matrix::new(codes, scales, TensorScale::Multiplier(0.375), rows, cols).expect("valid parts")
}

pub fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut next = noise(seed);
    (0..len).map(|_| ((next() >> 40) as f32 / 8_388_608.0 - 1.0) * 3.0).collect()
}

/// A card on which a layer is split into `slices`, and the blocks are few, so that each takes several row groups.
fn plan_of(rows: usize, cols: usize, columns: usize, slices: u32, workers: u32) -> LinearPlan {
    let [_, _, _, card, ..] = plan::tests::cards();
    let mut plan = plan::nvfp4_linear(rows, cols, columns as u32, &card);
    plan.slice_units = plan.units.div_ceil(slices);
    let slices = plan.units.div_ceil(plan.slice_units);
    let groups = rows.div_ceil(UNIT_ROWS) as u32;
    plan.launch.blocks = [workers.min(groups), slices, 1];
    (plan.partials, plan.arrivals) = if slices == 1 { (0, 0) } else { ((slices * groups) as usize * columns * 32, groups as usize) };
    plan
}

/// Runs a layer and compares it with a plain product in f64 over what the activations stand for.
fn check(order: CodeOrder, rows: usize, cols: usize, tokens: usize, form: Form, slices: u32, workers: u32, stages: usize) -> Vec<f32> {
    let weights = matrix((rows * 31 + cols) as u64, rows, cols);
    let (x, bias) = (values(7, tokens * cols), values(8, rows));
    let residual = values(9, tokens * rows);
    let prepared = prepare(&x, tokens, cols, form, None);
    let plan = plan_of(rows, cols, prepared.columns, slices, workers);
    let packed = pack(&weights, order);
    let scale = weights.tensor_scale().multiplier();
    let arguments = Arguments {
        order,
        weights: &packed,
        weight_scales: &vec![scale; rows],
        bias: Some(&bias),
        x: &prepared,
        residual: Some(&residual),
        rows,
        stages,
        plan,
    };
    let out = run(&arguments);
    let mut row = vec![0.0; cols];
    for n in 0..rows {
        weights.row_to_f32(n, &mut row);
        for m in 0..tokens {
            let products = || row.iter().enumerate().map(|(k, &w)| f64::from(w) * prepared.value(m, k));
            let exact = products().sum::<f64>() + f64::from(bias[n]) + f64::from(residual[m * rows + n]);
            // One rounding of 2⁻²⁴ a step of 16 columns, of the sums of warps and slices, and a few at the end, of partial sums that the sum
            // of magnitudes bounds; the second term of a float leaves 2⁻²⁰ of each product at most.
            let steps = cols.div_ceil(16) + 16 + 8;
            let magnitude = products().map(f64::abs).sum::<f64>() + f64::from(bias[n]).abs() + f64::from(residual[m * rows + n]).abs();
            let bound = magnitude * (steps as f64) * 2f64.powi(-24);
            let found = f64::from(out[m * rows + n]);
            assert!((found - exact).abs() <= bound, "{order:?} {rows} × {cols}, {form:?}, row {n}, token {m}: {found} {exact} {bound}");
        }
    }
    out
}

#[test]
fn every_code_times_every_scale_is_exact_in_the_operand() {
    for order in [CodeOrder::Combined, CodeOrder::Nibbles] {
        for bits in 0..127u8 {
            // 16 rows × 128 columns: block b of row r has codes r, r + 1, … in its 16 columns.
            let codes: Vec<u8> = (0..16 * 64).map(|i| ((i / 64 + 2 * i) % 16) as u8 | (((i / 64 + 2 * i + 1) % 16) as u8) << 4).collect();
            let weights = Nvfp4Matrix::new(codes.clone(), vec![bits; 16 * 8], TensorScale::Multiplier(1.0), 16, 128).expect("valid parts");
            let packed = pack(&weights, order);
            for lane in 0..LANES {
                let (g, t) = (lane / 4, lane % 4);
                for h in 0..2 {
                    let scales = scale_pair(u32_at(&packed, lane), h);
                    for s in 0..4 {
                        let a = decode_step(order, u32_at(&packed[128 + 512 * h..], 4 * lane + s), scales);
                        for (register, row, first) in [(0, g, 0), (1, g + 8, 0), (2, g, 2), (3, g + 8, 2)] {
                            for half in 0..2 {
                                let column = 64 * h + 16 * t + 4 * s + first + half;
                                let byte = codes[row * 64 + column / 2];
                                let code = if column % 2 == 0 { byte & 15 } else { byte >> 4 };
                                let exact = e2m1::decode(code) * e4m3::decode(bits) / code_factor(order);
                                assert_eq!(halves(a[register])[half].to_f32(), exact, "{order:?} {code} × {bits:02X}");
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn one_to_eight_tokens_give_the_product() {
    for order in [CodeOrder::Combined, CodeOrder::Nibbles] {
        for tokens in 1..=8 {
            check(order, 33, 272, tokens, Form::Static(0.004), 1, 1, 4);
        }
    }
}

#[test]
fn odd_shapes_slices_and_workers_give_the_product() {
    for (rows, cols) in [(1, 16), (7, 128), (32, 144), (65, 1040), (97, 1408), (16, 2304), (130, 1168)] {
        for (slices, workers) in [(1, 9), (2, 1), (3, 2)] {
            for stages in [3, 4] {
                check(CodeOrder::Combined, rows, cols, 3, Form::Static(0.004), slices, workers, stages);
            }
        }
    }
}

#[test]
fn floats_in_two_terms_give_the_product() {
    for tokens in 1..=4 {
        check(CodeOrder::Combined, 40, 400, tokens, Form::Float, 2, 1, 4);
    }
}

#[test]
fn a_row_of_its_own_scale_gives_the_product() {
    check(CodeOrder::Combined, 40, 400, 5, Form::Dynamic, 1, 2, 4);
}

/// A token's results must be the same bits whatever its batch.
#[test]
fn a_token_does_not_depend_on_the_others() {
    let (rows, cols) = (65, 1168);
    let all = check(CodeOrder::Combined, rows, cols, 8, Form::Static(0.004), 2, 2, 4);
    for tokens in 1..8 {
        let some = check(CodeOrder::Combined, rows, cols, tokens, Form::Static(0.004), 2, 1, 3);
        for m in 0..tokens {
            let bits = |out: &[f32], rows: usize| out[m * rows..(m + 1) * rows].iter().map(|y| y.to_bits()).collect::<Vec<_>>();
            // The residual differs with the number of tokens in `values`' order only beyond the common rows.
            assert_eq!(bits(&some, rows), bits(&all, rows), "token {m} of {tokens}");
        }
    }
}
