//! Linear layers: every format, table, number of rows and number of threads, against sums in f64.

use half::{bf16, f16};
use ndarray::Array2;
use reset::backend::cpu::linear::{Activations, PackedMatrix, Product, Scratch, linear, linear_many};
use reset::nvfp4::{Nvfp4Matrix, TensorScale};
use reset::parallel::Pool;
use reset::simd::linear::{ACTIVATION_SCALE, ActivationTile, TILE};
use reset::simd::{Table, all, available, scalar};
use reset::tensor::{Dense, Matrix};

/// Half an ulp of 1: the largest relative error of one f32 operation.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    /// Roughly normal, with now and then a much larger value.
    fn value(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.bits() as f32 / u32::MAX as f32 - 0.5).sum();
        if self.bits().is_multiple_of(61) { 30.0 * sum } else { sum }
    }

    fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    fn nvfp4(&mut self, rows: usize, cols: usize) -> Nvfp4Matrix {
        let codes = (0..rows * cols / 2).map(|_| self.bits() as u8).collect();
        // All scales, with zero, the smallest subnormal and 448 more often than by chance.
        let scale = |r: u32| if r.is_multiple_of(5) { [0x00, 0x01, 0x7E, 0x07][(r >> 8) as usize % 4] } else { (r >> 8) as u8 % 0x7F };
        let scales = (0..rows * cols / 16).map(|_| scale(self.bits())).collect();
        let tensor_scale = if rows.is_multiple_of(2) { TensorScale::Multiplier(0.0123) } else { TensorScale::Divisor(81.7) };
        Nvfp4Matrix::new(codes, scales, tensor_scale, rows, cols).expect("valid parts")
    }

    fn matrix(&mut self, format: &str, rows: usize, cols: usize) -> Matrix {
        let data = self.values(rows * cols);
        match format {
            "nvfp4" => Matrix::Nvfp4(self.nvfp4(rows, cols)),
            "bf16" => Matrix::Bf16(Dense { data: data.into_iter().map(bf16::from_f32).collect::<Vec<_>>().into(), rows, cols }),
            "f16" => Matrix::F16(Dense { data: data.into_iter().map(f16::from_f32).collect::<Vec<_>>().into(), rows, cols }),
            _ => Matrix::F32(Dense { data: data.into(), rows, cols }),
        }
    }
}

const FORMATS: [&str; 4] = ["nvfp4", "bf16", "f16", "f32"];
const W4A4: [Activations; 2] = [Activations::Nvfp4 { input_scale: None }, Activations::Nvfp4 { input_scale: Some(0.000_37) }];

fn product(pool: &Pool, table: &Table, weight: &PackedMatrix, activations: Activations, x: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; x.len() / weight.cols() * weight.rows()];
    linear(pool, table, &mut Scratch::default(), weight, activations, x, &mut y);
    y
}

/// Largest magnitude of a row over 2688.
fn row_scale(row: &[f32]) -> f32 {
    row.iter().fold(0.0f32, |a, x| a.max(x.abs())) / 2688.0
}

/// The row after quantization, without its tensor scale, by the scalar table (which has tests of its own).
fn quantized(row: &[f32], input_scale: f32) -> Vec<f64> {
    let mut out = Vec::new();
    for part in row.chunks(TILE) {
        let (mut x, mut tile) = ([0.0; TILE], ActivationTile::ZERO);
        x[..part.len()].copy_from_slice(part);
        (scalar().linear.quantize)(&x, 1.0 / input_scale, &mut tile);
        out.extend((0..part.len()).map(|k| f64::from(tile.codes[k]) / 2.0 * f64::from(tile.scales[k / 16] / ACTIVATION_SCALE)));
    }
    out
}

