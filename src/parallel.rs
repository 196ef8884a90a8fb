//! The decode thread pool: spin, then park; static split.
