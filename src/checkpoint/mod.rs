//! Checkpoints on disk: safetensors shards, configuration, dialects.
//!
//! ```text
//! directory → shards (mapped, headers checked) → tensors by name → weights of a layer, as its tensors say
//! ```
//!
//! [`Checkpoint::open`] treats every byte as hostile: after it returns, each name leads to a slice of the right length.
//! Values are judged where they are read: a layer with a missing, non-finite or non-positive scale fails there, by name.
//! Files must not be truncated while a checkpoint is open (they are mapped, not read).

pub(crate) mod config;
pub mod dialect;
mod header;
mod inspect;
mod inventory;
mod layer;
pub(crate) mod pattern;
mod shards;
pub mod write;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::tensor::{Dense, Matrix};

pub use config::{ActivationScheme, KvCacheScheme, Quantization};
pub use header::TensorInfo;
use header::quote;
pub use inspect::inspect;
pub use inventory::LinearLayer;
pub use layer::{KvScales, LinearWeights};
use shards::{Shard, storage};

/// The elements of a float tensor.
#[derive(Clone, Debug)]
pub enum Elements<'a> {
    /// 32-bit floats.
    F32(Cow<'a, [f32]>),
    /// IEEE half precision.
    F16(Cow<'a, [f16]>),
    /// bfloat16.
    Bf16(Cow<'a, [bf16]>),
}

/// An open checkpoint directory.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: Value,
    generation_config: Option<Value>,
    quantization: Option<Quantization>,
    shards: Vec<Arc<Shard>>,
    tensors: BTreeMap<String, (usize, TensorInfo)>, // name → shard, place
}

impl Checkpoint {
    /// Opens a checkpoint: a directory with `config.json` and safetensors files, or a file in such a directory.
    ///
    /// # Errors
    /// `Io` where a file is missing or unreadable, `Checkpoint` where one is damaged, `Format` where the quantization
    /// it announces is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if path.extension().is_some_and(|e| e == "gguf") {
            return Err(config::unsupported(path, "GGUF"));
        }
        let dir = if kind.is_dir() { path } else { path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")) };
        let config_path = dir.join("config.json");
        let config = shards::read_json(&config_path)?.ok_or_else(|| {
            let problem = "not found; a checkpoint is a directory with config.json and safetensors files, as `save_pretrained` writes it";
            Error::io(&config_path, std::io::Error::new(ErrorKind::NotFound, problem))
        })?;
        if !config.is_object() {
            return Err(Error::checkpoint(&config_path, "holds no JSON object"));
        }
        let hf_quant_config = shards::read_json(&dir.join("hf_quant_config.json"))?;
        let quantization = config::quantization(dir, &config, hf_quant_config.as_ref())?;
        let generation_config = shards::read_json(&dir.join("generation_config.json"))?;
        let shards: Vec<_> = shards::open_all(dir)?.into_iter().map(Arc::new).collect();
        let mut tensors = BTreeMap::new();
        for (number, shard) in shards.iter().enumerate() {
            for (name, info) in &shard.header().tensors {
                if let Some((first, _)) = tensors.insert(name.clone(), (number, info.clone())) {
                    let other: &Path = Shard::path(&shards[first]);
                    return Err(Error::checkpoint(shard.path(), format!("tensor {} is also in {}", quote(name), other.display())));
                }
            }
        }
        let mut checkpoint = Self { dir: dir.to_path_buf(), config, generation_config, quantization, shards, tensors };
        if checkpoint.quantization.is_none() {
            checkpoint.quantization = checkpoint.unannounced_quantization();
        }
        Ok(checkpoint)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `config.json`, an object.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// `generation_config.json`, where there is one.
    pub fn generation_config(&self) -> Option<&Value> {
        self.generation_config.as_ref()
    }

    /// The quantization that `config.json` or `hf_quant_config.json` announces; where both are silent, what the tensors show.
    pub fn quantization(&self) -> Option<&Quantization> {
        self.quantization.as_ref()
    }

    /// The key and value cache the checkpoint prescribes.
    pub fn kv_cache_scheme(&self) -> Option<KvCacheScheme> {
        self.quantization.as_ref().and_then(|q| q.kv_cache)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape of the tensor `name`, outermost extent first.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|(_, info)| info.shape.as_slice())
    }

    /// Element type of the tensor `name`.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        self.tensors.get(name).map(|(_, info)| info.dtype)
    }

    /// Bytes of the tensor `name`, straight from the mapped file: little endian, row-major, of any alignment.
    pub fn bytes(&self, name: &str) -> Result<&[u8]> {
        let (shard, info) = self.find(name)?;
        Ok(self.shards[shard].bytes(info.begin, info.end))
    }

    /// Lets the operating system drop the pages of the tensor `name` from memory, after it has been read for good.
    pub fn forget(&self, name: &str) {
        if let Ok((shard, info)) = self.find(name) {
            self.shards[shard].forget(info.begin, info.end);
        }
    }

    /// The weight files and their lengths in bytes.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.shards.iter().map(|shard| (shard.path(), shard.len()))
    }

    /// All elements of a float tensor in their own type, straight from the mapped file where it is aligned.
    pub fn elements(&self, name: &str) -> Result<Elements<'_>> {
        fn cow<const N: usize, T: shards::Plain>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Cow<'_, [T]> {
            shards::in_place(bytes).map_or_else(|| Cow::Owned(read(bytes, from)), Cow::Borrowed)
        }
        let bytes = self.bytes(name)?;
        match self.find(name)?.1.dtype {
            Dtype::F32 => Ok(Elements::F32(cow(bytes, f32::from_le_bytes))),
            Dtype::F16 => Ok(Elements::F16(cow(bytes, f16::from_le_bytes))),
            Dtype::BF16 => Ok(Elements::Bf16(cow(bytes, bf16::from_le_bytes))),
            other => Err(self.unsupported_dtype(name, other)),
        }
    }

    /// A vector of `len` floats (norm weights, biases), widened to f32.
    pub fn vector_f32(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.expect_shape(name, &[len])?;
        self.floats(name)
    }

    /// A dense matrix, `[rows, cols]`, in its own element type, read where it lies in the mapped file if it is aligned there.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        self.expect_shape(name, &[rows, cols])?;
        self.dense_rows(name, 0, rows, cols)
    }

    /// Rows `begin..begin + rows` of a dense matrix whose shape is known to hold them.
    pub fn dense_rows(&self, name: &str, begin: usize, rows: usize, cols: usize) -> Result<Matrix> {
        let (shard, info) = self.find(name)?;
        let shard = &self.shards[shard];
        let row_bytes = header::byte_len(info.dtype, &[cols]).ok_or_else(|| self.problem(name, "has rows that do not fill whole bytes"))?;
        let bytes = begin.checked_mul(row_bytes).zip(begin.checked_add(rows).and_then(|end| end.checked_mul(row_bytes)));
        let (from, to) = bytes
            .filter(|&(_, to)| to <= info.end - info.begin)
            .ok_or_else(|| self.problem(name, format!("{:?} has no rows {begin}..{} of {cols}", info.shape, begin.saturating_add(rows))))?;
        let (begin, end) = (info.begin + from, info.begin + to);
        match info.dtype {
            Dtype::F32 => Ok(Matrix::F32(Dense { data: storage(shard, begin, end, |b| read(b, f32::from_le_bytes)), rows, cols })),
            Dtype::F16 => Ok(Matrix::F16(Dense { data: storage(shard, begin, end, |b| read(b, f16::from_le_bytes)), rows, cols })),
            Dtype::BF16 => Ok(Matrix::Bf16(Dense { data: storage(shard, begin, end, |b| read(b, bf16::from_le_bytes)), rows, cols })),
            other => Err(self.unsupported_dtype(name, other)),
        }
    }

    /// All elements of a float tensor, widened to f32.
    fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let bytes = self.bytes(name)?;
        match self.find(name)?.1.dtype {
            Dtype::F32 => Ok(read(bytes, f32::from_le_bytes)),
            Dtype::F16 => Ok(read(bytes, |b| f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => Ok(read(bytes, |b| bf16::from_le_bytes(b).to_f32())),
            other => Err(self.problem(name, format!("is {other}; floats (F32, F16 or BF16) are needed here"))),
        }
    }

    fn find(&self, name: &str) -> Result<(usize, &TensorInfo)> {
        self.tensors.get(name).map(|(shard, info)| (*shard, info)).ok_or_else(|| self.missing(name))
    }

    fn expect_shape(&self, name: &str, expected: &[usize]) -> Result<()> {
        let (_, info) = self.find(name)?;
        if info.shape == expected {
            return Ok(());
        }
        Err(self.problem(name, format!("has shape {:?}, the model needs {expected:?}", info.shape)))
    }

    /// An error about the tensor `name`, placed in its file.
    fn problem(&self, name: &str, problem: impl std::fmt::Display) -> Error {
        let path = self.tensors.get(name).map_or(self.dir.as_path(), |(shard, _)| self.shards[*shard].path());
        Error::checkpoint(path, format!("tensor {} {problem}", quote(name)))
    }

    fn missing(&self, name: &str) -> Error {
        Error::checkpoint(&self.dir, format!("tensor {} is missing; the checkpoint holds {} others", quote(name), self.tensors.len()))
    }

    /// Names the family of a weight that is neither a float nor NVFP4.
    fn unsupported_dtype(&self, name: &str, dtype: Dtype) -> Error {
        let family = match dtype {
            Dtype::F8_E4M3 | Dtype::F8_E5M2 | Dtype::F8_E4M3FNUZ | Dtype::F8_E5M2FNUZ => "FP8",
            Dtype::I8 => "INT8",
            Dtype::U32 => "MLX (packed U32)",
            Dtype::I32 => "packed integer",
            _ => return config::unsupported(&self.dir, format!("{dtype} as the type of {}", quote(name))),
        };
        config::unsupported(&self.dir, format!("{family} storage ({} is {dtype})", quote(name)))
    }
}

/// Little-endian elements of `N` bytes.
fn read<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|&b| from(b)).collect()
}
