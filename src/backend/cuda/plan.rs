//! Shapes to launches: the contracts that the headers of `kernels/*.cu` state, as pure functions.
//!
//! All kernels here keep the rules of overlap (they wait before they touch what others read or write), so a caller may turn it on with
//! [`Plan::with_overlap`].
//!
//! A plan says how a kernel is launched and how much scratch memory it wants. What decides the order of a sum (the columns, the split of
//! K) never depends on the number of tokens: a sequence's tokens must not depend on its batch.

use crate::backend::cuda::device::Card;
use crate::backend::cuda::launch::Plan;
use crate::backend::cuda::pack::UNIT_COLS;
use crate::backend::cuda::pack::UNIT_ROWS;

/// Operand columns of a tensor-core step: tokens, or tokens times terms.
pub const COLUMNS: u32 = 8;
/// Shared memory that the system takes of each block.
const RESERVED: u32 = 1024;

/// The launch of `nvfp4_linear` for one group of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearPlan {
    /// Blocks `[workers, slices, 1]`.
    pub launch: Plan,
    /// 128-column units of the whole K.
    pub units: u32,
    /// Units of one slice; the last one may hold fewer.
    pub slice_units: u32,
    /// f32 elements of `partials`.
    pub partials: usize,
    /// u32 elements of `arrivals`, zeros before the first launch.
    pub arrivals: usize,
}

const WARPS: u32 = 8;
/// Most units of a slice: activations of eight columns then take 96 KiB of shared memory.
const MOST_SLICE_UNITS: u32 = 48;

/// Stages of each warp's ring (`STAGES` in `nvfp4_linear.cu`).
pub fn stages((major, minor): (i32, i32)) -> u32 {
    if (major, minor) == (8, 0) || (9..12).contains(&major) { 4 } else { 3 }
}

fn linear_shared_bytes(card: &Card, slice_units: u32, columns: u32) -> u32 {
    stages(card.compute_capability) * WARPS * 2304 + slice_units * 256 * columns + 16 + 1152 * columns
}

/// How K is split: the units of a slice. Looks at the shape and the card, not at the tokens.
fn slice_units(groups: u32, units: u32, card: &Card) -> u32 {
    let fits = |slice: u32| linear_shared_bytes(card, slice, COLUMNS) <= card.shared_per_block;
    let most = (1..=MOST_SLICE_UNITS).rev().find(|&n| fits(n)).unwrap_or(1);
    // Work is spread over two blocks a multiprocessor. A multiprocessor with the most of it decides the time, in units; each round of a
    // block costs its reductions besides.
    let slots = 2 * card.multiprocessors;
    let time = |slices: u32| {
        let slice = units.div_ceil(slices);
        let workers = groups.min((slots / slices).max(1));
        let blocks = (workers * slices).div_ceil(card.multiprocessors);
        let overhead = if slices == 1 { 2 } else { 3 };
        blocks * groups.div_ceil(workers) * (slice + overhead)
    };
    let fewest = units.div_ceil(most);
    let allowed = fewest..=fewest.max(units / WARPS).min(fewest + 7).min(slots.max(fewest));
    let slices = allowed.min_by_key(|&slices| (time(slices), slices)).unwrap_or(fewest);
    units.div_ceil(slices)
}

/// The units of a slice for a layer, or a stack of layers, of `rows` × `cols`.
pub fn slice_units_of(rows: usize, cols: usize, card: &Card) -> u32 {
    slice_units(rows.div_ceil(UNIT_ROWS) as u32, cols.div_ceil(UNIT_COLS) as u32, card)
}

/// `nvfp4_linear` for a layer of `rows` × `cols` (neither zero) and a group of `columns` operand columns (1 to 8).
pub fn nvfp4_linear(rows: usize, cols: usize, columns: u32, card: &Card) -> LinearPlan {
    nvfp4_linear_split(rows, cols, columns, slice_units_of(rows, cols, card), card)
}

/// The same for some rows of a stack, which keep the stack's split of K: alone or together, a row's sum has one order.
pub fn nvfp4_linear_split(rows: usize, cols: usize, columns: u32, slice_units: u32, card: &Card) -> LinearPlan {
    let groups = rows.div_ceil(UNIT_ROWS) as u32;
    let units = cols.div_ceil(UNIT_COLS) as u32;
    let slices = units.div_ceil(slice_units);
    let shared_bytes = linear_shared_bytes(card, slice_units, columns);
    let resident = if 2 * (shared_bytes + RESERVED) <= card.shared_per_multiprocessor { 2 } else { 1 };
    let workers = groups.min((resident * card.multiprocessors / slices).max(1));
    let (partials, arrivals) = if slices == 1 { (0, 0) } else { ((slices * groups * columns * 32) as usize, groups as usize) };
    LinearPlan {
        launch: Plan { blocks: [workers, slices, 1], threads: 32 * WARPS, shared_bytes, overlap: card.overlaps() },
        units,
        slice_units,
        partials,
        arrivals,
    }
}

