//! Recipes that turn dense matrices into NVFP4.
//!
//! ```text
//! pass 1   A = max |x| over the tensor            → tensor scale S (or divisor D)
//! pass 2   per block of 16: a scale s, then codes → value = e2m1 · s · S
//! ```
//!
//! Each pass reads the tensor once. What differs between recipes is how `s` is found; `simd/scalar/codec.rs` writes
//! each down, operation by operation.
//!
//! ```
//! use reset::quantize::{Options, Source, dequantize_into, Target, quantize};
//!
//! let weights: Vec<f32> = (0..32).map(|i| i as f32 / 8.0 - 2.0).collect();
//! let matrix = quantize(Source::F32(&weights), 2, 16, &Options::default())?;
//! let mut back = vec![0.0; 32];
//! dequantize_into(&matrix, Target::F32(&mut back))?;
//! assert!(weights.iter().zip(&back).all(|(x, y)| (x - y).abs() <= 0.4));
//! # Ok::<(), reset::Error>(())
//! ```

mod matrix;
mod scale;

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::nvfp4::{BLOCK, Nvfp4Matrix, TensorScale, parts};
use crate::simd::codec::{AbsMax, Quantize, Recipe};
use crate::simd::{self, Table};

pub use crate::nvfp4::codec::{Target, dequantize_into, dequantize_parts};
pub use matrix::{matrix_absmax, quantize_matrix};
pub use scale::tensor_scale;

/// Whose arithmetic [`Method::Nearest`] reproduces bit for bit. The other methods have one arithmetic, in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// NVIDIA ModelOpt: f32 throughout, the tensor scale multiplies.
    #[default]
    ModelOpt,
    /// compressed-tensors (llm-compressor): scales in the weight's own dtype, the tensor scale divides.
    CompressedTensors,
}

impl Dialect {
    /// Name as options spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelOpt => "modelopt",
            Self::CompressedTensors => "compressed-tensors",
        }
    }

    /// The dialect called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::ModelOpt, Self::CompressedTensors].into_iter().find(|d| d.name() == name).ok_or_else(|| Error::Argument {
            option: "dialect",
            found: format!("{name:?}"),
            allowed: "choose \"modelopt\" or \"compressed-tensors\"".to_owned(),
        })
    }
}

/// How block scales are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The block's largest magnitude becomes 6.
    #[default]
    Nearest,
    /// The block's largest magnitude becomes 6 or 4, whichever errs less.
    FourOverSix,
    /// Every positive E4M3 scale is tried.
    Sweep,
}

/// The methods: name as options spell it, and one sentence.
pub const RECIPES: [(Method, &str, &str); 3] = [
    (Method::Nearest, "nearest", "The block's largest magnitude becomes 6; all elements round to nearest, ties to even."),
    (Method::FourOverSix, "four_over_six", "The block's largest magnitude becomes 6 or 4, whichever has the smaller squared error."),
    (Method::Sweep, "sweep", "All 126 positive E4M3 scales are tried per block; the least squared error wins."),
];

impl Method {
    /// Name as options spell it.
    pub fn name(self) -> &'static str {
        RECIPES.iter().find(|(method, ..)| *method == self).map_or("", |(_, name, _)| name)
    }

    /// The method called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        RECIPES.iter().find(|(_, n, _)| *n == name).map(|(method, ..)| *method).ok_or_else(|| Error::Argument {
            option: "method",
            found: format!("{name:?}"),
            allowed: "choose \"nearest\", \"four_over_six\" or \"sweep\"".to_owned(),
        })
    }
}

/// Floating-point types a matrix may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

/// A dense matrix to quantize: row-major, contiguous.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

impl Source<'_> {
    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How to quantize.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How block scales are chosen.
    pub method: Method,
    /// Whose arithmetic.
    pub dialect: Dialect,
    /// The tensor scale, where it is not to follow from the matrix itself: for a group of matrices that shares one, or a
    /// scale measured elsewhere. Larger elements than it can hold saturate.
    pub tensor_scale: Option<TensorScale>,
}

