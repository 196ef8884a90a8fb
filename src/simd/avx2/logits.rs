//! Passes over the logits of one position: the loops of `scalar/logits.rs`, compiled for these features.

crate::simd::logits::instantiate!("avx2,fma");