/// Groups of tokens that pass through a linear layer one after another: first token and number. `terms` operand columns a token.
pub fn groups(tokens: u32, terms: u32) -> impl Iterator<Item = (u32, u32)> {
    let most = (COLUMNS / terms).max(1);
    (0..tokens).step_by(most as usize).map(move |first| (first, most.min(tokens - first)))
}

/// Form of a linear layer's operand (`Form` in `common.cuh`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Form {
    /// No operand is made.
    None = 0,
    /// NVFP4 with a given tensor scale.
    Static = 1,
    /// NVFP4 with the row's own scale.
    Dynamic = 2,
    /// Two f16 terms.
    Float = 3,
    /// Three bf16 terms, for `bf16_linear`.
    Bf16x3 = 4,
}

impl Form {
    /// Operand columns of a token.
    pub fn terms(self) -> u32 {
        match self {
            Self::Float => 2,
            Self::Bf16x3 => 3,
            _ => 1,
        }
    }

    /// Whether the whole row has to be seen before its first element can be written.
    pub fn needs_row(self) -> bool {
        matches!(self, Self::Dynamic | Self::Float)
    }

    /// 16-byte pieces of the operand of `tokens` tokens of `cols` columns, in groups of `columns` operand columns.
    pub fn pieces(self, tokens: u32, cols: usize, columns: u32) -> usize {
        let groups = tokens.div_ceil(columns / self.terms());
        groups as usize * cols.div_ceil(UNIT_COLS) * 16 * columns as usize
    }
}

/// Largest head that attention and rotation take.
pub const MOST_HEAD_DIM: usize = 256;
/// Positions of a page, and of a split of attention.
pub const PAGE: usize = 128;
/// Query heads of one key and value head, at most.
pub const MOST_GROUP: usize = 16;
/// Ids of a chunk of logits.
pub const CHUNK: usize = 2048;

fn plain(blocks: [usize; 3], threads: u32) -> Plan {
    Plan { blocks: blocks.map(|n| n as u32), threads, shared_bytes: 0, overlap: false }
}

/// `nvfp4_prefill` for a layer of `rows` rows and `tokens` tokens.
pub fn nvfp4_prefill(rows: usize, tokens: u32, form: Form) -> Plan {
    let groups = tokens.div_ceil(COLUMNS / form.terms());
    Plan { blocks: [rows.div_ceil(256) as u32, groups.div_ceil(8), 1], threads: 256, shared_bytes: 4 * 16_384, overlap: false }
}

/// The entry of `bf16_linear.cu` for a group of `tokens` (1 to 8) tokens, and its launch; `cols` has to be a multiple of 8.
pub fn bf16_linear(rows: usize, tokens: u32) -> (&'static str, Plan) {
    let columns = tokens * Form::Bf16x3.terms();
    let entry = ["bf16_linear_1", "bf16_linear_2", "bf16_linear_3"][(columns.div_ceil(COLUMNS) as usize).clamp(1, 3) - 1];
    (entry, Plan { blocks: [rows.div_ceil(32) as u32, 1, 1], threads: 256, shared_bytes: 8 * columns * 36 * 4, overlap: false })
}

/// The entries of `dense_linear.cu`.
pub fn dense_linear(rows: usize, tokens: usize) -> Plan {
    plain([rows.div_ceil(8), tokens, 1], 256)
}

/// `rms_norm`.
pub fn rms_norm(rows: usize) -> Plan {
    plain([1, rows, 1], 512)
}

/// The entries of `embed.cu`.
pub fn embed(rows: usize) -> Plan {
    plain([1, rows, 1], 256)
}

/// `activations` and `swiglu`: a block for every 1024 columns where rows need not be seen whole.
pub fn by_row(rows: usize, cols: usize, form: Form) -> Plan {
    let parts = if form.needs_row() { 1 } else { cols.div_ceil(1024).max(1) };
    plain([parts, rows, 1], 256)
}

/// `add`.
pub fn add(len: usize) -> Plan {
    plain([len.div_ceil(1024).max(1), 1, 1], 256)
}

