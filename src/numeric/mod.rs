//! The two small floats of NVFP4, scalar and exact: [`e2m1`] (4 bits, elements) and [`e4m3`] (8 bits, block scales).

pub mod e2m1;
pub mod e4m3;
