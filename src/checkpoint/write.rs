//! Writing checkpoints so that a directory is either whole or not there.
//!
//! Everything goes into a hidden directory next to the destination (`.OUT.incomplete-…`). Weight files get their final
//! size and header first, then tensors at their places in any order, so nothing is held in memory. Only when all is
//! written and flushed do the weight files get their names, `config.json` follows, and the directory takes its own name.
//! A process killed before that leaves a hidden directory without weight files and without `config.json`.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::checkpoint::header::{byte_len, quote};
use crate::checkpoint::shards::{INDEX_FILE, SINGLE_FILE};
use crate::error::{Error, Result};

/// Name, element type and shape of a tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Bytes it takes.
    fn bytes(&self) -> Result<u64> {
        let bytes = byte_len(self.dtype, &self.shape).map(|n| n as u64);
        bytes.ok_or_else(|| Error::config(quote(&self.name), format!("{} {:?} has no size in bytes", self.dtype, self.shape)))
    }
}

/// A checkpoint in the making. Dropped before [`Writer::finish`], it removes what it wrote.
#[derive(Debug)]
pub struct Writer {
    destination: PathBuf,
    work: PathBuf,
    replaced: bool, // an empty directory was there
    files: Vec<File>,
    names: Vec<String>,                         // of the files, when finished
    places: HashMap<String, (usize, u64, u64)>, // tensor → file, offset, bytes; taken out when written
    weight_map: BTreeMap<String, usize>,        // tensor → file
    total: u64,
    finished: bool,
}

impl Writer {
    /// Lays out weight files for `units`: tensors that stay in one file, in the order of the model.
    ///
    /// A file is closed before it would exceed `max_shard_bytes` of tensors; one unit larger than that has a file of its own.
    ///
    /// # Errors
    /// `Io` (already exists) if `destination` is anything but absent or an empty directory.
    pub fn create(destination: &Path, units: Vec<Vec<TensorSpec>>, max_shard_bytes: u64) -> Result<Self> {
        let (work, replaced) = prepare(destination)?;
        let mut writer = Self {
            destination: destination.to_path_buf(),
            work,
            replaced,
            files: Vec::new(),
            names: Vec::new(),
            places: HashMap::new(),
            weight_map: BTreeMap::new(),
            total: 0,
            finished: false,
        };
        let shards = split(units, max_shard_bytes)?;
        let count = shards.len();
        for (number, tensors) in shards.into_iter().enumerate() {
            let name = if count == 1 { SINGLE_FILE.to_owned() } else { format!("model-{:05}-of-{count:05}.safetensors", number + 1) };
            writer.lay_out(number, tensors, &name)?;
            writer.names.push(name);
        }
        Ok(writer)
    }