/// `rotate_store`.
pub fn rotate_store(rows: usize, heads: usize, kv_heads: usize) -> Plan {
    plain([heads + 2 * kv_heads, rows, 1], 32)
}

/// Splits of attention up to and including `position`; a graph's grid takes those of the largest position it is to serve.
pub fn splits(position: usize) -> usize {
    position / PAGE + 1
}

/// The `attend_*` entries for rows of at most `splits` splits.
pub fn attend(rows: usize, heads: usize, kv_heads: usize, head_dim: usize, splits: usize) -> Plan {
    let group = heads / kv_heads;
    let padded = head_dim.next_multiple_of(16);
    let shared = 64 * (padded + 4) * 4 + group * (padded + 64 + 4) * 4;
    Plan { shared_bytes: shared as u32, ..plain([splits, kv_heads, rows], 128) }
}

/// f32 elements of attention's `partials`.
pub fn attend_partials(rows: usize, heads: usize, head_dim: usize, splits: usize) -> usize {
    rows * heads * splits * (head_dim + 2)
}

/// `merge`.
pub fn merge(rows: usize, heads: usize) -> Plan {
    plain([heads, rows, 1], 256)
}

/// `logits_decide`, `narrow` and `draw`.
pub fn over_vocabulary(rows: usize, vocab: usize) -> Plan {
    plain([vocab.div_ceil(CHUNK), rows, 1], 256)
}

#[cfg(test)]
pub(in crate::backend::cuda) mod tests {
    use super::*;

    /// Multiprocessors and shared memory of real cards: A100, RTX 3090, RTX 4090, H200, B200, RTX 5090.
    pub fn cards() -> [Card; 6] {
        [
            card((8, 0), 108, 163, 164),
            card((8, 6), 82, 99, 100),
            card((8, 9), 128, 99, 100),
            card((9, 0), 132, 227, 228),
            card((10, 0), 148, 227, 228),
            card((12, 0), 170, 99, 100),
        ]
    }

    fn card(compute_capability: (i32, i32), multiprocessors: u32, block_kib: u32, multiprocessor_kib: u32) -> Card {
        Card {
            name: String::new(),
            compute_capability,
            multiprocessors,
            shared_per_block: block_kib * 1024,
            shared_per_multiprocessor: multiprocessor_kib * 1024,
            l2_bytes: 0,
            memory_bytes: 0,
        }
    }

    /// Linear layers of Qwen3-8B, 14B, 32B and DeepSeek-R1-Distill-Qwen-7B, 14B, then odd ones.
    pub const SHAPES: [(usize, usize); 28] = [
        (6144, 4096),
        (4096, 4096),
        (24576, 4096),
        (4096, 12288),
        (7168, 5120),
        (5120, 5120),
        (34816, 5120),
        (5120, 17408),
        (10240, 5120),
        (5120, 8192),
        (51200, 5120),
        (5120, 25600),
        (4608, 3584),
        (3584, 3584),
        (37888, 3584),
        (3584, 18944),
        (27648, 5120),
        (5120, 13824),
        (151_936, 4096),
        (151_936, 5120),
        (152_064, 3584),
        (1, 16),
        (33, 144),
        (7, 100_000),
        (1024, 1024),
        (32, 131_072),
        (300, 2048),
        (131_072, 16),
    ];

    #[test]
    fn every_linear_layer_fits_every_card() {
        for card in cards() {
            for (rows, cols) in SHAPES {
                for columns in 1..=COLUMNS {
                    let plan = nvfp4_linear(rows, cols, columns, &card);
                    let [workers, slices, _] = plan.launch.blocks;
                    assert!(plan.launch.shared_bytes <= card.shared_per_block, "{card:?} {rows} × {cols}: {plan:?}");
                    assert!(workers >= 1 && workers as usize <= rows.div_ceil(32) && slices < 65_536);
                    // Every slice has a unit, and together they have all.
                    assert!((slices - 1) * plan.slice_units < plan.units && slices * plan.slice_units >= plan.units, "{plan:?}");
                    assert!(plan.slice_units >= 8 || slices == 1 || plan.launch.shared_bytes > 64 << 10 || plan.units < 16, "{plan:?}");
                }
            }
        }
    }

