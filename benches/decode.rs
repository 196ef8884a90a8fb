//! Decode and prefill of a model with random weights at the size of a published one: tokens a second, and GB/s of what a
//! step has to read beside the read bandwidth measured in the same run.
//!
//! ```text
//! cargo bench --bench decode                                             Qwen3-0.6B, NVFP4 with an NVFP4 head, batches 1, 4, 8
//! cargo bench --bench decode -- --shape qwen3-1.7b --context 2048 --kv fp8 --threads 1 --batches 1 --steps 16 --prompt 256
//! ```
//!
//! `tests/rust/decode.rs` proves what is timed here. The median of the steps is reported, with the first and ninth decile.

use std::sync::Arc;

use reset::backend::cpu::Cpu;
use reset::backend::{Backend, KvFormat};
use reset::pipeline::load::parse_kv;
use reset::pipeline::synthetic::{Formats, Shape, model, time_decode, time_prefill};
use reset::simd::bandwidth;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).map(String::as_str);
    let number = |name: &str, default: usize| value(name).map_or(default, |v| v.parse().expect("a number"));
    let nvfp4 = |name: &str| value(name).unwrap_or("nvfp4") == "nvfp4";
    let formats = Formats {
        nvfp4_weights: nvfp4("--weights"),
        nvfp4_head: nvfp4("--lm-head"),
        nvfp4_activations: nvfp4("--activations"),
        kv: parse_kv(value("--kv").unwrap_or("bf16")).expect("a format").unwrap_or(KvFormat::Bf16),
    };
    let shape = Shape::named(value("--shape").unwrap_or("qwen3-0.6b")).expect("a shape");
    let (context, steps, prompt) = (number("--context", 0), number("--steps", 32), number("--prompt", 128));
    let backend = Cpu::best(value("--threads").map(|v| v.parse().expect("a number")));
    let read = bandwidth::measure(backend.threads()).read / 1e9;
    println!(
        "{} {formats:?}, {} threads, {}, context {context}, read bandwidth {read:.1} GB/s",
        shape.name,
        backend.threads(),
        backend.table_name()
    );
    let model = Arc::new(model(shape, formats, backend).expect("a model"));
    for batch in value("--batches").unwrap_or("1,4,8").split(',').map(|b| b.parse().expect("a batch size")) {
        let mut timing = time_decode(&model, batch, context, steps).expect("steps");
        timing.seconds.sort_by(f64::total_cmp);
        let at = |share: f64| timing.seconds[((timing.seconds.len() - 1) as f64 * share).round() as usize];
        let gigabytes = (timing.weight_bytes + timing.kv_bytes) as f64 / 1e9;
        println!(
            "decode, batch {batch}: {:.1} tok/s, step {:.1} ms ({:.1} to {:.1}), {:.1} GB/s, {:.0} % of the bandwidth",
            batch as f64 / at(0.5),
            at(0.5) * 1e3,
            at(0.1) * 1e3,
            at(0.9) * 1e3,
            gigabytes / at(0.5),
            100.0 * gigabytes / at(0.5) / read,
        );
    }
    if prompt > 0 {
        let mut seconds = time_prefill(&model, prompt, 3).expect("prefill");
        seconds.sort_by(f64::total_cmp);
        println!("prefill of {prompt}: {:.1} tok/s", prompt as f64 / seconds[1]);
    }
}