    /// Writes the header of a weight file and gives it its size.
    fn lay_out(&mut self, number: usize, mut tensors: Vec<TensorSpec>, name: &str) -> Result<()> {
        // The order of the format's own library: wide types first, so that all are aligned; then by name.
        tensors.sort_by(|a, b| b.dtype.cmp(&a.dtype).then_with(|| a.name.cmp(&b.name)));
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut end = 0;
        for tensor in &tensors {
            let begin = end;
            end += tensor.bytes()?;
            let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end]});
            if header.insert(tensor.name.clone(), entry).is_some() || self.weight_map.insert(tensor.name.clone(), number).is_some() {
                return Err(Error::config(quote(&tensor.name), "appears twice among the tensors to be written"));
            }
            self.places.insert(tensor.name.clone(), (number, begin, end - begin));
        }
        let mut json = Value::Object(header).to_string().into_bytes();
        json.resize(json.len().next_multiple_of(8), b' ');
        let base = 8 + json.len() as u64;
        for tensor in &tensors {
            if let Some((_, offset, _)) = self.places.get_mut(&tensor.name) {
                *offset += base;
            }
        }
        self.total += end;
        let path = self.work.join(partial(name));
        let put = || -> std::io::Result<File> {
            let mut file = File::create_new(&path)?;
            file.write_all(&(json.len() as u64).to_le_bytes())?;
            file.write_all(&json)?;
            file.set_len(base + end)?;
            Ok(file)
        };
        self.files.push(put().map_err(|e| Error::io(&path, e))?);
        Ok(())
    }

    /// Bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.total
    }

    /// Writes one whole tensor.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_chunks(name, std::iter::once(bytes))
    }

    /// Writes one tensor given piece by piece.
    pub fn write_chunks<'a>(&mut self, name: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let place = self.places.remove(name);
        let (number, offset, length) =
            place.ok_or_else(|| Error::config(quote(name), "is not among the tensors to be written, or was written before"))?;
        let path = self.work.join(partial(&self.names[number]));
        let file = &mut self.files[number];
        file.seek(SeekFrom::Start(offset)).map_err(|e| Error::io(&path, e))?;
        let mut written = 0;
        for chunk in chunks {
            written += chunk.len() as u64;
            if written <= length {
                file.write_all(chunk).map_err(|e| Error::io(&path, e))?;
            }
        }
        if written == length { Ok(()) } else { Err(Error::config(quote(name), format!("has {written} bytes, its shape takes {length}"))) }
    }

    /// Writes a JSON file other than `config.json`.
    pub fn write_json(&mut self, name: &str, value: &Value) -> Result<()> {
        let path = self.work.join(name);
        put_file(&path, &pretty(value))
    }

    /// Copies a file, or a directory of files, under its own name.
    pub fn copy(&mut self, from: &Path) -> Result<()> {
        let Some(name) = from.file_name() else { return Ok(()) };
        let to = self.work.join(name);
        if !from.is_dir() {
            return copy_file(from, &to);
        }
        fs::create_dir(&to).map_err(|e| Error::io(&to, e))?;
        for entry in fs::read_dir(from).map_err(|e| Error::io(from, e))? {
            let inner = entry.map_err(|e| Error::io(from, e))?.path();
            if let (true, Some(name)) = (inner.is_file(), inner.file_name()) {
                copy_file(&inner, &to.join(name))?;
            }
        }
        sync_directory(&to)
    }

    /// Flushes everything, adds `config.json`, and gives all files and the directory their names.
    pub fn finish(mut self, config: &Value) -> Result<()> {
        if let Some(name) = self.places.keys().min() {
            return Err(Error::config(quote(name), "was announced but never written"));
        }
        if self.names.len() > 1 {
            let weight_map: BTreeMap<_, _> = self.weight_map.iter().map(|(tensor, &file)| (tensor, &self.names[file])).collect();
            let index = json!({"metadata": {"total_size": self.total}, "weight_map": weight_map});
            self.write_json(INDEX_FILE, &index)?;
        }
        for (file, name) in self.files.iter().zip(&self.names) {
            let path = self.work.join(partial(name));
            file.sync_all().map_err(|e| Error::io(&path, e))?;
            fs::rename(&path, self.work.join(name)).map_err(|e| Error::io(&path, e))?;
        }
        self.files.clear();
        put_file(&self.work.join("config.json"), &pretty(config))?;
        sync_directory(&self.work)?;
        fs::rename(&self.work, &self.destination).map_err(|e| Error::io(&self.destination, e))?;
        self.finished = true;
        sync_directory(parent(&self.destination))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            self.files.clear();
            // Nothing sensible is left to do if this fails too; the error that led here is on its way.
            let _ = fs::remove_dir_all(&self.work);
            if self.replaced {
                let _ = fs::create_dir(&self.destination);
            }
        }
    }
}

/// Writes a whole checkpoint of given tensors: for tests, and for models made from a seed.
pub fn write_dense(destination: &Path, config: &Value, tensors: &[(TensorSpec, &[u8])]) -> Result<()> {
    let mut writer = Writer::create(destination, tensors.iter().map(|(spec, _)| vec![spec.clone()]).collect(), u64::MAX)?;
    for (spec, bytes) in tensors {
        writer.write(&spec.name, bytes)?;
    }
    writer.finish(config)
}