/// Checks `y` against sums in f64 of `weights` (row-major, with tensor scale) and `x`; `roundings` f32 operations in a row.
fn check(y: &[f32], weights: &[Vec<f32>], x: &[Vec<f64>], roundings: usize, what: &str) {
    let (rows, cols) = (weights.len(), weights[0].len());
    let weights = Array2::from_shape_fn((cols, rows), |(k, r)| f64::from(weights[r][k]));
    let x = Array2::from_shape_fn((x.len(), cols), |(i, k)| x[i][k]);
    let (sums, sizes) = (x.dot(&weights), x.mapv(f64::abs).dot(&weights.mapv(f64::abs)));
    for (((i, r), sum), size) in sums.indexed_iter().zip(&sizes) {
        let (error, bound) = (f64::abs(f64::from(y[i * rows + r]) - sum), roundings as f64 * ROUNDING * size);
        assert!(error <= bound, "{what}: result [{i}, {r}] is {}, expected {sum} ± {bound}", y[i * rows + r]);
    }
}

fn rows_of(matrix: &Matrix) -> Vec<Vec<f32>> {
    let mut row = vec![0.0; matrix.cols()];
    (0..matrix.rows())
        .map(|r| {
            matrix.row_to_f32(r, &mut row);
            row.clone()
        })
        .collect()
}

#[test]
fn products_with_float_activations_are_sums_of_exact_products() {
    let mut random = Random(7);
    let pool = Pool::new(Some(1));
    for format in FORMATS {
        for (rows, cols) in (1..=35).step_by(2).zip((16..=208).step_by(16).cycle()) {
            let cols = if format == "nvfp4" { cols } else { cols - rows % 3 };
            let matrix = random.matrix(format, rows, cols);
            let m = 1 + rows % 5;
            let x = random.values(m * cols);
            let wide: Vec<Vec<f64>> = x.chunks(cols).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
            let weights = rows_of(&matrix);
            let packed = PackedMatrix::pack(matrix);
            // 16 in a block, 3 to join blocks, one per tile, and the tensor scale: in a weight of the oracle and in ours.
            let roundings = 16 + 3 + cols.div_ceil(64) + 4;
            for table in available() {
                let y = product(&pool, table, &packed, Activations::Float, &x);
                check(&y, &weights, &wide, roundings, &format!("{} {format} {rows} × {cols}, m {m}", table.name));
            }
        }
    }
}

#[test]
fn products_of_two_nvfp4_operands_are_sums_of_exact_products() {
    let mut random = Random(8);
    let pool = Pool::new(Some(1));
    for (rows, cols) in (1..=35).zip((16..=208).step_by(16).cycle()) {
        let matrix = random.matrix("nvfp4", rows, cols);
        let m = 1 + rows % 5;
        let x = random.values(m * cols);
        let weights = rows_of(&matrix);
        let packed = PackedMatrix::pack(matrix);
        for activations in W4A4 {
            let Activations::Nvfp4 { input_scale } = activations else { unreachable!() };
            let wide: Vec<Vec<f64>> = x
                .chunks(cols)
                .map(|row| {
                    let scale = input_scale.unwrap_or_else(|| row_scale(row));
                    quantized(row, scale).into_iter().map(|x| x * f64::from(scale)).collect()
                })
                .collect();
            // One per block, alpha (2), its product, and the oracle's weights (2).
            let roundings = cols / 16 + 5;
            for table in available() {
                let y = product(&pool, table, &packed, activations, &x);
                check(&y, &weights, &wide, roundings, &format!("{} {rows} × {cols}, m {m}", table.name));
            }
        }
    }
}

