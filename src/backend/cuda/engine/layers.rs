//! Linear layers on the device, one after another or stacked.
//!
//! A layer is some rows of a [`Store`]. Layers that share their input are put into one store at load, so that a decode step computes them
//! in one launch; alone, each is still its own rows of it. NVFP4 rows are padded to 32 for each layer, so that its units are its own.

use std::sync::Arc;

use half::{bf16, f16};

use crate::backend::cuda::buffer::{Buffer, Element};
use crate::backend::cuda::engine::queue::{Dense, Queue, Split, Tiles};
use crate::backend::cuda::pack::{CodeOrder, UNIT_BYTES, UNIT_COLS, UNIT_ROWS, pack};
use crate::backend::cuda::plan::{self, Form};
use crate::backend::cuda::records::Prepared;
use crate::backend::{Inputs, LinearParts};
use crate::error::{Error, Result};
use crate::tensor::Matrix;

/// Weights of one layer, or of several stacked.
#[derive(Debug)]
pub struct Store {
    data: Data,
    bias: Option<Buffer<f32>>,
    rows: usize, // padding included
    cols: usize,
    slice_units: u32,
}

#[derive(Debug)]
enum Data {
    Nvfp4 { units: Buffer<u8>, scales: Buffer<f32> },
    Bf16(Buffer<bf16>),
    F16(Buffer<f16>),
    F32(Buffer<f32>),
}

/// A linear layer on a device.
#[derive(Clone, Debug)]
pub struct Linear {
    store: Arc<Store>,
    first: usize,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    tensor_scale: f32,
    pre_scale: Option<Arc<Buffer<f32>>>,
    inputs: Inputs,
}

/// What a layer reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feed {
    /// Rows of f32.
    Plain,
    /// An operand in this form, of a tensor scale, after factors at this address.
    Operand(Form, f32, u64),
}

impl Feed {
    /// The form of the operand.
    pub fn form(self) -> Form {
        match self {
            Self::Plain => Form::None,
            Self::Operand(form, ..) => form,
        }
    }

    /// Tokens of a group.
    pub fn group(self) -> u32 {
        match self.form() {
            Form::Bf16x3 => plan::COLUMNS,
            form => plan::COLUMNS / form.terms(),
        }
    }

    /// How a kernel makes it, in groups of `group` tokens.
    pub fn prepared(self, operand: u64, row_scales: u64, group: u32) -> Prepared {
        match self {
            Self::Plain => Prepared::NONE,
            Self::Operand(form, input_scale, pre_scale) => {
                Prepared { operand, row_scales, pre_scale, input_scale, form: form as u32, columns: group * form.terms(), reserved: 0 }
            }
        }
    }
}

/// An operand that is ready, or plain rows.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Address of the operand or of the rows.
    pub x: u64,
    /// Address of the row scales.
    pub scales: u64,
    /// What it is.
    pub form: Form,
}

impl Linear {
    /// Brings a layer to the device.
    pub fn new(queue: &Queue, parts: LinearParts) -> Result<Self> {
        let LinearParts { weight, bias, pre_quant_scale, inputs } = parts;
        let (rows, cols) = (weight.rows(), weight.cols());
        let (device, stream) = (&queue.device, &queue.stream);
        let card = device.card();
        let (mut tensor_scale, mut padded, mut slice_units) = (1.0, rows, 0);
        let data = match &weight {
            Matrix::Nvfp4(matrix) => {
                tensor_scale = matrix.tensor_scale().multiplier();
                padded = rows.next_multiple_of(UNIT_ROWS);
                slice_units = plan::slice_units_of(rows, cols, card);
                let mut scales = vec![tensor_scale; rows];
                scales.resize(padded, 0.0);
                let units = pack(matrix, CodeOrder::of(card.compute_capability));
                Data::Nvfp4 { units: Buffer::from_slice(device, stream, &units)?, scales: Buffer::from_slice(device, stream, &scales)? }
            }
            Matrix::Bf16(matrix) => Data::Bf16(Buffer::from_slice(device, stream, &matrix.data)?),
            Matrix::F16(matrix) => Data::F16(Buffer::from_slice(device, stream, &matrix.data)?),
            Matrix::F32(matrix) => Data::F32(Buffer::from_slice(device, stream, &matrix.data)?),
        };
        drop(weight);
        let bias = bias.map(|mut bias| {
            bias.resize(padded, 0.0);
            Buffer::from_slice(device, stream, &bias)
        });
        let pre_scale = pre_quant_scale.map(|scale| Buffer::from_slice(device, stream, &scale)).transpose()?.map(Arc::new);
        let store = Store { data, bias: bias.transpose()?, rows: padded, cols, slice_units };
        let linear = Self { store: Arc::new(store), first: 0, rows, cols, tensor_scale, pre_scale, inputs };
        if linear.pre_scale.is_some() && linear.feed(false) == Feed::Plain {
            let problem = "input factors (AWQ) before a layer of f32 or f16 weights do not run on CUDA; weights=\"bf16\" or \"nvfp4\" do";
            return Err(Error::config("pre_quant_scale", problem));
        }
        Ok(linear)
    }

