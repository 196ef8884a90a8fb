//! Rows of a weight matrix times activations.
//!
//! Weights are packed in panels of 16 rows, and a panel in tiles of 64 columns; a kernel multiplies one panel by `m` rows of
//! activations. Each tile is decoded once for all rows, and the order of operations of one result depends neither on `m`
//! nor on the instruction set, so decoding one token, decoding a batch and prefilling a prompt agree bit for bit.
//!
//! ```text
//! panel = tile 0 │ tile 1 │ …        tile = 64 columns of 16 rows, in lines of 64 bytes:
//!
//! nvfp4  9 lines   line 2b + v (block b = 0..4, v = 0, 1): byte 4r + j of row r holds
//!                  column 16b + 8v + j in the low nibble, column 16b + 8v + 4 + j in the high one;
//!                  line 8: byte 16b + r is the E4M3 scale of block b of row r
//! bf16  32 lines   line i: row r holds columns 2i, 2i + 1 at bytes 4r, 4r + 2
//! f16   32 lines   line i: column 2i of rows 0..16, then column 2i + 1
//! f32   64 lines   line k: column k of rows 0..16
//! ```
//!
//! A dword of an NVFP4 line holds eight columns of one row: after a table look-up that is what an 8-bit dot product
//! instruction takes (x86 VNNI, Arm SDOT, or `maddubs` + `madd` without them), with one lane per row and no shuffles at the end.
//!
//! **NVFP4 × NVFP4.** Both sides are held as doubled E2M1, integers in ±12, so a block's product `d = Σ w·a` is exact in
//! integers (|d| ≤ 2304). Its weight `f = s_w · s_x` has at most 8 significant bits, so `d · f` is exact in f32 and only the
//! sum over blocks rounds. It is one chain, in ascending order of blocks:
//!
//! ```text
//! total = 0;  for each block: total = total + d·f        f = (s_w · 2⁻⁸) · (s_x · 64): the doubled integers' ¼ is in it
//! ```
//!
//! **Weights × f32.** In each tile, the four blocks are four chains of fused multiply-adds over ascending columns,
//! `c_b = fma(w, x, c_b)` with `w` the element without its block scale, joined by
//!
//! ```text
//! total = total + (fma(s_1, c_1, s_0·c_0) + fma(s_3, c_3, s_2·c_2))        dense formats: all s = 1
//! ```
//!
//! Columns beyond the matrix are zeros on both sides. Tensor scale and bias are the caller's.

/// Rows of a panel.
pub const PANEL: usize = 16;
/// Columns of a tile.
pub const TILE: usize = 64;
/// Columns that share a block scale.
pub const BLOCK: usize = 16;
/// Blocks of a tile.
pub const BLOCKS: usize = TILE / BLOCK;
/// Lines of an NVFP4 tile.
pub const NVFP4_LINES: usize = 9;
/// Lines of a bf16 or f16 tile.
pub const HALF_LINES: usize = 32;
/// Lines of an f32 tile.
pub const F32_LINES: usize = 64;
/// Factor of an activation's block scale in an [`ActivationTile`]: ¼ for the doubled integers of both sides, and 2⁸ because
/// E4M3 bits shifted left by seven, read as f16, are the value times 2⁻⁸, which is how kernels read weight scales.
pub const ACTIVATION_SCALE: f32 = 64.0;

/// One cache line of packed weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line(pub [u8; 64]);

/// 64 quantized activations of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct ActivationTile {
    /// Doubled E2M1 values, ascending columns.
    pub codes: [i8; TILE],
    /// Block scales times [`ACTIVATION_SCALE`]; NaN where the block holds NaN or infinity.
    pub scales: [f32; BLOCKS],
    /// −12 · Σ codes of each block: what the dot product of weights shifted by +12 (unsigned) is too large by, negated.
    pub offsets: [i32; BLOCKS],
}

impl ActivationTile {
    /// 64 zeros.
    pub const ZERO: Self = Self { codes: [0; TILE], scales: [0.0; BLOCKS], offsets: [0; BLOCKS] };
}

/// One result per row of a panel.
pub type PanelSums = [f32; PANEL];

/// `kernel(panel, x, sums)`: `sums[i][r] = Σ_k panel[r][k] · x[i][k]` for `sums.len()` rows of activations, by tiles:
/// tile `t` of row `i` is number `t · sums.len() + i`. The panel is followed by others in memory, and prefetched past its end.
pub type Kernel<X> = fn(&[Line], &[X], &mut [PanelSums]);

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {
    /// `quantize(x, D, tile)`: 64 activations to NVFP4 with tensor scale `1/D`. Per block of 16, in this order of f32
    /// operations: `b = D · (max|x| · (1/6))`, `s = E4M3(min(b, 448))`, `q = E2M1(clamp(x · (1 / (s · (1/D))), ±6))`; codes and
    /// scale are 0 where `s · (1/D)` is, or where it is too small to have a finite reciprocal. A block that holds NaN or
    /// infinity gets the scale NaN.
    pub quantize: fn(&[f32; TILE], f32, &mut ActivationTile),
    /// NVFP4 × NVFP4.
    pub nvfp4_nvfp4: Kernel<ActivationTile>,
    /// NVFP4 × f32.
    pub nvfp4_f32: Kernel<[f32; TILE]>,
    /// bf16 × f32.
    pub bf16_f32: Kernel<[f32; TILE]>,
    /// f16 × f32.
    pub f16_f32: Kernel<[f32; TILE]>,
    /// f32 × f32.
    pub f32_f32: Kernel<[f32; TILE]>,
}

/// Tiles of a panel, checked against the activations: every kernel's contract.
pub(in crate::simd) fn tiles<X>(lines: usize, panel: &[Line], x: &[X], sums: &[PanelSums]) -> usize {
    let tiles = panel.len() / lines;
    assert_eq!(panel.len(), tiles * lines, "whole tiles");
    assert_eq!(x.len(), tiles * sums.len(), "a tile of activations for each tile of weights and each row");
    tiles
}
