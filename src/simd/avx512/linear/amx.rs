//! Tiles of AMX (`tdpbssd`): NVFP4 × NVFP4 for sixteen rows of activations at a time, as a prompt has them.
//!
//! A multiplication takes sixteen rows of activations by one block of sixteen columns by a panel's sixteen rows. A tile
//! register would take 64 columns, but block scales change every sixteen and the sum over blocks rounds in one order
//! on every table; so four registers hold the exact products of four blocks, and AVX-512 scales and adds them up:
//! three instructions for 256 products, where VNNI takes seven.
//!
//! ```text
//! tmm0..3  products of blocks 0..4: [16 rows of activations, 16 rows of weights] i32
//! tmm4, 6  activations: [16 rows, 16 columns] i8          tmm5, 7  weights: [4, 16 rows · 4 columns] i8
//! ```
//!
//! The compiler knows nothing of these registers, and its intrinsics are not stable, hence the assembly. Between two of its
//! blocks only the configuration lives on, which no compiled code touches; no register's content does.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::numeric::e2m1;
use crate::simd::avx512::linear::nvfp4::{scales, vnni};
use crate::simd::avx512::linear::repeated;
use crate::simd::linear::{ActivationTile, BLOCK, BLOCKS, Line, NVFP4_LINES, PANEL, PanelSums, tiles};
use crate::simd::prefetch::prefetch;

/// Rows of activations in a tile register.
const ROWS: usize = 16;
/// Doubled E2M1, signed.
static DOUBLED: [i8; 64] = repeated(e2m1::DOUBLED, 0);

/// A tile's weights by blocks: line `j` of a block holds columns `4j..4j + 4` of sixteen rows.
type Weights = [[Line; 4]; BLOCKS];
/// Exact products by blocks: [row of activations][row of weights].
#[repr(C, align(64))]
struct Products([[[i32; PANEL]; ROWS]; BLOCKS]);

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    reserved: [0; 14],
    bytes_per_row: [64, 64, 64, 64, 16, 64, 16, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 16, 16, 16, 4, 16, 4, 0, 0, 0, 0, 0, 0, 0, 0],
};

pub fn nvfp4_nvfp4(panel: &[Line], x: &[ActivationTile], sums: &mut [PanelSums]) {
    let stride = sums.len();
    let whole = stride - stride % ROWS;
    if whole == 0 {
        return vnni::nvfp4_nvfp4(panel, x, sums);
    }
    let tiles = tiles(NVFP4_LINES, panel, x, sums);
    let (first, rest) = sums.split_at_mut(whole);
    // SAFETY: this table exists only where the features do and the system lets tiles be used; `tiles` checked the lengths.
    unsafe {
        groups(panel.as_ptr(), x.as_ptr(), stride, tiles, first);
        if !rest.is_empty() {
            vnni::many(panel.as_ptr(), x.as_ptr().add(whole), stride, tiles, rest);
        }
    }
}

/// Whole groups of sixteen rows; from one tile of a row of activations to its next there are `stride`.
///
/// # Safety
/// `panel` has `tiles` tiles, `x` as many for each row of `sums`, whose number divides by sixteen.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn groups(panel: *const Line, x: *const ActivationTile, stride: usize, tiles: usize, sums: &mut [PanelSums]) {
    sums.fill([0.0; PANEL]);
    let (groups, _) = sums.as_chunks_mut::<ROWS>();
    let mut weights: Weights = [[Line([0; 64]); 4]; BLOCKS];
    // One is written while the other is read: what a tile register stores cannot be forwarded to a load right away.
    let mut products = [const { Products([[[0; PANEL]; ROWS]; BLOCKS]) }; 2];
    // SAFETY: a whole configuration, with which the multiplications below agree.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION, options(nostack, preserves_flags, readonly)) };
    for t in 0..tiles {
        // SAFETY: `t < tiles`, and every group has sixteen rows.
        unsafe {
            let (tile, x) = (panel.add(NVFP4_LINES * t), x.add(t * stride));
            prefetch(tile, NVFP4_LINES);
            decode(tile, &mut weights);
            let s: [__m512; BLOCKS] = std::array::from_fn(|block| scales(tile, block));
            multiply(&weights, x, &mut products[0]);
            for number in 0..groups.len() {
                if number + 1 < groups.len() {
                    multiply(&weights, x.add(ROWS * (number + 1)), &mut products[(number + 1) % 2]);
                }
                add(&products[number % 2], &s, x.add(ROWS * number), &mut groups[number]);
            }
        }
    }
    // SAFETY: no tile register is read after this.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
}

/// # Safety
/// `tile` has nine lines.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn decode(tile: *const Line, weights: &mut Weights) {
    for (line, pair) in weights.as_flattened_mut().as_chunks_mut::<2>().0.iter_mut().enumerate() {
        // SAFETY: the caller's promise; lines are 64 bytes, aligned.
        unsafe {
            let table = _mm512_loadu_si512(DOUBLED.as_ptr().cast());
            let codes = _mm512_load_si512(tile.add(line).cast());
            _mm512_store_si512((&raw mut pair[0]).cast(), _mm512_permutexvar_epi8(codes, table));
            _mm512_store_si512((&raw mut pair[1]).cast(), _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(codes), table));
        }
    }
}