    /// A copy of a layer that was not joined.
    pub fn again(&self, queue: &Queue) -> Result<Self> {
        fn copy<T: Element>(queue: &Queue, from: &Buffer<T>) -> Result<Buffer<T>> {
            let mut to = Buffer::new(&queue.device, from.len())?;
            to.copy_from(&queue.stream, 0, from, 0..from.len())?;
            Ok(to)
        }
        let own = &*self.store;
        let data = match &own.data {
            Data::Nvfp4 { units, scales } => Data::Nvfp4 { units: copy(queue, units)?, scales: copy(queue, scales)? },
            Data::Bf16(data) => Data::Bf16(copy(queue, data)?),
            Data::F16(data) => Data::F16(copy(queue, data)?),
            Data::F32(data) => Data::F32(copy(queue, data)?),
        };
        let bias = own.bias.as_ref().map(|bias| copy(queue, bias)).transpose()?;
        let store = Arc::new(Store { data, bias, rows: own.rows, cols: own.cols, slice_units: own.slice_units });
        Ok(Self { store, ..self.clone() })
    }

    /// Puts layers of one input into one store, where format and columns agree; else leaves them as they are.
    pub fn join(queue: &Queue, layers: &mut [&mut Self]) -> Result<()> {
        let (device, stream) = (&queue.device, &queue.stream);
        let alike = |a: &Data, b: &Data| std::mem::discriminant(a) == std::mem::discriminant(b);
        let first = &layers[0];
        let apart = |l: &&mut Self| l.first != 0 || l.cols != first.cols || !alike(&l.store.data, &first.store.data);
        if layers.iter().any(apart) {
            return Ok(());
        }
        let (cols, rows): (usize, usize) = (first.cols, layers.iter().map(|l| l.store.rows).sum());
        let mut bias = vec![0.0; if layers.iter().any(|l| l.store.bias.is_some()) { rows } else { 0 }];
        let mut scales = Vec::new();
        let mut at = 0;
        for layer in layers.iter() {
            if let Some(own) = &layer.store.bias {
                own.download(stream, 0, &mut bias[at..at + own.len()])?;
            }
            scales.resize(at + layer.rows, layer.tensor_scale);
            at += layer.store.rows;
            scales.resize(at, 0.0);
        }
        macro_rules! stack {
            ($kind:ident, $per_row:expr) => {{
                let mut all = Buffer::new(device, rows * $per_row)?;
                let mut at = 0;
                for layer in layers.iter() {
                    if let Data::$kind(own) = &layer.store.data {
                        all.copy_from(stream, at, own, 0..own.len())?;
                        at += own.len();
                    }
                }
                Data::$kind(all)
            }};
        }
        let data = match &layers[0].store.data {
            Data::Nvfp4 { .. } => {
                let mut all = Buffer::new(device, rows / UNIT_ROWS * cols.div_ceil(UNIT_COLS) * UNIT_BYTES)?;
                let mut at = 0;
                for layer in layers.iter() {
                    if let Data::Nvfp4 { units, .. } = &layer.store.data {
                        all.copy_from(stream, at, units, 0..units.len())?;
                        at += units.len();
                    }
                }
                Data::Nvfp4 { units: all, scales: Buffer::from_slice(device, stream, &scales)? }
            }
            Data::Bf16(_) => stack!(Bf16, cols),
            Data::F16(_) => stack!(F16, cols),
            Data::F32(_) => stack!(F32, cols),
        };
        stream.synchronize()?;
        let bias = (!bias.is_empty()).then(|| Buffer::from_slice(device, stream, &bias)).transpose()?;
        let store = Arc::new(Store { data, bias, rows, cols, slice_units: plan::slice_units_of(rows, cols, device.card()) });
        let mut at = 0;
        for layer in layers.iter_mut() {
            let own = layer.store.rows;
            (layer.store, layer.first) = (Arc::clone(&store), at);
            at += own;
        }
        Ok(())
    }

    /// Whether these are all of one store, in its order, and read the same.
    pub fn are_one(layers: &[&Self]) -> bool {
        let store = &layers[0].store;
        let mut at = 0;
        let feed = layers[0].feed(false);
        let in_order = layers.iter().all(|l| {
            let here = Arc::ptr_eq(&l.store, store) && l.first == at && l.feed(false) == feed;
            at += l.padded_rows();
            here
        });
        in_order && at == store.rows
    }

