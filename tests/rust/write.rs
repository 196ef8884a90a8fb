//! Writing checkpoints: layout, shards, and what is left when something goes wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use reset::checkpoint::Checkpoint;
use reset::checkpoint::write::{TensorSpec, Writer, write_dense};
use reset::tensor::Matrix;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

/// A directory that is removed when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("reset-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names in the directory, hidden ones too.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

fn small(destination: &Path) {
    let scalar = 2.5f32.to_le_bytes();
    let codes = [1u8, 2, 3];
    let tensors = [
        (spec("codes", Dtype::U8, &[3]), &codes[..]),
        (spec("scalar", Dtype::F32, &[]), &scalar[..]),
        (spec("m", Dtype::BF16, &[1, 2]), &[0, 0x3f, 0x80, 0x40][..]),
    ];
    write_dense(destination, &json!({"model_type": "none"}), &tensors).unwrap();
}

#[test]
fn what_is_written_is_read_back_by_us_and_by_the_library() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    small(&out);
    let ours = Checkpoint::open(&out).unwrap();
    assert_eq!(ours.bytes("codes").unwrap(), [1, 2, 3]);
    assert!(matches!(ours.matrix("m", 1, 2).unwrap(), Matrix::Bf16(m) if m.data[0].to_f32() == 0.5 && m.data[1].to_f32() == 4.0));
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), 3);
    assert_eq!(theirs.tensor("scalar").unwrap().data(), 2.5f32.to_le_bytes());
    assert_eq!(theirs.tensor("scalar").unwrap().shape(), &[] as &[usize]);
    assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0, "data is aligned");
    assert_eq!(scratch.names(), ["out"]);
}

#[test]
fn shards_are_split_between_units_and_indexed() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let unit = |i: usize| vec![spec(&format!("layers.{i}.a"), Dtype::U8, &[6]), spec(&format!("layers.{i}.b"), Dtype::U8, &[4])];
    let mut writer = Writer::create(&out, (0..5).map(unit).collect(), 20).unwrap();
    assert_eq!(writer.total_bytes(), 50);
    for i in (0..5u8).rev() {
        writer.write_chunks(&format!("layers.{i}.a"), [&[i; 2][..], &[i; 4][..]]).unwrap();
        writer.write(&format!("layers.{i}.b"), &[i; 4]).unwrap();
    }
    writer.finish(&json!({})).unwrap();
    let checkpoint = Checkpoint::open(&out).unwrap();
    let files: Vec<_> = checkpoint.files().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"]);
    for i in 0..5u8 {
        assert_eq!(checkpoint.bytes(&format!("layers.{i}.a")).unwrap(), [i; 6]);
    }
    let index: serde_json::Value = serde_json::from_slice(&fs::read(out.join("model.safetensors.index.json")).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], 50);
    assert_eq!(index["weight_map"]["layers.1.b"], "model-00001-of-00003.safetensors");
}

#[test]
fn a_dropped_writer_leaves_nothing_and_an_unfinished_one_cannot_finish() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let writer = Writer::create(&out, vec![vec![spec("a", Dtype::U8, &[1])]], u64::MAX).unwrap();
    let work = scratch.names();
    assert!(work[0].starts_with(".out.incomplete-"), "{work:?}");
    assert_eq!(fs::read_dir(scratch.path(&work[0])).unwrap().count(), 1);
    assert!(scratch.path(&work[0]).join("model.safetensors.partial").exists(), "no file that looks whole");
    assert!(Checkpoint::open(scratch.path(&work[0])).is_err());
    drop(writer);
    assert!(scratch.names().is_empty());
    let writer = Writer::create(&out, vec![vec![spec("a", Dtype::U8, &[1])]], u64::MAX).unwrap();
    assert!(writer.finish(&json!({})).unwrap_err().to_string().contains("`a`: was announced but never written"));
    assert!(scratch.names().is_empty());
}

#[test]
fn wrong_sizes_unknown_names_and_repetition_are_errors() {
    let scratch = Scratch::new();
    let mut writer = Writer::create(&scratch.path("out"), vec![vec![spec("a", Dtype::U8, &[2]), spec("b", Dtype::U8, &[1])]], 9).unwrap();
    assert!(writer.write("c", &[]).unwrap_err().to_string().contains("not among"));
    assert!(writer.write("a", &[1, 2, 3]).unwrap_err().to_string().contains("3 bytes, its shape takes 2"));
    writer.write("b", &[1]).unwrap();
    assert!(writer.write("b", &[1]).unwrap_err().to_string().contains("written before"));
    let twice = vec![vec![spec("a", Dtype::U8, &[2])], vec![spec("a", Dtype::U8, &[2])]];
    assert!(Writer::create(&scratch.path("two"), twice, 1).unwrap_err().to_string().contains("appears twice"));
}

#[test]
fn only_a_new_or_empty_directory_is_a_destination() {
    let scratch = Scratch::new();
    let out = scratch.path("deep/down/out");
    fs::create_dir_all(&out).unwrap();
    small(&out); // empty: replaced
    let error = Writer::create(&out, vec![], 1).unwrap_err();
    assert!(error.to_string().contains("already and not empty"), "{error}");
    assert!(matches!(error, reset::Error::Io { ref source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists));
    #[cfg(unix)]
    {
        fs::create_dir(scratch.path("real")).unwrap();
        std::os::unix::fs::symlink("real", scratch.path("link")).unwrap();
        assert!(Writer::create(&scratch.path("link"), vec![], 1).is_err(), "a link cannot be replaced: said at once");
    }
    let file = scratch.path("file");
    fs::write(&file, "x").unwrap();
    assert!(Writer::create(&file, vec![], 1).unwrap_err().to_string().contains("not a directory"));
    small(&scratch.path("new/parents/made"));
}
