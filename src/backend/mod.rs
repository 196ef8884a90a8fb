//! Where a model runs.
