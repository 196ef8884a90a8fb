//! One battery for the codec's inner loops: every available table against the scalar one, bit for bit.

use half::{bf16, f16};
use proptest::prelude::*;
use reset::numeric::{e2m1, e4m3};
use reset::quantize::{self, Dialect, Dtype, Method, Options, Source, Target};
use reset::simd::codec::{Factor, Recipe};
use reset::simd::{self, Table};

/// The tables to compare with the scalar one; says which cannot run here.
fn tables() -> Vec<&'static Table> {
    for (name, missing) in simd::all() {
        if let Some(reason) = missing {
            println!("skipped: {name} {reason}");
        }
    }
    simd::available().into_iter().skip(1).collect()
}

/// Numbers below `n`, the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    /// Uniform in [−1, 1).
    fn unit(&mut self) -> f32 {
        self.below(1 << 24) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Blocks of many kinds: smooth, spread over the whole range of f32, on the grid, at midpoints and one ulp beside them,
/// sparse, zero, subnormal, saturated.
fn inputs() -> Vec<f32> {
    let random = &mut Random(7);
    let mut x = Vec::new();
    let mut block = |make: &mut dyn FnMut(&mut Random) -> f32, random: &mut Random| x.extend((0..16).map(|_| make(random)));
    for round in 0..40 {
        block(&mut |r| r.unit(), random);
        block(&mut |r| r.unit() * 2f32.powi(r.below(24) as i32 - 20), random);
        block(&mut |r| r.unit() * 2f32.powi(r.below(250) as i32 - 149), random);
        block(&mut |r| e2m1::decode(r.below(16) as u8) * e4m3::decode(r.below(127) as u8), random);
        let scale = e4m3::decode(random.below(127) as u8);
        let midpoint = move |r: &mut Random| {
            let t = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0][r.below(8) as usize] * scale;
            let t = f32::from_bits(t.to_bits().saturating_add(r.below(3) as u32).saturating_sub(1));
            if r.below(2) == 0 { t } else { -t }
        };
        block(&mut midpoint.clone(), random);
        block(&mut |r| if r.below(5) == 0 { r.unit() } else { -0.0 }, random);
        block(&mut |_| if round % 2 == 0 { 0.0 } else { -0.0 }, random);
        block(&mut |r| f32::from_bits(r.below(1 << 20) as u32 | (r.below(2) as u32) << 31), random);
        block(&mut |r| if r.below(3) == 0 { f32::MAX } else { f32::MIN * r.unit().abs() }, random);
        block(&mut |r| r.below(13) as f32 - 6.0, random);
        let lone = random.below(16);
        let mut i = 0;
        block(
            &mut |r| {
                i += 1;
                if i == lone { 100.0 * r.unit() } else { 0.01 * r.unit() }
            },
            random,
        );
    }
    x
}

fn recipes() -> Vec<Recipe> {
    let mut recipes = Vec::new();
    for scale in [1.0, 1.0 / 2688.0, 3e-5, 0.37, 1e-38, f32::from_bits(1), f32::from_bits(300), 1e30, 1.2e35] {
        recipes.extend([
            Recipe::ModelOpt { tensor_scale: scale },
            Recipe::FourOverSix { absmax: scale * 1536.0 },
            Recipe::Sweep { tensor_scale: scale },
        ]);
    }
    for divisor in [1.0, 2688.0, 41216.0, 0.0421, 3e38, 1e-33] {
        recipes.push(Recipe::CompressedTensors { divisor });
    }
    recipes
}

#[test]
fn every_table_quantizes_as_the_scalar_one() {
    let x = inputs();
    let f16s: Vec<f16> = x.iter().map(|&x| f16::from_f32(x.clamp(-65504.0, 65504.0))).collect();
    let bf16s: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x.clamp(-3e38, 3e38))).collect();
    let blocks = x.len() / 16;
    let run = |table: &Table, recipe| {
        let mut out = [(); 3].map(|()| (vec![1; blocks * 8], vec![1; blocks]));
        let [f32s, halves, brains] = &mut out;
        (table.codec.quantize_f32)(&x, recipe, &mut f32s.0, &mut f32s.1);
        (table.codec.quantize_f16)(&f16s, recipe, &mut halves.0, &mut halves.1);
        (table.codec.quantize_bf16)(&bf16s, recipe, &mut brains.0, &mut brains.1);
        out
    };
    for recipe in recipes() {
        let expected = run(simd::scalar(), recipe);
        for table in tables() {
            for (dtype, (found, expected)) in run(table, recipe).iter().zip(&expected).enumerate() {
                for b in 0..blocks {
                    let (f, e) = ((found.1[b], &found.0[b * 8..][..8]), (expected.1[b], &expected.0[b * 8..][..8]));
                    assert_eq!(f, e, "{} {recipe:?} dtype {dtype} block {b}: {:?}", table.name, &x[b * 16..][..16]);
                }
            }
        }
    }
}