    /// Another depth in the kernel than in the plan would put its operand where the ring is.
    #[test]
    fn the_kernel_has_the_plans_stages() {
        let text = include_str!("../../../kernels/nvfp4_linear.cu");
        let rule =
            "#if (__CUDA_ARCH__ > 800 && __CUDA_ARCH__ < 900) || __CUDA_ARCH__ >= 1200\n#define STAGES 3\n#else\n#define STAGES 4\n#endif";
        assert!(text.contains(rule));
        for (major, minor) in [(8, 0), (8, 6), (8, 7), (8, 8), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1)] {
            let arch = 100 * major + 10 * minor;
            assert_eq!(stages((major, minor)), if (arch > 800 && arch < 900) || arch >= 1200 { 3 } else { 4 }, "{major}.{minor}");
        }
    }

    #[test]
    fn the_split_of_k_does_not_depend_on_the_tokens() {
        for card in cards() {
            for (rows, cols) in SHAPES {
                let one = nvfp4_linear(rows, cols, 1, &card);
                for columns in 2..=COLUMNS {
                    let more = nvfp4_linear(rows, cols, columns, &card);
                    assert_eq!((more.slice_units, more.launch.blocks[1]), (one.slice_units, one.launch.blocks[1]));
                }
            }
        }
    }

    #[test]
    fn multiprocessors_share_the_models_layers_evenly() {
        for card in cards() {
            for (rows, cols) in &SHAPES[..18] {
                let plan = nvfp4_linear(*rows, *cols, 1, &card);
                let [workers, slices, _] = plan.launch.blocks;
                let groups = (*rows as u32).div_ceil(32);
                let most = (workers * slices).div_ceil(card.multiprocessors) * groups.div_ceil(workers) * plan.slice_units;
                let even = f64::from(groups * plan.units) / f64::from(card.multiprocessors);
                assert!(f64::from(most) <= 1.5 * even, "{card:?} {rows} × {cols}: {plan:?} {most} {even}");
            }
        }
    }

    #[test]
    fn attention_fits_every_card_for_every_head() {
        for card in cards() {
            for head_dim in (16..=MOST_HEAD_DIM).step_by(16) {
                for group in 1..=MOST_GROUP {
                    let launch = attend(8, 8 * group, 8, head_dim, splits(131_071));
                    assert!(launch.shared_bytes <= card.shared_per_block, "{head_dim} {group} {launch:?}");
                    assert_eq!(launch.blocks, [1024, 8, 8]);
                }
            }
        }
        assert_eq!([splits(0), splits(127), splits(128)], [1, 1, 2]);
    }

    #[test]
    fn prefill_and_dense_layers_cover_rows_and_tokens() {
        for (rows, _) in SHAPES {
            for tokens in [1, 7, 8, 9, 63, 64, 65, 512] {
                for form in [Form::Static, Form::Float] {
                    let [x, y, _] = nvfp4_prefill(rows, tokens, form).blocks;
                    assert!(x as usize * 256 >= rows && (x as usize - 1) * 256 < rows);
                    let per_block = 64 / form.terms();
                    assert!(y * per_block >= tokens && (y - 1) * per_block < tokens);
                }
            }
            for tokens in 1..=8 {
                let (entry, launch) = bf16_linear(rows, tokens);
                assert!(launch.blocks[0] as usize * 32 >= rows && launch.shared_bytes <= 48 << 10);
                let tiles: u32 = entry.strip_prefix("bf16_linear_").and_then(|n| n.parse().ok()).expect("a number of tiles");
                assert!(tiles * COLUMNS >= 3 * tokens && (tiles - 1) * COLUMNS < 3 * tokens);
            }
        }
    }

    #[test]
    fn rows_are_not_split_where_they_have_to_be_seen_whole() {
        for (form, parts) in [(Form::Static, 12), (Form::Dynamic, 1), (Form::Float, 1), (Form::Bf16x3, 12), (Form::None, 12)] {
            assert_eq!(by_row(3, 12_288, form).blocks, [parts, 3, 1]);
        }
        assert_eq!(Form::Float.pieces(5, 144, 8), 2 * 2 * 16 * 8);
    }

    #[test]
    fn groups_cover_all_tokens_in_order() {
        for (tokens, terms) in [(0, 1), (1, 1), (8, 1), (9, 1), (16, 1), (1, 2), (5, 2), (8, 2), (3, 3)] {
            let found: Vec<_> = groups(tokens, terms).collect();
            assert_eq!(found.iter().map(|g| g.1).sum::<u32>(), tokens);
            assert!(found.iter().all(|&(_, n)| n >= 1 && n * terms <= COLUMNS));
            assert!(found.windows(2).all(|w| w[0].0 + w[0].1 == w[1].0));
        }
    }
}