/// The exact products of sixteen rows of activations and all four blocks.
///
/// # Safety
/// Tiles are configured by [`CONFIGURATION`], and sixteen rows follow `x`.
#[inline(always)]
unsafe fn multiply(weights: &Weights, x: *const ActivationTile, products: &mut Products) {
    // SAFETY: reads sixteen codes of sixteen rows per block and four lines; writes 1 KiB per block.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "tileloadd tmm4, [{x} + {row}*1]",
            "tileloadd tmm5, [{w} + {line}*1]",
            "tdpbssd tmm0, tmm4, tmm5",
            "tileloadd tmm6, [{x} + {row}*1 + {column}]",
            "tileloadd tmm7, [{w} + {line}*1 + 256]",
            "tdpbssd tmm1, tmm6, tmm7",
            "tileloadd tmm4, [{x} + {row}*1 + 2*{column}]",
            "tileloadd tmm5, [{w} + {line}*1 + 512]",
            "tdpbssd tmm2, tmm4, tmm5",
            "tileloadd tmm6, [{x} + {row}*1 + 3*{column}]",
            "tileloadd tmm7, [{w} + {line}*1 + 768]",
            "tdpbssd tmm3, tmm6, tmm7",
            "tilestored [{d} + {line}*1], tmm0",
            "tilestored [{d} + {line}*1 + 1024], tmm1",
            "tilestored [{d} + {line}*1 + 2048], tmm2",
            "tilestored [{d} + {line}*1 + 3072], tmm3",
            x = in(reg) &raw const (*x).codes,
            row = in(reg) size_of::<ActivationTile>(),
            column = const BLOCK,
            w = in(reg) weights.as_ptr(),
            line = in(reg) size_of::<Line>(),
            d = in(reg) products.0.as_mut_ptr(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, preserves_flags),
        );
    }
}

/// `total + f·d`, blocks in ascending order.
///
/// # Safety
/// Sixteen rows follow `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi")]
unsafe fn add(products: &Products, s: &[__m512; BLOCKS], x: *const ActivationTile, sums: &mut [PanelSums; ROWS]) {
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: sixteen products and sixteen totals.
        unsafe {
            let mut total = _mm512_loadu_ps(sums.as_ptr());
            for block in 0..BLOCKS {
                let d = _mm512_cvtepi32_ps(_mm512_load_si512(products.0[block][i].as_ptr().cast()));
                total = _mm512_fmadd_ps(d, _mm512_mul_ps(s[block], _mm512_set1_ps((*x.add(i)).scales[block])), total);
            }
            _mm512_storeu_ps(sums.as_mut_ptr(), total);
        }
    }
}

/// Whether the CPU has tiles of 8-bit integers, the system lets this process use them, and they multiply as they should.
/// Needs VNNI and VBMI.
#[cfg(target_os = "linux")]
pub fn is_usable() -> bool {
    use std::sync::OnceLock;

    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| has_tiles() && ask() && agrees_with_vnni())
}

/// Only Linux is asked: elsewhere nobody has run this.
#[cfg(not(target_os = "linux"))]
pub fn is_usable() -> bool {
    false
}

/// Tile registers, `tdpbssd`, palette 1 of its usual size, and both parts of the state enabled by the system.
#[cfg(target_os = "linux")]
fn has_tiles() -> bool {
    const AMX_TILE: u32 = 1 << 24;
    const AMX_INT8: u32 = 1 << 25;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u64 = 3 << 17; // XTILECFG, XTILEDATA

    /// # Safety
    /// The system has enabled XSAVE.
    #[target_feature(enable = "xsave")]
    unsafe fn enabled() -> u64 {
        // SAFETY: the caller's promise.
        unsafe { _xgetbv(0) }
    }

    #[allow(unused_unsafe, reason = "reading CPUID is safe on this architecture from Rust 1.94 on")]
    // SAFETY: CPUID exists on every x86-64; XSAVE is there where OSXSAVE is.
    unsafe {
        if __cpuid(0).eax < 0x1D || __cpuid(1).ecx & OSXSAVE == 0 || enabled() & TILE_STATE != TILE_STATE {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        let palette = __cpuid_count(0x1D, 1);
        // ebx: bytes per row, registers; ecx: rows
        features & (AMX_TILE | AMX_INT8) == AMX_TILE | AMX_INT8 && palette.ebx == 8 << 16 | 64 && palette.ecx & 0xFFFF == 16
    }
}

/// Tile data are 8 KiB that Linux saves only for processes which asked; it refuses where a signal stack is too small.
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XTILEDATA: libc::c_long = 18;
    // SAFETY: changes nothing but which registers may be used.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
}

/// One product both ways. These instructions pass through more hands than others (hypervisors, emulators), and a wrong
/// product is worse than a slow one.
#[cfg(target_os = "linux")]
fn agrees_with_vnni() -> bool {
    const TILES: usize = 2;
    // Every nibble occurs, and no scale is NaN.
    let panel: [Line; TILES * NVFP4_LINES] = std::array::from_fn(|line| {
        Line(std::array::from_fn(|i| ((37 * i + 101 * line) as u8) & if line % NVFP4_LINES == 8 { 0x3F } else { 0xFF }))
    });
    let x: [ActivationTile; TILES * ROWS] = std::array::from_fn(|number| {
        let codes = std::array::from_fn(|i| ((7 * i + 5 * number) % 25) as i8 - 12);
        let offset = |block: usize| -12 * codes[BLOCK * block..BLOCK * (block + 1)].iter().map(|&c| i32::from(c)).sum::<i32>();
        ActivationTile { codes, scales: std::array::from_fn(|block| 1.0 + (block + number) as f32), offsets: std::array::from_fn(offset) }
    });
    let (mut here, mut there) = ([[0.0; PANEL]; ROWS], [[1.0; PANEL]; ROWS]);
    nvfp4_nvfp4(&panel, &x, &mut here);
    vnni::nvfp4_nvfp4(&panel, &x, &mut there);
    here == there
}
