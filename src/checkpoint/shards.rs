//! Finding the weight files of a directory, and mapping them into memory.
//!
//! Which files count, in the order transformers asks: `model.safetensors`; else the files that
//! `model.safetensors.index.json` names; else every `*.safetensors`. The index is not trusted: its file names must be
//! plain names inside the directory, and what it promises must be there.

#![expect(unsafe_code, reason = "mapping a file is unsafe: another process may change it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde_json::Value;

use crate::checkpoint::header::{Header, quote};
use crate::error::{Error, Result};
use crate::tensor::{Lender, Storage};

/// The name of a weight file that stands alone.
pub const SINGLE_FILE: &str = "model.safetensors";
/// The name of the table of weight files.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// Longest JSON file read, in bytes.
const MAX_JSON_BYTES: u64 = 100_000_000;

/// One mapped weight file with a checked header.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl Shard {
    /// Maps `path` and checks its header.
    ///
    /// The file must not be truncated while it is mapped: the operating system ends a process that reads a vanished page.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let length = file.metadata().map_err(|e| Error::io(path, e))?.len();
        if length < 8 {
            return Err(Error::checkpoint(
                path,
                format!("{length} bytes are too few for a safetensors file; the download may be incomplete"),
            ));
        }
        // SAFETY: the map is read-only and private to this process. Its bytes are only ever read as plain bytes, for
        // which every value is valid; that nobody truncates the file is the condition stated above.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        let header = Header::parse(&map).map_err(|problem| Error::checkpoint(path, problem))?;
        Ok(Self { path: path.to_path_buf(), map, header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// The bytes `begin..end`, which come from this shard's header and are therefore inside.
    pub fn bytes(&self, begin: usize, end: usize) -> &[u8] {
        &self.map[begin..end]
    }

    /// Lets the operating system drop pages of `begin..end` that are in memory (they are read again when touched).
    #[cfg(unix)]
    pub fn forget(&self, begin: usize, end: usize) {
        // SAFETY: the map is a read-only file mapping, so dropped pages come back from the file with the same bytes.
        // A refusal costs only the hint.
        let _ = unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, begin, end - begin) };
    }

    /// Elsewhere pages are dropped without being asked.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "the same signature everywhere")]
    pub fn forget(&self, _begin: usize, _end: usize) {}
}

/// Element types for which every bit pattern is a value.
pub trait Plain: Copy + Send + Sync + 'static {}
impl Plain for f32 {}
impl Plain for half::f16 {}
impl Plain for half::bf16 {}

/// Elements that lie in a mapped file, which stays mapped as long as they are held.
struct Mapped<T> {
    shard: Arc<Shard>,
    begin: usize,
    end: usize,
    elements: PhantomData<T>,
}

impl<T: Plain> Lender<T> for Mapped<T> {
    fn elements(&self) -> &[T] {
        in_place(self.shard.bytes(self.begin, self.end)).unwrap_or_else(|| unreachable!("looked at when it was made"))
    }

    fn forget(&self, range: Range<usize>) {
        let byte = |element: usize| (self.begin + element * size_of::<T>()).min(self.end);
        self.shard.forget(byte(range.start), byte(range.end));
    }
}

/// The bytes `begin..end` of a shard as elements: where they lie if [`in_place`] can read them so, else through `read`.
pub fn storage<T: Plain>(shard: &Arc<Shard>, begin: usize, end: usize, read: impl Fn(&[u8]) -> Vec<T>) -> Storage<T> {
    let bytes = shard.bytes(begin, end);
    match in_place::<T>(bytes) {
        Some(_) => Storage::Shared(Arc::new(Mapped { shard: Arc::clone(shard), begin, end, elements: PhantomData })),
        None => Storage::Owned(read(bytes)),
    }
}

/// `bytes` as elements where they lie, if they lie aligned and in this machine's byte order.
pub fn in_place<T: Plain>(bytes: &[u8]) -> Option<&[T]> {
    // SAFETY: every bit pattern is a value of a `Plain` type, and `align_to` keeps what is misaligned out of the middle.
    let (before, elements, after) = unsafe { bytes.align_to::<T>() };
    (cfg!(target_endian = "little") && before.is_empty() && after.is_empty()).then_some(elements)
}

