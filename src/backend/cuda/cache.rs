//! Cubins on disk, so that a kernel is compiled once per card, compiler and version of this crate.
//!
//! ```text
//! <folder>/<kernel>-<architecture>-<first 128 bits of the key>.cubin   =   cubin ‖ SHA-256(key ‖ cubin)
//! ```
//!
//! The key is the hash of everything that decides the cubin. A file that is damaged, cut short or of another key fails its own hash and is
//! compiled anew. Files appear whole (written beside, then renamed), so processes may share a folder; two that compile the same kernel at
//! once write the same bytes. A folder that cannot be written costs the compilation each time and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::{process, thread};

use sha2::{Digest, Sha256};

/// First bytes of every cubin.
pub const ELF_MAGIC: &[u8; 4] = b"\x7fELF";
const HASH: usize = 32;

/// What decides a cubin, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    label: String,
    hash: [u8; HASH],
}

impl Key {
    /// The key of `parts`, each of which counts with its length; `label` begins the file's name.
    pub fn new<'a>(label: impl Into<String>, parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self { label: label.into(), hash: hash.finalize().into() }
    }

    fn file_name(&self) -> String {
        let half = u128::from_be_bytes(self.hash[..16].try_into().expect("16 of 32 bytes"));
        format!("{}-{half:032x}.cubin", self.label)
    }

    fn seal(&self, cubin: &[u8]) -> [u8; HASH] {
        Sha256::new().chain_update(self.hash).chain_update(cubin).finalize().into()
    }
}

/// A folder of cubins, or none.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// A cache in `folder`, made when first written to; `None` keeps nothing.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// The cubin of `key`, if a sound one is there.
    pub fn get(&self, key: &Key) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.folder.as_ref()?.join(key.file_name())).ok()?;
        let len = bytes.len().checked_sub(HASH)?;
        let sound = bytes.starts_with(ELF_MAGIC) && bytes[len..] == key.seal(&bytes[..len]);
        bytes.truncate(len);
        sound.then_some(bytes)
    }

    /// Keeps the cubin of `key`. Says whether it could.
    pub fn put(&self, key: &Key, cubin: &[u8]) -> bool {
        let Some(folder) = &self.folder else { return false };
        let contents = [cubin, &key.seal(cubin)].concat();
        fs::create_dir_all(folder).and_then(|()| write_whole(folder, &key.file_name(), &contents)).is_ok()
    }
}

/// Writes a file under a name that no other thread or process uses, then gives it the one that is meant.
fn write_whole(folder: &Path, name: &str, contents: &[u8]) -> std::io::Result<()> {
    let temporary = folder.join(format!(".{name}.{}.{:?}", process::id(), thread::current().id()));
    let done = fs::write(&temporary, contents).and_then(|()| fs::rename(&temporary, folder.join(name)));
    if done.is_err() {
        fs::remove_file(&temporary).ok();
    }
    done
}