#[test]
fn results_depend_on_neither_table_nor_batch_nor_threads() {
    let mut random = Random(9);
    let pools: Vec<Pool> = (1..=5).map(|threads| Pool::new(Some(threads))).collect();
    for format in FORMATS {
        for (rows, cols) in [(1, 16), (16, 64), (35, 208), (100, 336)] {
            let packed = PackedMatrix::pack(random.matrix(format, rows, cols)).with_bias(Some(random.values(rows)));
            let x = random.values(50 * cols);
            let modes: &[Activations] = if format == "nvfp4" { &[Activations::Float, W4A4[0], W4A4[1]] } else { &[Activations::Float] };
            for &activations in modes {
                let expected = product(&pools[0], scalar(), &packed, activations, &x);
                let bits = |y: &[f32]| y.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                for table in available() {
                    for m in (1..=17).chain([31, 32, 50]) {
                        let pool = &pools[m % 5];
                        let y = product(pool, table, &packed, activations, &x[..m * cols]);
                        assert_eq!(
                            bits(&y),
                            bits(&expected[..m * rows]),
                            "{} {format} {rows} × {cols}, m {m}, {} threads, {activations:?}",
                            table.name,
                            pool.threads()
                        );
                    }
                }
            }
        }
    }
    for (name, reason) in all() {
        if let Some(reason) = reason {
            eprintln!("table {name} skipped: {reason}");
        }
    }
}

#[test]
fn long_prompts_agree_with_single_rows() {
    let mut random = Random(10);
    let (rows, cols, m) = (40, 96, 150);
    let pool = Pool::new(Some(3));
    let x = random.values(m * cols);
    let table = *available().last().expect("a table");
    for format in FORMATS {
        let packed = PackedMatrix::pack(random.matrix(format, rows, cols));
        for activations in [Activations::Float, W4A4[0]] {
            let y = product(&pool, table, &packed, activations, &x);
            for (row, y) in x.chunks(cols).zip(y.chunks(rows)) {
                assert_eq!(product(&pool, table, &packed, activations, row), y, "{format}");
            }
        }
    }
}

#[test]
fn several_products_of_one_input_equal_single_ones() {
    let mut random = Random(11);
    let (cols, m) = (128, 3);
    let pool = Pool::new(Some(2));
    let x = random.values(m * cols);
    let weights = [("nvfp4", 48), ("nvfp4", 17), ("bf16", 5)].map(|(f, rows)| PackedMatrix::pack(random.matrix(f, rows, cols)));
    let modes = [W4A4[1], Activations::Float, W4A4[0]];
    let mut outputs = [48, 17, 5].map(|rows| vec![0.0; m * rows]);
    for table in available() {
        for i in 0..3 {
            let activations: [Activations; 3] = std::array::from_fn(|j| modes[(i + j * (i % 2)) % 3]);
            let [a, b, c] = &mut outputs;
            let mut y = [a, b, c].into_iter();
            let products = std::array::from_fn::<_, 3, _>(|j| Product {
                weight: &weights[j],
                activations: activations[j],
                y: y.next().expect("three outputs"),
            });
            linear_many(&pool, table, &mut Scratch::default(), products, &x);
            drop(y);
            for j in 0..3 {
                assert_eq!(outputs[j], product(&pool, table, &weights[j], activations[j], &x));
            }
        }
    }
}

#[test]
fn packed_matrices_keep_every_weight() {
    let mut random = Random(12);
    for format in FORMATS {
        for (rows, cols) in [(1, 16), (33, 80), (16, 64), (2100, 16)] {
            let matrix = random.matrix(format, rows, cols);
            let weights = rows_of(&matrix);
            let packed = PackedMatrix::pack(matrix);
            assert_eq!((packed.rows(), packed.cols(), packed.format()), (rows, cols, format));
            let mut row = vec![0.0; cols];
            for (r, weights) in weights.iter().enumerate() {
                packed.row_to_f32(r, &mut row);
                assert_eq!(&row, weights, "{format} row {r}");
            }
        }
    }
}

