//! Throughput of linear layers: GB/s of packed weights, for each format, table and number of rows of activations, beside the
//! read bandwidth measured in the same run.
//!
//! ```text
//! cargo bench --bench gemv                                      the shapes of Qwen3-0.6B, all formats, the fastest table
//! cargo bench --bench gemv -- --tables --threads 1 --rows 1,8 --formats nvfp4 --shapes 3072x1024
//! cargo bench --bench gemv -- --model                           one token's matrices in their order, as a decoder runs them
//! ```
//!
//! Every matrix is repeated until the copies exceed any cache, and a pass reads each copy once. Results are compared with
//! those of the scalar table before anything is timed. The median of the passes is reported, with the spread from the first
//! to the ninth decile.

use std::hint::black_box;
use std::time::Instant;

use half::{bf16, f16};
use reset::backend::cpu::linear::{Activations, PackedMatrix, Product, Scratch, linear, linear_many};
use reset::nvfp4::{Nvfp4Matrix, TensorScale};
use reset::parallel::Pool;
use reset::simd::{Table, available, bandwidth, best, scalar};
use reset::tensor::{Dense, Matrix};

/// Bytes of packed weights that one pass reads at least.
const PASS_BYTES: usize = 160 << 20;
const SHAPES: [(usize, usize); 5] = [(1024, 1024), (2048, 1024), (3072, 1024), (1024, 3072), (151_936, 1024)];
const W4A4: Activations = Activations::Nvfp4 { input_scale: Some(0.001) };
/// Label, storage format, activations.
const FORMATS: [(&str, &str, Activations); 5] = [
    ("nvfp4 × nvfp4", "nvfp4", W4A4),
    ("nvfp4 × f32", "nvfp4", Activations::Float),
    ("bf16 × f32", "bf16", Activations::Float),
    ("f16 × f32", "f16", Activations::Float),
    ("f32 × f32", "f32", Activations::Float),
];

struct Options {
    tables: bool,
    model: bool,
    threads: Vec<usize>,
    rows: Vec<usize>,
    formats: String,
    shapes: Vec<(usize, usize)>,
}

fn options() -> Options {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let numbers = |name: &str, default: &[usize]| {
        value(name).map_or_else(|| default.to_vec(), |v| v.split(',').map(|n| n.parse().expect("a number")).collect())
    };
    let shape = |s: &str| s.split_once('x').map(|(n, k)| (n.parse().expect("rows"), k.parse().expect("columns"))).expect("ROWSxCOLS");
    Options {
        tables: arguments.iter().any(|a| a == "--tables"),
        model: arguments.iter().any(|a| a == "--model"),
        threads: numbers("--threads", &[1, 2]),
        rows: numbers("--rows", &[1, 4, 8, 16]),
        formats: value("--formats").unwrap_or_default(),
        shapes: value("--shapes").map_or_else(|| SHAPES.to_vec(), |v| v.split(',').map(shape).collect()),
    }
}

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn matrix(&mut self, format: &str, rows: usize, cols: usize) -> Matrix {
        match format {
            "nvfp4" => {
                let codes = (0..rows * cols / 2).map(|_| (self.bits() >> 32) as u8).collect();
                let scales = (0..rows * cols / 16).map(|_| (self.bits() >> 32) as u8 % 0x7F).collect();
                let matrix = Nvfp4Matrix::new(codes, scales, TensorScale::Multiplier(0.01), rows, cols);
                Matrix::Nvfp4(matrix.expect("valid parts"))
            }
            "bf16" => Matrix::Bf16(Dense {
                data: self.values(rows * cols).into_iter().map(bf16::from_f32).collect::<Vec<_>>().into(),
                rows,
                cols,
            }),
            "f16" => {
                Matrix::F16(Dense { data: self.values(rows * cols).into_iter().map(f16::from_f32).collect::<Vec<_>>().into(), rows, cols })
            }
            _ => Matrix::F32(Dense { data: self.values(rows * cols).into(), rows, cols }),
        }
    }
}

