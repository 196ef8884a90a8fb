//! NVFP4 weights as the device reads them: units of 32 rows × 128 columns, 2304 bytes each.
//!
//! ```text
//! matrix = unit (rows 0..32, columns 0..128) │ unit (rows 0..32, columns 128..256) │ … │ unit (rows 32..64, columns 0..128) │ …
//! unit   = tile of rows 0..16 │ tile of rows 16..32
//! tile   = scales: lane × 4 bytes │ codes of columns 0..64: lane × 16 bytes │ codes of columns 64..128: lane × 16 bytes
//! ```
//!
//! Lane `4g + t` of a warp holds rows `g` and `g + 8` of columns `64h + 16t ..` of half `h`: one NVFP4 block of each. Its word `s`
//! has columns `4s .. 4s + 4` of both rows, which are the four operand registers of one tensor-core step:
//! `(g; 0, 1) (g + 8; 0, 1) (g; 2, 3) (g + 8; 2, 3)`. Its scale bytes are `(g; h = 0) (g; h = 1) (g + 8; h = 0) (g + 8; h = 1)`.
//!
//! How a word holds its eight codes depends on the instructions at hand, [`CodeOrder`]. Rows are padded to 32 and columns to 128 with
//! zero codes under zero scales, so nothing is lost where both divide: 9/16 byte a weight, the size of the file.

use crate::error::Result;
use crate::numeric::e4m3;
use crate::nvfp4::Nvfp4Matrix;
use crate::nvfp4::TensorScale;
use crate::nvfp4::parts;

/// Rows of a unit.
pub const UNIT_ROWS: usize = 32;
/// Columns of a unit.
pub const UNIT_COLS: usize = 128;
/// Bytes of a tile, 16 rows of a unit.
pub const TILE_BYTES: usize = 1152;
/// Bytes of a unit.
pub const UNIT_BYTES: usize = 2 * TILE_BYTES;

/// How the eight codes of a word lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOrder {
    /// For any card: the four registers are `q`, `q << 3`, `q << 6 ^ q << 1` and `q << 9 ^ q << 2` under the mask `0x8E008E00`, each half
    /// of which then is the f16 `w · 2⁻¹⁴`. Scales are the upper eight bits of the f16 `s · 2⁷` less its sign.
    Combined,
    /// For cards that convert from E2M1: register `j` is byte `j`, low nibble first. Scales are E4M3 bits.
    Nibbles,
}

impl CodeOrder {
    /// The order that kernels compiled for a card of this compute capability read (`NIBBLE_ORDER` in `kernels/common.cuh`).
    pub fn of(compute_capability: (i32, i32)) -> Self {
        if compute_capability.0 == 10 { Self::Nibbles } else { Self::Combined }
    }

    fn word(self, [a, b, c, d]: [u8; 4]) -> u32 {
        match self {
            Self::Nibbles => u32::from_le_bytes([a, b, c, d]),
            Self::Combined => combine([a, b, c, d].map(|byte| SPREAD[usize::from(byte)])),
        }
    }

    /// The four code pairs of a word.
    fn pairs(self, word: u32) -> [u8; 4] {
        match self {
            Self::Nibbles => word.to_le_bytes(),
            Self::Combined => {
                let registers = [word, word << 3, word << 6 ^ word << 1, word << 9 ^ word << 2];
                registers.map(|r| (gather(r) | gather(r >> 16) << 4) as u8)
            }
        }
    }

    fn scale(self, bits: u8) -> u8 {
        match self {
            Self::Nibbles => bits & 0x7F,
            Self::Combined => WIDE_SCALES[usize::from(bits & 0x7F)],
        }
    }

    fn unscale(self, byte: u8) -> u8 {
        match self {
            Self::Nibbles => byte,
            Self::Combined => WIDE_SCALES.iter().position(|&wide| wide == byte).unwrap_or(0x7F) as u8,
        }
    }
}

/// Bits of an f16 that an E2M1 code becomes: sign, lowest two exponent bits, first mantissa bit; in both halves of a register.
const MASK: u32 = 0x8E00_8E00;

/// Where the bits of a code (in the low four) go in the low half of a register.
const fn place(code: u32) -> u32 {
    (code & 8) << 12 | (code & 7) << 9
}

/// The reverse of [`place`].
const fn gather(register: u32) -> u32 {
    register >> 12 & 8 | register >> 9 & 7
}

/// Registers of the pairs of codes in a byte.
const SPREAD: [u32; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        table[byte] = place(byte as u32 & 15) | place(byte as u32 >> 4) << 16;
        byte += 1;
    }
    table
};

/// The word whose decoding gives these registers. The first two leave eight bits of each half free, which hold the other two as they
/// differ from what the first two leave in their places. Shifts carry no bit across the halves to a place under the mask.
fn combine([a, b, c, d]: [u32; 4]) -> u32 {
    let base = a | b >> 3;
    let c = c ^ (base << 6 ^ base << 1) & MASK;
    let d = d ^ (base << 9 ^ base << 2) & MASK;
    let (signs, rest) = (0x8000_8000, 0x0E00_0E00);
    base | (c & signs) >> 1 | (c & rest) >> 6 | (d & signs) >> 2 | (d & rest) >> 9
}