#[test]
fn a_row_with_nan_or_infinity_gives_nan_and_leaves_other_rows_alone() {
    let mut random = Random(13);
    let (rows, cols) = (20, 128);
    let pool = Pool::new(Some(2));
    let packed = PackedMatrix::pack(random.matrix("nvfp4", rows, cols));
    let good = random.values(3 * cols);
    for table in available() {
        for activations in W4A4 {
            let expected = product(&pool, table, &packed, activations, &good);
            for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 77), (f32::NEG_INFINITY, 127)] {
                let mut x = good.clone();
                x[cols + at] = bad;
                let y = product(&pool, table, &packed, activations, &x);
                assert!(y[rows..2 * rows].iter().all(|y| y.is_nan()), "{} {bad}", table.name);
                assert_eq!(y[..rows], expected[..rows]);
                assert_eq!(y[2 * rows..], expected[2 * rows..]);
            }
            let y = product(&pool, table, &packed, activations, &[0.0; 128]);
            assert!(y.iter().all(|&y| y == 0.0));
            let y = product(&pool, table, &packed, activations, &[1e-42; 128]);
            assert!(y.iter().all(|y| y.is_finite()));
        }
    }
}

#[test]
fn every_table_quantizes_activations_alike() {
    let mut random = Random(14);
    let hard = [0.0, -0.0, 1e-42, -1e-38, 1e-20, 0.25, 0.75, -1.25, 1.75, 2.5, 3.5, -5.0, 6.0, 1e30, f32::MAX, f32::NAN, f32::INFINITY];
    let bits = |t: &ActivationTile| (t.codes, t.scales.map(f32::to_bits), t.offsets);
    for round in 0..20_000 {
        let spread = (random.bits() % 60) as i32 - 30;
        let mut x: [f32; TILE] = std::array::from_fn(|_| random.value() * 2f32.powi(spread));
        if round % 3 == 0 {
            for _ in 0..8 {
                x[random.bits() as usize % TILE] = hard[random.bits() as usize % (hard.len() - 2 * usize::from(round % 2 == 0))];
            }
        }
        if round % 7 == 0 {
            x = x.map(|x| (x * 4.0).round() / 4.0); // midpoints
        }
        let divisors = [1.0, 2f32.powi(-spread), 1.0 / (random.value().abs() + 1e-6), 1e30, 1e-30, 1e-40, f32::INFINITY, 0.0, f32::NAN];
        let divisor = divisors[random.bits() as usize % divisors.len()];
        let (mut expected, mut found) = (ActivationTile::ZERO, ActivationTile::ZERO);
        (scalar().linear.quantize)(&x, divisor, &mut expected);
        for table in available() {
            (table.linear.quantize)(&x, divisor, &mut found);
            assert_eq!(bits(&found), bits(&expected), "{} D = {divisor}, x = {x:?}", table.name);
        }
    }
}

#[test]
fn activations_quantize_as_vllm_does() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/nvfp4/vllm_emulation_act.safetensors");
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let floats = |name: &str| -> Vec<f32> {
        let tensor = file.tensor(name).expect("a tensor");
        tensor.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let cases: Vec<String> = file.names().iter().filter_map(|n| n.strip_suffix(".q_f32").map(str::to_owned)).collect();
    assert!(cases.len() >= 8, "{cases:?}");
    for case in cases {
        let input = std::fs::read(path.with_file_name(format!("{case}.safetensors"))).expect("the case's input");
        let input = safetensors::SafeTensors::deserialize(&input).expect("a safetensors file");
        let input = input.tensor("input").expect("an input");
        let x: Vec<f32> = match input.dtype() {
            safetensors::Dtype::BF16 => input.data().as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            _ => input.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        };
        let (codes, scales) = (floats(&format!("{case}.q_f32")), floats(&format!("{case}.scale_f32")));
        let divisor = floats(&format!("{case}.global_scale_inv"))[0];
        for table in available() {
            // The vectors hold the first rows of their case.
            for (t, expected) in codes.chunks_exact(TILE).enumerate() {
                let mut tile = ActivationTile::ZERO;
                (table.linear.quantize)(x[t * TILE..].first_chunk().expect("64 values"), divisor, &mut tile);
                assert_eq!(tile.scales.map(|s| s / ACTIVATION_SCALE), scales[4 * t..4 * t + 4], "{} {case} tile {t}", table.name);
                assert_eq!(tile.codes.map(|c| f32::from(c) / 2.0), expected, "{} {case} tile {t}", table.name);
            }
        }
    }
}
