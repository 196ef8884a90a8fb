//! Inner loops, once per instruction set.
//!
//! A [`Table`] holds one function per inner loop, in four families: [`codec`] (quantize, dequantize), [`linear`]
//! (matrix times activations), [`vector`] (norms, attention, elementwise) and [`logits`] (one pass over a vocabulary).
//! [`scalar`] is the specification: plain Rust, read it first. The other tables are built only where the CPU has their
//! features, so that holding a table is the proof that its functions may run. Callers take a table as an argument;
//! tests pass every one of [`available`] through the same battery.
//!
//! The families are folders inside each instruction set (`avx2/codec.rs`, `avx2/linear.rs` …): one file per idea.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod bandwidth;
#[allow(dead_code, reason = "used by the instruction sets, and some targets have none")]
mod blocks;
pub mod codec;
#[allow(dead_code, reason = "used by the instruction sets, and some targets have none")]
mod lanes;
pub mod linear;
pub mod logits;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod prefetch;
mod scalar;
pub mod vector;

/// The inner loops of one instruction set.
#[derive(Debug)]
pub struct Table {
    /// Name as options and reports spell it.
    pub name: &'static str,
    /// Quantize and dequantize.
    pub codec: codec::Ops,
    /// Matrix times activations.
    pub linear: linear::Ops,
    /// Norms, attention, elementwise.
    pub vector: vector::Ops,
    /// Passes over a vocabulary.
    pub logits: logits::Ops,
}

/// The portable table: the specification the others are tested against.
pub fn scalar() -> &'static Table {
    &scalar::TABLE
}

/// Every table this CPU can run, slowest first.
pub fn available() -> Vec<&'static Table> {
    #[allow(unused_mut, reason = "no other table exists on some targets")]
    let mut tables = vec![scalar()];
    #[cfg(target_arch = "x86_64")]
    tables.extend(avx2::table().into_iter().chain(avx512::tables()));
    #[cfg(target_arch = "aarch64")]
    tables.extend(neon::table());
    tables
}

/// The fastest table this CPU can run.
pub fn best() -> &'static Table {
    available().pop().expect("the scalar table is always there")
}

/// Names of all tables of this target with the reason why one cannot run here, if so.
pub fn all() -> Vec<(&'static str, Option<&'static str>)> {
    let running: Vec<_> = available().iter().map(|t| t.name).collect();
    [
        ("scalar", ""),
        ("avx2", "needs an x86-64 CPU with AVX2, FMA and F16C"),
        ("avx512", "needs an x86-64 CPU with AVX-512 F, BW and VL"),
        ("avx512vnni", "needs an x86-64 CPU with AVX-512 F, BW, VL, VNNI and VBMI"),
        ("amx", "needs an x86-64 CPU with AMX-INT8 beside them, and Linux's permission to use its tiles"),
        ("neon", "needs an AArch64 CPU with dot-product instructions"),
    ]
    .map(|(name, reason)| (name, (!running.contains(&name)).then_some(reason)))
    .to_vec()
}