/// E4M3 bits to the eight bits of the f16 `s · 2⁷` below its sign; all are exact.
const WIDE_SCALES: [u8; 127] = {
    let (mut table, mut bits) = ([0; 127], 0);
    while bits < 127 {
        let s = e4m3::decode(bits as u8).to_bits();
        // From f32 to five exponent bits (bias 15) and three mantissa bits, times 2⁷.
        table[bits] = if bits == 0 { 0 } else { ((s >> 20) - ((127 - 15 - 7) << 3)) as u8 };
        bits += 1;
    }
    table
};

/// Bytes of a packed matrix.
pub fn packed_bytes(rows: usize, cols: usize) -> usize {
    rows.div_ceil(UNIT_ROWS) * cols.div_ceil(UNIT_COLS) * UNIT_BYTES
}

/// Row groups that one thread packs at a time.
const RUN: usize = 8;

/// Packs a matrix into `out`, [`packed_bytes`] long, on several threads.
///
/// # Panics
/// If `out` has another length.
pub fn pack_into(matrix: &Nvfp4Matrix, order: CodeOrder, out: &mut [u8]) {
    assert_eq!(out.len(), packed_bytes(matrix.rows(), matrix.cols()), "a place for every unit");
    let group_bytes = matrix.cols().div_ceil(UNIT_COLS) * UNIT_BYTES;
    if group_bytes == 0 {
        return;
    }
    parts::for_each(out.chunks_mut(RUN * group_bytes).enumerate(), |(run, out)| {
        for (index, out) in out.chunks_exact_mut(group_bytes).enumerate() {
            for (unit, out) in out.chunks_exact_mut(UNIT_BYTES).enumerate() {
                for (half, tile) in out.chunks_exact_mut(TILE_BYTES).enumerate() {
                    pack_tile(matrix, order, (run * RUN + index) * UNIT_ROWS + 16 * half, unit * UNIT_COLS, tile);
                }
            }
        }
    });
}

/// Packs a matrix.
pub fn pack(matrix: &Nvfp4Matrix, order: CodeOrder) -> Vec<u8> {
    let mut out = vec![0; packed_bytes(matrix.rows(), matrix.cols())];
    pack_into(matrix, order, &mut out);
    out
}

/// Scale and codes of the block that starts at `column` of `row`; zeros beyond the matrix.
fn block(matrix: &Nvfp4Matrix, row: usize, column: usize) -> (u8, [u8; 8]) {
    let cols = matrix.cols();
    if row >= matrix.rows() || column >= cols {
        return (0, [0; 8]);
    }
    let number = row * (cols / 16) + column / 16;
    let codes = matrix.codes()[8 * number..8 * number + 8].try_into().expect("eight bytes");
    (matrix.block_scales()[number], codes)
}

fn pack_tile(matrix: &Nvfp4Matrix, order: CodeOrder, first_row: usize, first_column: usize, tile: &mut [u8]) {
    let (scales, codes) = tile.split_at_mut(128);
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for half in 0..2 {
            let column = first_column + 64 * half + 16 * t;
            let (low, high) = (block(matrix, first_row + g, column), block(matrix, first_row + g + 8, column));
            scales[4 * lane + half] = order.scale(low.0);
            scales[4 * lane + 2 + half] = order.scale(high.0);
            for (step, word) in codes[512 * half + 16 * lane..][..16].chunks_exact_mut(4).enumerate() {
                let pairs = [low.1[2 * step], high.1[2 * step], low.1[2 * step + 1], high.1[2 * step + 1]];
                word.copy_from_slice(&order.word(pairs).to_le_bytes());
            }
        }
    }
}

