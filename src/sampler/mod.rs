//! Filters and the draw.
