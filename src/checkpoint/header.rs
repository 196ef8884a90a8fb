//! The header of a safetensors file, read as if an attacker had written it.
//!
//! ```text
//! 8 bytes   header length n, little endian
//! n bytes   JSON: {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, …, "__metadata__": {…}}
//! the rest  tensor bytes; offsets count from here
//! ```
//!
//! A header is accepted only if every byte of the rest belongs to exactly one tensor and every tensor has the bytes its
//! shape needs. Then a slice of the file can be handed out without another check.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};

/// Longest header accepted, in bytes: the limit of the format's own library.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Place and type of one tensor in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// First byte, counted from the start of the file.
    pub begin: usize,
    /// One past the last byte.
    pub end: usize,
}

/// How the files begin that git leaves where the large ones are to be fetched.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// A header that passed all checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Tensors by name.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// Free text of the writer (`{"format": "pt"}`).
    pub metadata: BTreeMap<String, String>,
}

/// `name` as it may appear in a message: quoted, control characters escaped, never longer than a line.
pub fn quote(name: &str) -> String {
    const LONGEST: usize = 160;
    let shown: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() { format!("`{shown}…`") } else { format!("`{shown}`") }
}

/// Bytes that `shape` elements of `dtype` take; `None` on overflow or where they do not fill whole bytes.
pub fn byte_len(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let elements = shape.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent))?;
    let bits = elements.checked_mul(dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

impl Header {
    /// Reads and checks the header of a whole file.
    ///
    /// # Errors
    /// One sentence saying what is wrong and, where there is one, in which tensor.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        if file.starts_with(LFS_POINTER) {
            return Err("holds a Git LFS pointer in place of the weights; fetch them with `git lfs pull`, or download the file".to_owned());
        }
        let Some((length, rest)) = file.split_first_chunk::<8>() else {
            return Err(format!("{} bytes are too few for a safetensors file; the download may be incomplete", file.len()));
        };
        let length = u64::from_le_bytes(*length);
        if length > MAX_HEADER_BYTES {
            return Err(format!(
                "its first 8 bytes give a header of {length} bytes, more than the {MAX_HEADER_BYTES} of the format; this is not a safetensors file"
            ));
        }
        let length = length as usize; // at most 100 MB
        let Some((json, data)) = rest.split_at_checked(length) else {
            return Err(format!(
                "the header should have {length} bytes, the file ends after {}; the download may be incomplete",
                rest.len()
            ));
        };
        let raw: RawHeader = serde_json::from_slice(json).map_err(|e| format!("the header is not what safetensors writes: {e}"))?;
        let tensors = place(raw.tensors, 8 + length, data.len())?;
        Ok(Self { tensors, metadata: raw.metadata })
    }
}

