//! A warp on the CPU: the kernels' arithmetic where there is no device.
//!
//! Layouts and index arithmetic are where kernels go wrong, and none of it needs a card to be checked. Registers are arrays of 32 lanes,
//! the instructions a kernel uses are functions on them, and the kernels' loops are written down again line by line, with the same names.
//! What this does not show: timing, races between warps, and the rounding inside a tensor core (here exact products, summed in f64 and
//! rounded to f32 once a step).

#![allow(clippy::needless_range_loop, clippy::too_many_arguments, reason = "lanes and registers are indexed as in the kernels")]

mod activations;
mod linear;
mod others;
mod warp;