#[test]
fn every_length_and_offset_is_the_same_as_one_long_run() {
    let x = inputs();
    let recipes = [
        Recipe::ModelOpt { tensor_scale: 0.01 },
        Recipe::CompressedTensors { divisor: 50.0 },
        Recipe::FourOverSix { absmax: 5.0 },
        Recipe::Sweep { tensor_scale: 0.01 },
    ];
    for table in simd::available() {
        for recipe in recipes {
            for blocks in 0..=35 {
                for offset in [0, 1, 3, 16] {
                    let x = &x[offset..offset + blocks * 16];
                    let (mut codes, mut scales) = (vec![0; blocks * 8], vec![0; blocks]);
                    (table.codec.quantize_f32)(x, recipe, &mut codes, &mut scales);
                    for b in 0..blocks {
                        let (mut code, mut scale) = ([0; 8], [0]);
                        (simd::scalar().codec.quantize_f32)(&x[b * 16..][..16], recipe, &mut code, &mut scale);
                        assert_eq!((&codes[b * 8..][..8], scales[b]), (&code[..], scale[0]), "{} {recipe:?} {blocks} {offset}", table.name);
                    }
                }
            }
        }
    }
}

#[test]
fn every_table_dequantizes_all_codes_under_all_scales() {
    // 256 scales, each over two blocks that hold all sixteen codes in both nibbles.
    let scales: Vec<u8> = (0..=255).filter(|s| s & 0x7F != 0x7F).flat_map(|s| [s, s]).collect();
    let codes: Vec<u8> = (0..scales.len())
        .flat_map(|b| (0..8_u8).map(move |j| if b % 2 == 0 { (j * 2) | ((j * 2 + 1) << 4) } else { (j * 2 + 1) | ((j * 2) << 4) }))
        .collect();
    for factor in [
        Factor::Multiply(1.0),
        Factor::Multiply(0.000_744_047_6),
        Factor::Multiply(1e-40),
        Factor::Multiply(1.2e35),
        Factor::Divide(41216.0),
        Factor::Divide(3e38),
        Factor::Divide(0.3),
    ] {
        let n = scales.len() * 16;
        let mut wide = vec![0.0_f32; n];
        (simd::scalar().codec.dequantize_f32)(&codes, &scales, factor, &mut wide);
        for (i, &y) in wide.iter().enumerate() {
            let code = codes[i / 2] >> (i % 2 * 4) & 15;
            let s = e4m3::decode(scales[i / 16]);
            let s = match factor {
                Factor::Multiply(m) => s * m,
                Factor::Divide(d) => s / d,
            };
            assert_eq!(y.to_bits(), (e2m1::decode(code) * s).to_bits());
        }
        for table in simd::available() {
            for blocks in [0, 1, 2, 15, 16, 17, 35, scales.len()] {
                let n = blocks * 16;
                let (codes, scales) = (&codes[..blocks * 8], &scales[..blocks]);
                let (mut f32s, mut f16s, mut bf16s) = (vec![9.0_f32; n], vec![f16::ONE; n], vec![bf16::ONE; n]);
                (table.codec.dequantize_f32)(codes, scales, factor, &mut f32s);
                (table.codec.dequantize_f16)(codes, scales, factor, &mut f16s);
                (table.codec.dequantize_bf16)(codes, scales, factor, &mut bf16s);
                for i in 0..n {
                    assert_eq!(f32s[i].to_bits(), wide[i].to_bits(), "{} {factor:?} {i}", table.name);
                    assert_eq!(f16s[i].to_bits(), f16::from_f32(wide[i]).to_bits(), "{} {factor:?} {i}", table.name);
                    assert_eq!(bf16s[i].to_bits(), bf16::from_f32(wide[i]).to_bits(), "{} {factor:?} {i}", table.name);
                }
            }
        }
    }
}

#[test]
fn every_table_finds_the_largest_magnitude_wherever_it_stands() {
    for table in simd::available() {
        for n in 0..=140 {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
            for at in 0..n {
                for special in [-7.5_f32, f32::NEG_INFINITY, f32::NAN] {
                    let mut x = x.clone();
                    x[at] = special;
                    let f16s: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
                    let bf16s: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
                    let ops = &table.codec;
                    for found in [(ops.absmax_f32)(&x), (ops.absmax_f16)(&f16s), (ops.absmax_bf16)(&bf16s)] {
                        let same = if special.is_nan() { found.is_nan() } else { found == special.abs() };
                        assert!(same, "{}: {found} for {special} at {at} of {n}", table.name);
                    }
                }
            }
        }
        let ops = &table.codec;
        assert_eq!([(ops.absmax_f32)(&[]), (ops.absmax_f16)(&[]), (ops.absmax_bf16)(&[])], [0.0; 3]);
    }
}