/// Largest magnitude, 0 for no elements; [`Error::NonFinite`] names the first NaN or infinity.
pub fn absmax(source: Source) -> Result<f32> {
    absmax_with(simd::best(), source)
}

/// As [`absmax`], with the inner loops of `table`.
pub fn absmax_with(table: &Table, source: Source) -> Result<f32> {
    let ops = &table.codec;
    match source {
        Source::F32(x) => largest(ops.absmax_f32, x, |x| x),
        Source::F16(x) => largest(ops.absmax_f16, x, f16::to_f32),
        Source::Bf16(x) => largest(ops.absmax_bf16, x, bf16::to_f32),
    }
}

fn largest<T: Copy + Sync>(absmax: AbsMax<T>, x: &[T], to_f32: fn(T) -> f32) -> Result<f32> {
    let runs: Vec<_> = x.chunks(parts::RUN * BLOCK * 8).collect();
    let mut found = vec![0.0_f32; runs.len()];
    parts::for_each(runs.iter().zip(&mut found), |(run, found)| *found = absmax(run));
    // Magnitudes order as integers, NaN above infinity.
    let largest = found.into_iter().max_by_key(|x| x.to_bits()).unwrap_or(0.0);
    if largest.is_finite() {
        return Ok(largest);
    }
    match x.iter().position(|&x| !to_f32(x).is_finite()) {
        Some(index) => Err(Error::NonFinite { what: "quantize".to_owned(), index, value: to_f32(x[index]) }),
        None => Ok(largest),
    }
}

/// Quantizes a `[rows, cols]` matrix; `cols` is a multiple of 16.
pub fn quantize(source: Source, rows: usize, cols: usize, options: &Options) -> Result<Nvfp4Matrix> {
    quantize_with(simd::best(), source, rows, cols, options)
}

/// As [`quantize()`], with the inner loops of `table`.
pub fn quantize_with(table: &Table, source: Source, rows: usize, cols: usize, options: &Options) -> Result<Nvfp4Matrix> {
    if !cols.is_multiple_of(BLOCK) {
        return Err(Error::Shape {
            what: "quantize".to_owned(),
            found: format!("{cols} elements in the last dimension"),
            expected: "a multiple of 16; pad the last dimension with zeros, or leave this tensor unquantized".to_owned(),
        });
    }
    if Some(source.len()) != rows.checked_mul(cols) {
        return Err(Error::Shape {
            what: "quantize".to_owned(),
            found: format!("{} elements", source.len()),
            expected: format!("{rows} rows of {cols}"),
        });
    }
    let absmax = absmax_with(table, source)?;
    let (recipe, scale) = scale::recipe(absmax, source.dtype(), options)?;
    let blocks = source.len() / BLOCK;
    let mut codes = vec![0; blocks * BLOCK / 2];
    let mut block_scales = vec![0; blocks];
    let ops = &table.codec;
    match source {
        Source::F32(x) => run(ops.quantize_f32, x, recipe, &mut codes, &mut block_scales),
        Source::F16(x) => run(ops.quantize_f16, x, recipe, &mut codes, &mut block_scales),
        Source::Bf16(x) => run(ops.quantize_bf16, x, recipe, &mut codes, &mut block_scales),
    }
    Nvfp4Matrix::new(codes, block_scales, scale, rows, cols)
}

fn run<T: Sync>(quantize: Quantize<T>, x: &[T], recipe: Recipe, codes: &mut [u8], block_scales: &mut [u8]) {
    let runs = x.chunks(parts::RUN * BLOCK).zip(codes.chunks_mut(parts::RUN * BLOCK / 2)).zip(block_scales.chunks_mut(parts::RUN));
    parts::for_each(runs, |((x, codes), scales)| quantize(x, recipe, codes, scales));
}
