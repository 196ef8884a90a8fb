//! The small operations between the linear layers. Rows are independent, so they are shared out where there are many.

use crate::backend::Angles;
use crate::parallel::{Columns, Pool};
use crate::simd::Table;

/// Below this many elements a section of the pool costs more than it saves.
const WORTH_SHARING: usize = 1 << 14;

/// Calls `work(first row, rows)` on shares of `out`, which is `[rows, width]`.
fn by_rows(pool: &Pool, out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() < WORTH_SHARING {
        return work(0, out);
    }
    pool.fill(&mut [Columns::new(out, 1)], width, |_, mut share| {
        let first = share.range().start / width;
        work(first, share.row_mut(0));
    });
}

/// `out` and `x` are `[rows, weight.len()]`.
pub fn rms_norm(pool: &Pool, table: &Table, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    by_rows(pool, out, width, |first, out| {
        for (x, out) in x[first * width..].chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            (table.vector.rms_norm)(x, weight, eps, out);
        }
    });
}

/// Norm and rotation of every head; `out` and `x` are `[rows, width]`.
pub fn rotate(pool: &Pool, table: &Table, x: &[f32], width: usize, norm: Option<(&[f32], f32)>, angles: &Angles, out: &mut [f32]) {
    let half = angles.half;
    by_rows(pool, out, width, |first, out| {
        for (row, (x, out)) in x[first * width..].chunks_exact(width).zip(out.chunks_exact_mut(width)).enumerate() {
            let range = (first + row) * half..(first + row + 1) * half;
            let (cos, sin) = (&angles.cos[range.clone()], &angles.sin[range]);
            for (x, out) in x.chunks_exact(2 * half).zip(out.chunks_exact_mut(2 * half)) {
                match norm {
                    Some((weight, eps)) => (table.vector.rms_norm)(x, weight, eps, out),
                    None => out.copy_from_slice(x),
                }
                (table.vector.rope)(out, cos, sin);
            }
        }
    });
}

/// `gate = silu(gate) · up`.
pub fn silu_mul(pool: &Pool, table: &Table, gate: &mut [f32], up: &[f32]) {
    const WIDTH: usize = 256; // shares begin at multiples of it
    by_rows(pool, gate, WIDTH, |first, gate| {
        let up = &up[first * WIDTH..];
        let len = gate.len();
        (table.vector.silu_mul)(gate, &up[..len]);
    });
}