/// Median, first and ninth decile of the seconds of a pass.
fn time(mut pass: impl FnMut()) -> [f64; 3] {
    pass();
    let mut seconds: Vec<f64> = (0..15)
        .map(|_| {
            let start = Instant::now();
            pass();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    [seconds[7], seconds[1], seconds[13]]
}

fn verify(table: &Table, weight: &PackedMatrix, activations: Activations, x: &[f32]) {
    let pool = Pool::new(Some(2));
    let mut scratch = Scratch::default();
    let [mut ours, mut specified] = [0, 0].map(|_| vec![0.0; x.len() / weight.cols() * weight.rows()]);
    linear(&pool, table, &mut scratch, weight, activations, x, &mut ours);
    linear(&pool, scalar(), &mut scratch, weight, activations, x, &mut specified);
    assert_eq!(ours, specified, "{} and scalar disagree", table.name);
}

fn shapes(options: &Options, read: &[(usize, f64)]) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let tables = if options.tables { available() } else { vec![best()] };
    println!(
        "{:>14} {:>13} {:>7} {:>7} {:>4} {:>9} {:>16} {:>9}",
        "format", "shape", "table", "threads", "m", "GB/s", "(deciles)", "of read"
    );
    for (label, format, activations) in FORMATS.iter().filter(|f| f.0.contains(&options.formats)) {
        for &(rows, cols) in &options.shapes {
            let first = PackedMatrix::pack(random.matrix(format, rows, cols));
            let copies: Vec<_> = (0..PASS_BYTES.div_ceil(first.nbytes())).map(|_| first.clone()).collect();
            let bytes: usize = copies.iter().map(PackedMatrix::nbytes).sum();
            for table in &tables {
                verify(table, &PackedMatrix::pack(random.matrix(format, 80, cols)), *activations, &random.values(5 * cols));
                for &(threads, read) in read {
                    let pool = Pool::new(Some(threads));
                    for &m in &options.rows {
                        let (x, mut y, mut scratch) = (random.values(m * cols), vec![0.0; m * rows], Scratch::default());
                        let [median, low, high] = time(|| {
                            for weight in &copies {
                                linear(&pool, table, &mut scratch, weight, *activations, &x, &mut y);
                            }
                            black_box(&y);
                        })
                        .map(|seconds| bytes as f64 / seconds / 1e9);
                        println!(
                            "{label:>14} {:>13} {:>7} {threads:>7} {m:>4} {median:>9.2} {:>16} {:>8.0}%",
                            format!("{rows}x{cols}"),
                            table.name,
                            format!("({high:.1}–{low:.1})"),
                            100.0 * median / read
                        );
                    }
                }
            }
        }
    }
}

/// One token of Qwen3-0.6B, matrices only: 28 layers of four parallel sections, and the head.
fn model(options: &Options, read: &[(usize, f64)]) {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (hidden, heads, kv, mlp, vocabulary) = (1024, 2048, 1024, 3072, 151_936);
    for (label, format, activations) in FORMATS.iter().filter(|f| f.0.contains(&options.formats)) {
        let mut pack = |rows, cols| PackedMatrix::pack(random.matrix(format, rows, cols));
        let layer = [(heads, hidden), (kv, hidden), (kv, hidden), (hidden, heads), (mlp, hidden), (mlp, hidden), (hidden, mlp)];
        let layer = layer.map(|(rows, cols)| pack(rows, cols));
        let layers: Vec<_> = (0..28).map(|_| layer.clone()).collect();
        let head = pack(vocabulary, hidden);
        let bytes = head.nbytes() + 28 * layer.iter().map(PackedMatrix::nbytes).sum::<usize>();
        for &(threads, read) in read {
            let pool = Pool::new(Some(threads));
            for &m in &options.rows {
                let x = Random(3).values(m * mlp);
                let mut y: [Vec<f32>; 7] = std::array::from_fn(|i| vec![0.0; m * layer[i].rows()]);
                let mut logits = vec![0.0; m * vocabulary];
                let (mut scratch, table) = (Scratch::default(), best());
                let [median, low, high] = time(|| {
                    for weights in &layers {
                        let [q, k, v, o, gate, up, down] = y.each_mut();
                        let product = |i: usize, y| Product { weight: &weights[i], activations: *activations, y };
                        linear_many(&pool, table, &mut scratch, [product(0, q), product(1, k), product(2, v)], &x[..m * hidden]);
                        linear_many(&pool, table, &mut scratch, [product(3, o)], &x[..m * heads]);
                        linear_many(&pool, table, &mut scratch, [product(4, gate), product(5, up)], &x[..m * hidden]);
                        linear_many(&pool, table, &mut scratch, [product(6, down)], &x[..m * mlp]);
                    }
                    linear(&pool, table, &mut scratch, &head, *activations, &x[..m * hidden], &mut logits);
                    black_box(&logits);
                });
                println!(
                    "{label:>14} {} threads {threads} m {m:>2}: {:.1} ms ({:.1}–{:.1}), {:.1} tokens/s, {:.1} GB/s, {:.0}% of the read bandwidth",
                    table.name,
                    1e3 * median,
                    1e3 * low,
                    1e3 * high,
                    m as f64 / median,
                    bytes as f64 / median / 1e9,
                    100.0 * bytes as f64 / median / 1e9 / read
                );
            }
        }
    }
}

fn main() {
    let options = options();
    let measured = options.threads.iter().map(|&threads| (threads, bandwidth::measure(threads).read / 1e9));
    let read: Vec<(usize, f64)> = measured.collect();
    for (threads, read) in &read {
        println!("read bandwidth, {threads} threads: {read:.1} GB/s");
    }
    if options.model { model(&options, &read) } else { shapes(&options, &read) }
}
