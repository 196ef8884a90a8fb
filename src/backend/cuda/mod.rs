//! NVIDIA devices: everything between a kernel's text and its run, without a toolkit.
//!
//! ```text
//! kernels/*.cu ── sources ──▶ compile ──▶ cubin ──▶ module ──▶ function ──▶ launch ──▶ graph
//!  (in the crate)          (nvrtc, cache)      │                   ▲           │
//!                                              ▼                   │           ▼
//! libcuda ── driver ── device (card, context) ─┴── buffer, ring ───┴──── stream, event
//! ```
//!
//! The driver (`libcuda`) and the run-time compiler (`libnvrtc`) are looked for while the program runs, so one build serves machines with
//! and without them. [`driver::Driver::load`] is the one gate to the driver: it asks whether the library, every entry used here, a version
//! that is new enough and an initialization that succeeds are there, because a call through cudarc panics where an entry is missing. A
//! [`device::Device`] holds its proof, and everything else hangs on a device: nothing here is a static.
//!
//! Kernels are compiled for the card at hand into machine code (a *cubin*), never into PTX: a driver older than the compiler refuses the
//! compiler's PTX, and machine code is what the cache on disk can keep.
//!
//! | file | holds |
//! |---|---|
//! | `driver`, `problem` | presence, version, errors in words |
//! | `probe` | what this machine has, for `reset-nvfp4 doctor` |
//! | `sources`, `nvrtc`, `cache`, `compile` | kernel text to cubin |
//! | `device`, `stream`, `buffer`, `ring` | a card, its queues, its memory, the way back to the host |
//! | `module`, `launch`, `graph` | cubin to function, shapes to grids, a step as one object |
//! | `plan`, `pack`, `records` | the kernels' launches by shape, weights in the order they read, structures they share with the host |
//! | `emulator` (tests) | a warp on the CPU: the kernels' arithmetic without a card |
//! | `runtime` | a device with its compiled kernels |
//! | `engine` | models: the backend, a decode step as a graph |
//! | `check` | what the card and driver really do: copies, graph nodes, the ring |

pub mod buffer;
pub mod cache;
pub mod check;
pub mod compile;
pub mod device;
pub mod driver;
#[cfg(test)]
mod emulator;
pub mod engine;
pub mod graph;
pub mod launch;
pub mod module;
pub mod nvrtc;
pub mod pack;
pub mod plan;
pub mod probe;
pub mod problem;
pub mod records;
pub mod ring;
pub mod runtime;
pub mod sources;
pub mod stream;
