//! AVX-512: sixteen f32 lanes. Three tables, each the one before with another product of NVFP4 × NVFP4: F, BW and VL; with VNNI
//! and VBMI, 8-bit dot products and byte permutes; with AMX, tiles.

#![allow(unsafe_code, reason = "intrinsics")]

pub mod codec;
pub mod linear;
pub mod logits;
pub mod vector;

use crate::simd::avx2;
use crate::simd::{Table, linear::ActivationTile, linear::Kernel};

static PLAIN: Table = table("avx512", linear::OPS.nvfp4_nvfp4);
static VNNI: Table = table("avx512vnni", linear::nvfp4::vnni::nvfp4_nvfp4);
static AMX: Table = table("amx", linear::amx::nvfp4_nvfp4);

const fn table(name: &'static str, nvfp4_nvfp4: Kernel<ActivationTile>) -> Table {
    let linear = crate::simd::linear::Ops { nvfp4_nvfp4, ..linear::OPS };
    Table { name, codec: codec::OPS, linear, vector: vector::OPS, logits: logits::OPS }
}

/// The tables whose features the CPU has, slowest first; AVX2's features are needed too, some of whose functions they hold.
pub fn tables() -> impl Iterator<Item = &'static Table> {
    let plain = avx2::table().is_some()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    let vnni = plain && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512vbmi");
    let amx = vnni && linear::amx::is_usable();
    [(plain, &PLAIN), (vnni, &VNNI), (amx, &AMX)].into_iter().filter_map(|(has, table)| has.then_some(table))
}
