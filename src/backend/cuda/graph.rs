//! Graphs: a sequence of launches, captured once and replayed as one.

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUgraphEdgeData, CUstreamCaptureMode};

use crate::backend::cuda::device::Context;
use crate::backend::cuda::problem::Problem;
use crate::backend::cuda::stream::Stream;
use crate::error::Result;

/// A captured graph, ready to run.
#[derive(Debug)]
pub struct Graph {
    context: Arc<Context>,
    raw: sys::CUgraphExec,
    shape: Shape,
}

/// What a graph is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Kernels, copies, fills.
    pub nodes: usize,
    /// Dependences between them.
    pub edges: usize,
    /// Dependences through which a kernel may begin before the one ahead has ended.
    pub overlapping_edges: usize,
}

// SAFETY: a handle that the driver accepts from any thread, one at a time: there is no `Sync`.
unsafe impl Send for Graph {}

/// A graph before it was made ready; destroyed when it goes.
struct Captured {
    context: Arc<Context>,
    raw: sys::CUgraph,
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: given out once by `cuStreamEndCapture`.
        unsafe { sys::cuGraphDestroy(self.raw) };
    }
}

impl Captured {
    fn shape(&self) -> Result<Shape> {
        let mut nodes = 0;
        // SAFETY: without a list the driver writes the count alone.
        self.context.check("cuGraphGetNodes", unsafe { sys::cuGraphGetNodes(self.raw, ptr::null_mut(), &raw mut nodes) })?;
        // Asked for without a list of their data, edges that carry some may be refused as a query that loses it. So there is room for more
        // than a chain of launches has, and the driver says how many there were.
        let mut edges = 2 * nodes + 16;
        let (mut from, mut to) = (vec![ptr::null_mut(); edges], vec![ptr::null_mut(); edges]);
        let plain = CUgraphEdgeData { from_port: 0, to_port: 0, type_: 0, reserved: [0; 5] };
        let mut data = vec![plain; edges];
        // SAFETY: each list has room for that many edges.
        let code = unsafe { sys::cuGraphGetEdges_v2(self.raw, from.as_mut_ptr(), to.as_mut_ptr(), data.as_mut_ptr(), &raw mut edges) };
        self.context.check("cuGraphGetEdges", code)?;
        data.truncate(edges);
        let programmatic = sys::CUgraphDependencyType::CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC as u8;
        Ok(Shape { nodes, edges, overlapping_edges: data.iter().filter(|edge| edge.type_ == programmatic).count() })
    }
}

impl Graph {
    /// Captures what `work` puts into `stream`, which runs nothing meanwhile.
    pub fn capture(stream: &Stream, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let context = Arc::clone(stream.context());
        context.bind()?;
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream exists.
        context.check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(stream.raw(), mode) })?;
        let done = work();
        let mut raw = ptr::null_mut();
        // SAFETY: the stream captures; the driver writes one handle, null if the capture failed.
        let ended = context.check("cuStreamEndCapture", unsafe { sys::cuStreamEndCapture(stream.raw(), &raw mut raw) });
        let captured = (!raw.is_null()).then(|| Captured { context: Arc::clone(&context), raw });
        done.and(ended)?;
        let captured = captured.ok_or_else(|| Problem::new("cuStreamEndCapture gave no graph", "").on(context.label()))?;
        let shape = captured.shape().unwrap_or_default(); // what a graph is made of is told to people; nothing depends on it
        let mut ready = ptr::null_mut();
        // SAFETY: the graph exists; the driver writes one handle, destroyed below.
        let code = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut ready, captured.raw, 0) };
        context.check("cuGraphInstantiate", code)?;
        Ok(Self { context, raw: ready, shape })
    }

    /// What it is made of; nothing where the driver would not say.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Moves the graph to the device ahead of its first run.
    pub fn upload(&self, stream: &Stream) -> Result<()> {
        self.context.bind()?;
        // SAFETY: both exist.
        self.context.check("cuGraphUpload", unsafe { sys::cuGraphUpload(self.raw, stream.raw()) })
    }

    /// Puts one run of the graph into `stream`. Does not wait.
    ///
    /// # Safety
    /// What was promised for each captured launch still holds.
    pub unsafe fn launch(&self, stream: &Stream) -> Result<()> {
        self.context.bind()?;
        // SAFETY: both exist; the rest is the caller's promise.
        self.context.check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.raw, stream.raw()) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: instantiated once, destroyed once; the driver keeps it until a run under way has ended.
            unsafe { sys::cuGraphExecDestroy(self.raw) };
        }
    }
}
