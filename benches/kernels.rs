//! Arithmetic of the kernels alone: weights and activations in the first caches, one thread, beside what the multipliers could
//! do at most.
//!
//! ```text
//! cargo bench --bench kernels                        every format, rows of activations 1 to 64, the fastest table
//! cargo bench --bench kernels -- --table scalar --formats bf16 --tiles 3
//! ```
//!
//! Results are compared with those of the scalar table before anything is timed. The fastest of thirty short passes is
//! reported: other work on the machine can only slow a pass.

use std::hint::black_box;
use std::time::Instant;

use half::bf16;
use reset::simd::linear::{ActivationTile, F32_LINES, HALF_LINES, Kernel, Line, NVFP4_LINES, PANEL, PanelSums, TILE};
use reset::simd::{Table, available, best, scalar};

/// Multiply-adds of a pass at least.
const PASS: usize = 20_000_000;
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 24
    }

    fn value(&mut self) -> f32 {
        self.bits() as f32 / (1u64 << 39) as f32 - 1.0
    }

    /// Any codes, scales of 2⁻³ to 2 or so.
    fn nvfp4(&mut self, tiles: usize) -> Vec<Line> {
        let mut line =
            |scales: bool| Line(std::array::from_fn(|_| if scales { 0x20 + (self.bits() as u8 & 31) } else { self.bits() as u8 }));
        (0..tiles * NVFP4_LINES).map(|i| line(i % NVFP4_LINES == NVFP4_LINES - 1)).collect()
    }

    fn dense<const BYTES: usize>(&mut self, lines: usize, bytes: impl Fn(f32) -> [u8; BYTES]) -> Vec<Line> {
        let mut line = || {
            let mut line = Line([0; 64]);
            for place in line.0.as_chunks_mut::<BYTES>().0 {
                *place = bytes(self.value());
            }
            line
        };
        (0..lines).map(|_| line()).collect()
    }
}

fn fastest(mut pass: impl FnMut()) -> f64 {
    let mut seconds = f64::INFINITY;
    for _ in 0..30 {
        let start = Instant::now();
        pass();
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    seconds
}

/// Multiply-adds per second of 96 independent chains: what the multipliers do at most with the instructions of AVX2.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a loop compiled for the CPU at hand")]
fn peak() -> Option<f64> {
    #[target_feature(enable = "avx2,fma")]
    fn chains(count: usize, factor: f32, term: f32) -> [f32; 96] {
        let mut sums = [0.5f32; 96];
        for _ in 0..count {
            for sum in &mut sums {
                *sum = sum.mul_add(factor, term);
            }
        }
        sums
    }
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
        return None;
    }
    let count = PASS / 96;
    let seconds = fastest(|| {
        // SAFETY: the CPU has both.
        black_box(unsafe { chains(count, black_box(0.999), black_box(0.001)) });
    });
    Some((count * 96) as f64 / seconds)
}

#[cfg(not(target_arch = "x86_64"))]
fn peak() -> Option<f64> {
    None
}

/// Multiply-adds per second of `kernel` over panels of `tiles` tiles.
fn rate<X>(kernel: Kernel<X>, specified: Kernel<X>, lines: usize, weights: &[Line], tiles: usize, x: &[X], m: usize) -> f64 {
    let panels: Vec<&[Line]> = weights.chunks_exact(tiles * lines).collect();
    let (mut sums, mut expected) = (vec![PanelSums::default(); m], vec![PanelSums::default(); m]);
    kernel(panels[0], x, &mut sums);
    specified(panels[0], x, &mut expected);
    assert_eq!(sums, expected, "the kernel and the scalar table disagree");
    let work = m * tiles * TILE * PANEL * panels.len();
    let repetitions = PASS.div_ceil(work);
    let seconds = fastest(|| {
        for _ in 0..repetitions {
            for panel in &panels {
                kernel(panel, x, &mut sums);
                black_box(&sums);
            }
        }
    });
    (work * repetitions) as f64 / seconds
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).map(String::as_str);
    let table: &Table =
        value("--table").map_or_else(best, |name| available().into_iter().find(|t| t.name == name).expect("a table of this CPU"));
    let tiles: usize = value("--tiles").map_or(16, |n| n.parse().expect("a number"));
    let wanted = value("--formats").unwrap_or_default();
    let (ours, theirs) = (&table.linear, &scalar().linear);
    let peak = peak();
    if let Some(peak) = peak {
        println!("at most {:.1} billion multiply-adds a second with AVX2", peak / 1e9);
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let panels = 4;
    let nvfp4 = random.nvfp4(panels * tiles);
    let halves = random.dense(panels * tiles * HALF_LINES, |x| bf16::from_f32(x).to_bits().to_le_bytes());
    let f16 = random.dense(panels * tiles * HALF_LINES, |x| half::f16::from_f32(x).to_bits().to_le_bytes());
    let f32 = random.dense(panels * tiles * F32_LINES, f32::to_le_bytes);
    println!("{} table, {tiles} tiles: billion multiply-adds a second (share of the most)", table.name);
    for m in ROWS {
        let x: Vec<[f32; TILE]> = (0..tiles * m).map(|_| std::array::from_fn(|_| random.value())).collect();
        let quantized: Vec<ActivationTile> = x
            .iter()
            .map(|x| {
                let mut tile = ActivationTile::ZERO;
                (ours.quantize)(x, 672.0, &mut tile);
                tile
            })
            .collect();
        for (name, rate) in [
            ("nvfp4 × nvfp4", rate(ours.nvfp4_nvfp4, theirs.nvfp4_nvfp4, NVFP4_LINES, &nvfp4, tiles, &quantized, m)),
            ("nvfp4 × f32", rate(ours.nvfp4_f32, theirs.nvfp4_f32, NVFP4_LINES, &nvfp4, tiles, &x, m)),
            ("bf16 × f32", rate(ours.bf16_f32, theirs.bf16_f32, HALF_LINES, &halves, tiles, &x, m)),
            ("f16 × f32", rate(ours.f16_f32, theirs.f16_f32, HALF_LINES, &f16, tiles, &x, m)),
            ("f32 × f32", rate(ours.f32_f32, theirs.f32_f32, F32_LINES, &f32, tiles, &x, m)),
        ] {
            if name.contains(wanted) {
                let share = peak.map_or(String::new(), |peak| format!(" ({:.2})", rate / peak));
                println!("m {m:>2}  {name:>14} {:>8.1}{share}", rate / 1e9);
            }
        }
    }
}