proptest! {
    #[test]
    fn tables_agree_on_any_bits(
        bits in prop::collection::vec(any::<u32>().prop_filter("finite", |b| f32::from_bits(*b).is_finite()), 16..=48),
        scale in 0_u32..0x7F00_0000,
        kind in 0..4,
    ) {
        let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let x = &x[..x.len() / 16 * 16];
        let scale = f32::from_bits(scale.max(1)).min(1.2e35);
        let recipe = match kind {
            0 => Recipe::ModelOpt { tensor_scale: scale },
            1 => Recipe::CompressedTensors { divisor: scale.max(1e-30) },
            2 => Recipe::FourOverSix { absmax: scale.max(1e-42) },
            _ => Recipe::Sweep { tensor_scale: scale },
        };
        let run = |table: &Table| {
            let (mut codes, mut scales) = (vec![0; x.len() / 2], vec![0; x.len() / 16]);
            (table.codec.quantize_f32)(x, recipe, &mut codes, &mut scales);
            (codes, scales)
        };
        for table in tables() {
            prop_assert_eq!(run(table), run(simd::scalar()));
        }
    }
}

#[test]
fn a_shared_scale_equals_the_scale_of_the_whole() {
    let x = inputs();
    let x: Vec<f32> = x.iter().map(|x| x.clamp(-100.0, 100.0)).collect();
    let (first, second) = x.split_at(x.len() / 32 * 16);
    for dialect in [Dialect::ModelOpt, Dialect::CompressedTensors] {
        for method in [Method::Nearest, Method::FourOverSix, Method::Sweep] {
            let options = Options { method, dialect, tensor_scale: None };
            let whole = quantize::quantize(Source::F32(&x), x.len() / 16, 16, &options).unwrap();
            let absmax = quantize::absmax(Source::F32(first)).unwrap().max(quantize::absmax(Source::F32(second)).unwrap());
            let scale = quantize::tensor_scale(absmax, method, dialect, Dtype::F32);
            assert_eq!(whole.tensor_scale(), scale);
            let options = Options { tensor_scale: Some(scale), ..options };
            let mut parts = (Vec::new(), Vec::new());
            for part in [first, second] {
                let part = quantize::quantize(Source::F32(part), part.len() / 16, 16, &options).unwrap();
                parts.0.extend_from_slice(part.codes());
                parts.1.extend_from_slice(part.block_scales());
            }
            assert_eq!((parts.0.as_slice(), parts.1.as_slice()), (whole.codes(), whole.block_scales()), "{dialect:?} {method:?}");
        }
    }
}

#[test]
fn more_search_errs_no_more() {
    let random = &mut Random(3);
    let x: Vec<f32> = (0..64 * 256).map(|_| random.unit() + random.unit() + random.unit()).collect();
    let error = |method| {
        let options = Options { method, ..Options::default() };
        let matrix = quantize::quantize(Source::F32(&x), 64, 256, &options).unwrap();
        let mut back = vec![0.0; x.len()];
        quantize::dequantize_into(&matrix, Target::F32(&mut back)).unwrap();
        x.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>()
    };
    let [nearest, four_over_six, sweep] = [Method::Nearest, Method::FourOverSix, Method::Sweep].map(error);
    assert!(sweep < four_over_six && four_over_six < nearest, "{sweep} {four_over_six} {nearest}");
}

/// A tensor of a safetensors file of this folder's kind: little-endian f32, or bytes.
fn golden(name: &str) -> Vec<u8> {
    let bytes = include_bytes!("../golden/nvfp4/tables.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(bytes).expect("a golden file");
    tensors.tensor(name).expect("a golden tensor").data().to_vec()
}

#[test]
fn small_floats_equal_those_of_torch_and_ml_dtypes() {
    let floats = |name| golden(name).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>();
    for (bits, value) in floats("e4m3_decode_f32").into_iter().enumerate() {
        let ours = e4m3::decode(bits as u8);
        assert!(ours.to_bits() == value.to_bits() || (ours.is_nan() && value.is_nan()), "{bits}");
    }
    for (code, value) in floats("e2m1_decode_f32").into_iter().enumerate() {
        assert_eq!(e2m1::decode(code as u8), value);
    }
    for (x, bits) in floats("e4m3_probe_f32").into_iter().zip(golden("e4m3_encode_torch_u8")) {
        // NaN has no sign here.
        assert_eq!(e4m3::encode(x), if x.is_nan() { 0x7F } else { bits }, "{x}");
    }
    let probes = floats("e2m1_probe_f32");
    for ((x, modelopt), ml_dtypes) in probes.into_iter().zip(golden("e2m1_code_modelopt")).zip(golden("e2m1_code_mldtypes")) {
        if x.is_finite() {
            assert_eq!((e2m1::encode(x), e2m1::encode(x) & 7), (ml_dtypes, modelopt & 7), "{x}");
        }
    }
}