    /// All layers of the store as one.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { first: 0, rows: self.store.rows, ..self.clone() }
    }

    /// Rows up to the next layer of the store.
    pub fn padded_rows(&self) -> usize {
        if matches!(self.store.data, Data::Nvfp4 { .. }) { self.rows.next_multiple_of(UNIT_ROWS) } else { self.rows }
    }

    /// Storage format.
    pub fn format(&self) -> &'static str {
        match self.store.data {
            Data::Nvfp4 { .. } => "nvfp4",
            Data::Bf16(_) => "bf16",
            Data::F16(_) => "f16",
            Data::F32(_) => "f32",
        }
    }

    /// Bytes on the device.
    pub fn nbytes(&self) -> usize {
        let rows = self.padded_rows();
        let weights = match self.store.data {
            Data::Nvfp4 { .. } => rows / UNIT_ROWS * self.cols.div_ceil(UNIT_COLS) * UNIT_BYTES + 4 * rows,
            Data::Bf16(_) | Data::F16(_) => 2 * rows * self.cols,
            Data::F32(_) => 4 * rows * self.cols,
        };
        let scale = self.pre_scale.as_ref().map_or(0, |scale| scale.nbytes());
        weights + if self.store.bias.is_some() { 4 * rows } else { 0 } + scale
    }

    /// Changes how it computes with its input.
    pub fn set_inputs(&mut self, inputs: Inputs) {
        self.inputs = inputs;
    }

    /// What it reads; `exact` computes with float inputs.
    pub fn feed(&self, exact: bool) -> Feed {
        let pre_scale = self.pre_scale.as_ref().map_or(0, |scale| scale.pointer());
        match &self.store.data {
            Data::Nvfp4 { .. } => match self.inputs {
                Inputs::Static(scale) if !exact => Feed::Operand(Form::Static, scale, pre_scale),
                Inputs::Dynamic if !exact => Feed::Operand(Form::Dynamic, 0.0, pre_scale),
                _ => Feed::Operand(Form::Float, 0.0, pre_scale),
            },
            Data::Bf16(_) if self.cols.is_multiple_of(8) => Feed::Operand(Form::Bf16x3, 0.0, pre_scale),
            _ => Feed::Plain,
        }
    }

    /// The factors of the input, if there are any.
    pub fn pre_scale(&self) -> Option<&Buffer<f32>> {
        self.pre_scale.as_deref()
    }

    /// Rows of the weights as f32: `out[i] = weight[ids[i]]`.
    pub fn embed(&self, queue: &Queue, ids: u64, out: u64, rows: usize) -> Result<()> {
        let (format, table) = match &self.store.data {
            Data::Nvfp4 { units, .. } => return queue.embed_nvfp4(units.pointer(), self.tensor_scale, ids, out, rows, self.cols),
            Data::Bf16(data) => (Dense::Bf16, data.pointer()),
            Data::F16(data) => (Dense::F16, data.pointer()),
            Data::F32(data) => (Dense::F32, data.pointer()),
        };
        queue.embed(format, table, ids, out, rows, self.cols)
    }

    fn bias(&self) -> u64 {
        self.store.bias.as_ref().map_or(0, |bias| bias.pointer_at(self.first))
    }

    /// NVFP4 rows as the kernels take them.
    pub fn tiles(&self) -> Option<Tiles> {
        let Data::Nvfp4 { units, scales } = &self.store.data else { return None };
        let group_bytes = self.cols.div_ceil(UNIT_COLS) * UNIT_BYTES;
        Some(Tiles {
            units: units.pointer_at(self.first / UNIT_ROWS * group_bytes),
            scales: scales.pointer_at(self.first),
            bias: self.bias(),
            rows: self.rows,
            cols: self.cols,
            slice_units: self.store.slice_units,
        })
    }

    /// One group of tokens through the layer: `out`, `[tokens, rows]`, `= residual + weight · x`.
    pub fn apply(&self, queue: &Queue, ready: Ready, tokens: u32, residual: u64, out: u64, split: Split) -> Result<()> {
        let (format, weights) = match &self.store.data {
            Data::Nvfp4 { .. } => {
                let Some(tiles) = self.tiles() else { return Ok(()) };
                let terms = ready.form.terms();
                return queue.nvfp4_linear(&tiles, ready.x, ready.scales, tokens * terms, terms, residual, out, split);
            }
            Data::Bf16(data) => (Dense::Bf16, data.pointer_at(self.first * self.cols)),
            Data::F16(data) => (Dense::F16, data.pointer_at(self.first * self.cols)),
            Data::F32(data) => (Dense::F32, data.pointer_at(self.first * self.cols)),
        };
        if ready.form == Form::Bf16x3 {
            return queue.bf16_linear(weights, self.bias(), ready.x, residual, out, self.rows, self.cols, tokens);
        }
        queue.dense_linear(format, weights, self.bias(), ready.x, residual, out, [self.rows, self.cols, tokens as usize])
    }

    /// f32 elements of partial sums and words of arrivals that one group needs.
    pub fn split_room(&self, queue: &Queue) -> [usize; 2] {
        if self.tiles().is_none() {
            return [0, 0];
        }
        let planned = plan::nvfp4_linear_split(self.rows, self.cols, plan::COLUMNS, self.store.slice_units, queue.device.card());
        [planned.partials, planned.arrivals]
    }
}
