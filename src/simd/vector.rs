//! Norms, attention and elementwise loops over f32.

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {}
