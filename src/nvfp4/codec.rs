//! From NVFP4 back to dense floats.

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::nvfp4::parts;
use crate::nvfp4::{BLOCK, Nvfp4Matrix, TensorScale};
use crate::simd;
use crate::simd::codec::{Dequantize, Factor};

/// Where dequantized elements go: `[rows, cols]`, row-major.
#[derive(Debug)]
pub enum Target<'a> {
    /// `e2m1 · (e4m3 · S)`, or `e2m1 · (e4m3 / D)` where the file holds a divisor, in f32.
    F32(&'a mut [f32]),
    /// The f32 value rounded to nearest even.
    F16(&'a mut [f16]),
    /// The f32 value rounded to nearest even.
    Bf16(&'a mut [bf16]),
}

impl Target<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(out) => out.len(),
            Self::F16(out) => out.len(),
            Self::Bf16(out) => out.len(),
        }
    }
}

/// Dequantizes a matrix into `target`, all elements.
pub fn dequantize_into(matrix: &Nvfp4Matrix, target: Target) -> Result<()> {
    dequantize_parts(simd::best(), matrix.codes(), matrix.block_scales(), matrix.tensor_scale(), target)
}

/// Dequantizes parts that are not held by an [`Nvfp4Matrix`], with the inner loops of `table`.
pub fn dequantize_parts(
    table: &simd::Table,
    codes: &[u8],        // [n, 8]
    block_scales: &[u8], // [n]
    tensor_scale: TensorScale,
    target: Target, // [n, 16]
) -> Result<()> {
    if codes.len() != block_scales.len() * (BLOCK / 2) || target.len() != block_scales.len() * BLOCK {
        return Err(Error::Shape {
            what: "dequantize".to_owned(),
            found: format!("{} code bytes, {} block scales, room for {} elements", codes.len(), block_scales.len(), target.len()),
            expected: "8 code bytes and 16 elements per block scale".to_owned(),
        });
    }
    let factor = match tensor_scale {
        TensorScale::Multiplier(s) => Factor::Multiply(s),
        TensorScale::Divisor(d) => Factor::Divide(d),
    };
    match target {
        Target::F32(out) => run(table.codec.dequantize_f32, codes, block_scales, factor, out),
        Target::F16(out) => run(table.codec.dequantize_f16, codes, block_scales, factor, out),
        Target::Bf16(out) => run(table.codec.dequantize_bf16, codes, block_scales, factor, out),
    }
    Ok(())
}

fn run<T: Send>(dequantize: Dequantize<T>, codes: &[u8], block_scales: &[u8], factor: Factor, out: &mut [T]) {
    let runs = out.chunks_mut(parts::RUN * BLOCK).zip(codes.chunks(parts::RUN * BLOCK / 2)).zip(block_scales.chunks(parts::RUN));
    parts::for_each(runs, |((out, codes), scales)| dequantize(codes, scales, factor, out));
}