/// Opens a file that must be a regular one: opening a pipe would wait for ever, a device may do anything.
fn open_regular(path: &Path) -> Result<File> {
    let kind = fs::metadata(path).map_err(|e| Error::io(path, e))?.file_type();
    if !kind.is_file() {
        return Err(Error::checkpoint(path, "is not a regular file"));
    }
    File::open(path).map_err(|e| Error::io(path, e))
}

/// Reads a JSON file; `None` where there is none.
pub fn read_json(path: &Path) -> Result<Option<Value>> {
    let mut file = match open_regular(path) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = Vec::new();
    file.by_ref().take(MAX_JSON_BYTES + 1).read_to_end(&mut text).map_err(|e| Error::io(path, e))?;
    if text.len() as u64 > MAX_JSON_BYTES {
        return Err(Error::checkpoint(path, format!("is larger than {MAX_JSON_BYTES} bytes, which no configuration is")));
    }
    serde_json::from_slice(&text).map(Some).map_err(|e| Error::checkpoint(path, format!("is not JSON: {e}")))
}

/// Opens the weight files of `dir`, checked against the index where that decides.
pub fn open_all(dir: &Path) -> Result<Vec<Shard>> {
    if dir.join(SINGLE_FILE).exists() {
        return Ok(vec![Shard::open(&dir.join(SINGLE_FILE))?]);
    }
    let index_path = dir.join(INDEX_FILE);
    if let Some(index) = read_json(&index_path)? {
        let promised = weight_map(&index).map_err(|problem| Error::checkpoint(&index_path, problem))?;
        let mut shards = Vec::new();
        for (file, tensors) in promised {
            let path = dir.join(file);
            if !path.exists() {
                return Err(Error::checkpoint(
                    &index_path,
                    format!("names {}, which is not in the directory; download it, or the whole checkpoint again", quote(file)),
                ));
            }
            let shard = Shard::open(&path)?;
            if let Some(missing) = tensors.iter().find(|&&name| !shard.header.tensors.contains_key(name)) {
                return Err(Error::checkpoint(&index_path, format!("places tensor {} in {}, which lacks it", quote(missing), quote(file))));
            }
            shards.push(shard);
        }
        return Ok(shards);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(no_weights(dir));
    }
    paths.iter().map(|path| Shard::open(path)).collect()
}

/// `weight_map` of an index, by file; file names checked.
fn weight_map(index: &Value) -> Result<BTreeMap<&str, BTreeSet<&str>>, String> {
    let map = index.get("weight_map").and_then(Value::as_object).ok_or("has no object `weight_map`")?;
    let mut files = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (name, file) in map {
        let file = file.as_str().ok_or_else(|| format!("`weight_map` gives tensor {} no file name", quote(name)))?;
        let plain = !file.is_empty() && !file.contains(['/', '\\', ':', '\0']) && file != "." && file != "..";
        if !plain || Path::new(file).extension().is_none_or(|e| e != "safetensors") {
            return Err(format!("`weight_map` places tensor {} in {}, which is not a plain *.safetensors name", quote(name), quote(file)));
        }
        files.entry(file).or_default().insert(name);
    }
    if files.is_empty() { Err("names no weight file".to_owned()) } else { Ok(files) }
}

/// Says what is there instead of safetensors.
fn no_weights(dir: &Path) -> Error {
    let other = |extensions: &[&str]| {
        fs::read_dir(dir).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|e| e.path().extension().is_some_and(|x| extensions.iter().any(|&y| x == y))))
        })
    };
    let supported = || "weights are read from safetensors files; convert them (transformers: `save_pretrained`)".to_owned();
    if other(&["bin", "pt", "pth"]) {
        return Error::Format { path: dir.to_path_buf(), layout: "a PyTorch pickle".to_owned(), supported: supported() };
    }
    if other(&["gguf"]) {
        return Error::Format { path: dir.to_path_buf(), layout: "GGUF".to_owned(), supported: supported() };
    }
    let problem = format!("holds no weights: neither {SINGLE_FILE} nor {INDEX_FILE} nor another *.safetensors");
    Error::io(dir, std::io::Error::new(ErrorKind::NotFound, problem))
}