/// The matrix in checkpoint layout, from what [`pack`] made of it. Scales of −0 come back as 0.
///
/// # Panics
/// If `bytes` is not [`packed_bytes`] long.
pub fn unpack(bytes: &[u8], order: CodeOrder, tensor_scale: TensorScale, rows: usize, cols: usize) -> Result<Nvfp4Matrix> {
    assert_eq!(bytes.len(), packed_bytes(rows, cols), "all units of the matrix");
    let (mut codes, mut scales) = (vec![0; rows * cols / 2], vec![0; rows * cols / 16]);
    for (number, tile) in bytes.chunks_exact(TILE_BYTES).enumerate() {
        let (unit, units) = (number / 2, cols.div_ceil(UNIT_COLS));
        let (first_row, first_column) = (unit / units * UNIT_ROWS + number % 2 * 16, unit % units * UNIT_COLS);
        for place in 0..128 {
            let (lane, half, lower) = (place / 4, place % 2, place / 2 % 2);
            let (row, column) = (first_row + lane / 4 + 8 * lower, first_column + 64 * half + 16 * (lane % 4));
            if row >= rows || column >= cols {
                continue;
            }
            let number = row * (cols / 16) + column / 16;
            scales[number] = order.unscale(tile[4 * lane + 2 * lower + half]);
            for step in 0..4 {
                let word = &tile[128 + 512 * half + 16 * lane + 4 * step..][..4];
                let pairs = order.pairs(u32::from_le_bytes(word.try_into().expect("four bytes")));
                (codes[8 * number + 2 * step], codes[8 * number + 2 * step + 1]) = (pairs[lower], pairs[lower + 2]);
            }
        }
    }
    Nvfp4Matrix::new(codes, scales, tensor_scale, rows, cols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    pub fn sample(rows: usize, cols: usize) -> Nvfp4Matrix {
        let mut state = 1u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let codes = (0..rows * cols / 2).map(|_| byte()).collect();
        let scales = (0..rows * cols / 16).map(|_| byte() % 0x7F).collect();
        Nvfp4Matrix::new(codes, scales, TensorScale::Multiplier(0.5), rows, cols).expect("valid parts")
    }

    #[test]
    fn unpacking_restores_every_matrix() {
        for order in [CodeOrder::Combined, CodeOrder::Nibbles] {
            for (rows, cols) in [(0, 16), (3, 0), (1, 16), (16, 128), (31, 112), (32, 128), (33, 144), (70, 400), (300, 272)] {
                let matrix = sample(rows, cols);
                let packed = pack(&matrix, order);
                let back = unpack(&packed, order, matrix.tensor_scale(), rows, cols).expect("valid parts");
                assert_eq!(back, matrix, "{order:?} {rows} × {cols}");
            }
        }
    }

    #[test]
    fn nothing_is_padded_where_the_unit_divides() {
        assert_eq!(packed_bytes(4096, 5120), 4096 * 5120 / 16 * 9);
        assert_eq!(packed_bytes(33, 129), 4 * UNIT_BYTES);
    }

    #[test]
    fn every_word_of_codes_is_restored_and_differs_from_all_others() {
        // One half of the registers: 16 bits in, 16 bits out, so a bijection loses nothing; the other half is zero or full.
        for other in [0, 0xF0u8] {
            let mut seen = vec![false; 1 << 16];
            for codes in 0..=u16::MAX {
                let pairs = std::array::from_fn(|i| (codes >> (4 * i) & 15) as u8 | other);
                let word = CodeOrder::Combined.word(pairs);
                assert_eq!(CodeOrder::Combined.pairs(word), pairs);
                assert!(!std::mem::replace(&mut seen[usize::from(word as u16)], true));
            }
        }
    }

    #[test]
    fn wide_scales_are_the_values_times_2_to_the_7() {
        for bits in 0..127u8 {
            let wide = f16::from_bits(u16::from(CodeOrder::Combined.scale(bits)) << 7);
            assert_eq!(wide.to_f32(), e4m3::decode(bits) * 128.0);
            assert_eq!(CodeOrder::Combined.unscale(CodeOrder::Combined.scale(bits)), bits);
            let narrow = f16::from_bits(u16::from(CodeOrder::Nibbles.scale(bits)) << 7);
            assert_eq!(narrow.to_f32(), e4m3::decode(bits) / 256.0);
        }
        assert_eq!([CodeOrder::Combined.scale(0x80), CodeOrder::Nibbles.scale(0x80)], [0, 0], "−0 is 0");
    }

    /// Weights in another order than the kernel reads would be noise.
    #[test]
    fn the_order_is_that_of_the_architecture_compiled_for() {
        for (capability, order) in [((9, 0), CodeOrder::Combined), ((10, 0), CodeOrder::Nibbles), ((10, 3), CodeOrder::Nibbles)] {
            assert_eq!(CodeOrder::of(capability), order);
            let specific = crate::backend::cuda::compile::architecture(capability).ends_with('a');
            assert_eq!(specific, order == CodeOrder::Nibbles, "{capability:?}");
        }
        assert_eq!([CodeOrder::of((8, 6)), CodeOrder::of((12, 0))], [CodeOrder::Combined; 2]);
        let rule = "#if defined(__CUDA_ARCH_FEAT_SM100_ALL) || defined(__CUDA_ARCH_FEAT_SM103_ALL)\n#define NIBBLE_ORDER 1";
        assert!(include_str!("../../../kernels/common.cuh").contains(rule));
    }

    #[test]
    fn padding_is_zero() {
        let packed = pack(&sample(1, 16), CodeOrder::Combined);
        // Row 0, block 0: the first scale byte and the 16 code bytes of lane 0. Everything else is padding.
        let used: usize = packed.iter().enumerate().filter(|&(at, &b)| b != 0 && !(at == 0 || (128..144).contains(&at))).count();
        assert_eq!(used, 0);
    }
}
