//! Throughput of the codec.
fn main() {}
