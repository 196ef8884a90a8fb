//! Norms, attention and elementwise loops over f32: the plain loops, compiled for this instruction set.

use half::bf16;

use crate::simd::vector::Ops;
use crate::simd::vector::recompile;

recompile!("avx512f,avx512bw,avx512vl,avx512vnni,avx512vbmi");
