//! Throughput of the codec on a 4096 × 4096 bf16 matrix, beside this machine's memory bandwidth.
//!
//! ```text
//! cargo bench --bench codec
//! ```
//!
//! Every table is checked against the scalar one before anything is timed. GB/s are 10⁹ bytes of the dense matrix per
//! second; median, smallest and largest of the rounds.

use std::time::Instant;

use half::bf16;
use reset::quantize::{Dialect, Method, Options, Source, Target, absmax_with, dequantize_parts, quantize_with};
use reset::simd::{self, Table, bandwidth};

const SIDE: usize = 4096;

/// Bell-shaped weights, as trained ones are.
fn weights() -> Vec<bf16> {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..SIDE * SIDE).map(|_| bf16::from_f32((uniform() + uniform() + uniform() + uniform()) * 0.02)).collect()
}

fn time(name: &str, bytes: usize, rounds: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut rates: Vec<f64> = (0..rounds)
        .map(|_| {
            let started = Instant::now();
            work();
            bytes as f64 / started.elapsed().as_secs_f64() / 1e9
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let median = rates[rounds / 2];
    println!("{name:<44} {median:8.3} GB/s  ({:.3} to {:.3})", rates[0], rates[rounds - 1]);
    median
}

fn check(table: &'static Table, x: &[bf16]) {
    let x = &x[..SIDE * 16];
    for dialect in [Dialect::ModelOpt, Dialect::CompressedTensors] {
        for method in [Method::Nearest, Method::FourOverSix, Method::Sweep] {
            let options = Options { method, dialect, tensor_scale: None };
            let run = |table| quantize_with(table, Source::Bf16(x), 16, SIDE, &options).expect("finite weights");
            assert_eq!(run(table), run(simd::scalar()), "{} {method:?}", table.name);
        }
    }
}

fn main() {
    let x = weights();
    let bytes = x.len() * 2;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = bandwidth::measure(threads);
    println!("{threads} threads; tables: {:?}", simd::available().iter().map(|t| t.name).collect::<Vec<_>>());
    println!("memory: reads {:.1} GB/s, writes {:.1} GB/s", memory.read / 1e9, memory.write / 1e9);
    for table in simd::available() {
        check(table, &x);
        let rounds = if table.name == "scalar" { 3 } else { 21 };
        let row = |what: &str| format!("{:<7} {what}", table.name);
        time(&row("absmax"), bytes, rounds, || {
            absmax_with(table, Source::Bf16(&x)).expect("finite weights");
        });
        for (dialect, method) in [
            (Dialect::ModelOpt, Method::Nearest),
            (Dialect::CompressedTensors, Method::Nearest),
            (Dialect::ModelOpt, Method::FourOverSix),
            (Dialect::ModelOpt, Method::Sweep),
        ] {
            if table.name == "scalar" && method == Method::Sweep {
                continue; // minutes
            }
            let options = Options { method, dialect, tensor_scale: None };
            time(&row(&format!("quantize {} {}", method.name(), dialect.name())), bytes, rounds, || {
                quantize_with(table, Source::Bf16(&x), SIDE, SIDE, &options).expect("finite weights");
            });
        }
        let matrix = quantize_with(table, Source::Bf16(&x), SIDE, SIDE, &Options::default()).expect("finite weights");
        let mut f32s = vec![0.0_f32; x.len()];
        let mut bf16s = vec![bf16::ZERO; x.len()];
        let (codes, scales, scale) = (matrix.codes(), matrix.block_scales(), matrix.tensor_scale());
        time(&row("dequantize to f32 (bytes written)"), x.len() * 4, rounds, || {
            dequantize_parts(table, codes, scales, scale, Target::F32(&mut f32s)).expect("room for all");
        });
        time(&row("dequantize to bf16 (bytes written)"), bytes, rounds, || {
            dequantize_parts(table, codes, scales, scale, Target::Bf16(&mut bf16s)).expect("room for all");
        });
    }
}