/// Checks that the tensors tile `data_len` bytes exactly, and makes their offsets absolute.
fn place(mut entries: Vec<(String, RawTensor)>, data_begin: usize, data_len: usize) -> Result<BTreeMap<String, TensorInfo>, String> {
    entries.sort_by_key(|(_, t)| t.data_offsets);
    let mut tensors = BTreeMap::new();
    let mut covered = 0;
    for (name, raw) in entries {
        let dtype =
            Dtype::deserialize(IntoDeserializer::<de::value::Error>::into_deserializer(raw.dtype.as_str()) as StrDeserializer<'_, _>)
                .map_err(|_| format!("tensor {}: dtype {} is unknown", quote(&name), quote(&raw.dtype)))?;
        let (begin, end) = raw.data_offsets;
        if begin != covered || end < begin {
            return Err(format!(
                "tensor {}: data_offsets [{begin}, {end}] do not continue at byte {covered}, where the tensor before ends",
                quote(&name)
            ));
        }
        if end > data_len {
            return Err(format!(
                "tensor {}: data_offsets [{begin}, {end}] reach past the {data_len} bytes of data; the download may be incomplete",
                quote(&name)
            ));
        }
        if byte_len(dtype, &raw.shape) != Some(end - begin) {
            return Err(format!(
                "tensor {}: {dtype} {:?} does not fill the {} bytes of its data_offsets",
                quote(&name),
                raw.shape,
                end - begin
            ));
        }
        covered = end;
        let info = TensorInfo { dtype, shape: raw.shape, begin: data_begin + begin, end: data_begin + end };
        if let Some((name, _)) = tensors.insert(name.clone(), info).map(|old| (name, old)) {
            return Err(format!("tensor {} appears twice in the header", quote(&name)));
        }
    }
    if covered != data_len {
        return Err(format!("{} bytes after the last tensor belong to none", data_len - covered));
    }
    Ok(tensors)
}

#[derive(Deserialize)]
struct RawTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The JSON object with its order and its duplicates, which a map would hide.
struct RawHeader {
    tensors: Vec<(String, RawTensor)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader { tensors: Vec::new(), metadata: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else {
                        let tensor = map.next_value().map_err(|e| de::Error::custom(format!("tensor {}: {e}", quote(&name))))?;
                        header.tensors.push((name, tensor));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    #[test]
    fn offsets_become_absolute_and_metadata_is_kept() {
        let json = r#"{"b":{"dtype":"F32","shape":[],"data_offsets":[6,10]},"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},"__metadata__":{"format":"pt"}}"#;
        let header = Header::parse(&file(json, 10)).unwrap();
        let base = 8 + json.len();
        assert_eq!(header.tensors["a"], TensorInfo { dtype: Dtype::BF16, shape: vec![3], begin: base, end: base + 6 });
        assert_eq!(header.tensors["b"].shape, Vec::<usize>::new());
        assert_eq!(header.metadata["format"], "pt");
    }

    #[test]
    fn each_kind_of_damage_is_named() {
        let one = |entry: &str| format!(r#"{{"a":{entry}}}"#);
        for (json, data, part) in [
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,7]}"#), 7, "does not fill"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#), 12, "do not continue"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 4, "reach past"),
            (one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#), 9, "1 bytes after the last"),
            (one(r#"{"dtype":"F33","shape":[2],"data_offsets":[0,8]}"#), 8, "dtype `F33` is unknown"),
            (one(r#"{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}"#), 0, "does not fill"),
            (one(r#"{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}"#), 1, "tensor `a`"),
            (one(r#"{"dtype":"U8","shape":[1e30],"data_offsets":[0,1]}"#), 1, "tensor `a`"),
            (one(r#"{"dtype":"F4","shape":[3],"data_offsets":[0,1]}"#), 1, "does not fill"),
            (one(r#"{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}"#), 1, "reach past"),
            (one(r#"{"dtype":"U8","shape":[1],"data_offsets":[1,0]}"#), 1, "do not continue"),
            (
                r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#.to_owned(),
                2,
                "appears twice",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#.to_owned(),
                3,
                "tensor `b`: data_offsets",
            ),
            ("[]".to_owned(), 0, "an object of tensors"),
            (r#"{"__metadata__":{"x":1}}"#.to_owned(), 0, "not what safetensors writes"),
            ("[".repeat(10_000), 0, "not what safetensors writes"),
        ] {
            let error = Header::parse(&file(&json, data)).unwrap_err();
            assert!(error.contains(part), "{json:.80}: {error}");
        }
    }

    #[test]
    fn a_huge_header_length_is_refused_before_anything_is_allocated() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.push(b'{');
        assert!(Header::parse(&bytes).unwrap_err().contains("not a safetensors file"));
        assert!(Header::parse(&[1, 0, 0]).unwrap_err().contains("too few"));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
        assert!(Header::parse(pointer).unwrap_err().contains("git lfs pull"));
        assert!(Header::parse(&[9, 0, 0, 0, 0, 0, 0, 0, b'{']).unwrap_err().contains("the file ends after 1"));
    }

    #[test]
    fn messages_escape_and_shorten_names() {
        assert_eq!(quote("a\n\u{1b}[2J"), r"`a\n\u{1b}[2J`");
        assert!(quote(&"x".repeat(1 << 20)).len() < 200);
    }
}