/// Name of a weight file until it is whole.
fn partial(name: &str) -> String {
    format!("{name}.partial")
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Checks that a directory can be made at `destination`: there is none or an empty one, and its parent takes new entries.
///
/// # Errors
/// `Io`: already exists, or whatever the operating system answers.
pub fn check_destination(destination: &Path) -> Result<()> {
    vacant(destination)?;
    if fs::metadata(parent(destination)).is_ok() {
        let trial = hidden(destination)?;
        fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial)).map_err(|e| Error::io(&trial, e))?;
    }
    Ok(())
}

/// Whether there is an empty directory at `destination`; an error where there is anything else.
fn vacant(destination: &Path) -> Result<bool> {
    let exists = |what: &str| Err(taken(destination, what));
    match fs::symlink_metadata(destination) {
        // A link could not be replaced by a directory, whether it leads anywhere or not.
        Ok(kind) if kind.is_symlink() => exists("is a symbolic link"),
        Ok(kind) if !kind.is_dir() => exists("is there already and not a directory"),
        Ok(_) if fs::read_dir(destination).map_err(|e| Error::io(destination, e))?.next().is_some() => {
            exists("is there already and not empty")
        }
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) if e.kind() == ErrorKind::NotADirectory => exists("lies below a file"),
        Err(e) => Err(Error::io(destination, e)),
    }
}

/// An error about a destination that cannot become a new directory.
fn taken(destination: &Path, what: &str) -> Error {
    let problem = format!("{what}; give a new directory, or remove this one first");
    Error::io(destination, std::io::Error::new(ErrorKind::AlreadyExists, problem))
}

/// A name of its own for the hidden directory beside `destination`.
fn hidden(destination: &Path) -> Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = destination.file_name().ok_or_else(|| taken(destination, "names no new directory"))?;
    let unique = format!(".{}.incomplete-{}-{}", name.to_string_lossy(), std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Ok(parent(destination).join(unique))
}

/// Checks the destination and makes the hidden directory beside it; also whether an empty directory was removed for it.
fn prepare(destination: &Path) -> Result<(PathBuf, bool)> {
    let (replaced, work) = (vacant(destination)?, hidden(destination)?);
    if replaced {
        // Now rather than after hours of work: a mount point cannot be replaced.
        fs::remove_dir(destination).map_err(|e| Error::io(destination, e))?;
    }
    fs::create_dir_all(parent(destination)).map_err(|e| Error::io(parent(destination), e))?;
    fs::create_dir(&work).map_err(|e| Error::io(&work, e))?;
    Ok((work, replaced))
}

/// Packs units into files, in order.
fn split(units: Vec<Vec<TensorSpec>>, max_shard_bytes: u64) -> Result<Vec<Vec<TensorSpec>>> {
    let mut shards = vec![Vec::new()];
    let mut filled = 0u64;
    for unit in units {
        let bytes = unit.iter().try_fold(0u64, |sum, tensor| tensor.bytes().map(|b| sum.saturating_add(b)))?;
        if filled > 0 && filled.saturating_add(bytes) > max_shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled = filled.saturating_add(bytes);
        shards.last_mut().expect("there is always a file").extend(unit);
    }
    Ok(shards)
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}

fn put_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let put = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    put().map_err(|e| Error::io(path, e))
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let mut source = File::open(from).map_err(|e| Error::io(from, e))?;
    let mut put = || {
        let mut file = File::create_new(to)?;
        std::io::copy(&mut source, &mut file)?;
        file.sync_all()
    };
    put().map_err(|e| Error::io(to, e))
}

/// Flushes the names in a directory, where the system can.
fn sync_directory(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path).and_then(|d| d.sync_all()).map_err(|e| Error::io(path, e))?;
    }
    Ok(())
}
