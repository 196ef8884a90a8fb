//! Kernel text to cubin: the compiler's options, the cache's key.

use crate::backend::cuda::cache::{Cache, ELF_MAGIC, Key};
use crate::backend::cuda::problem::Problem;
use crate::backend::cuda::sources::{HEADERS, Kernel};

/// What compiles, from several threads at once. NVRTC outside the tests.
pub trait Compile: Sync {
    /// Name and version: a part of the cache's key.
    fn identity(&self) -> String;

    /// The cubin of `source`, a file called `name`, which may include `headers` (name, text).
    fn compile(&self, name: &str, source: &str, headers: &[(&str, &str)], options: &[String]) -> Result<Vec<u8>, Problem>;
}

/// Machine code of one file of kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cubin {
    /// The file's name without `.cu`.
    pub name: &'static str,
    /// What it runs on, as in `sm_90`.
    pub architecture: String,
    /// The ELF file.
    pub bytes: Vec<u8>,
    /// It came from the cache.
    pub cached: bool,
}

/// The architecture to compile for, given a card's compute capability. Datacentre Blackwell (10.x) gets its own variant, `a`, without
/// which the conversion from E2M1 is not to be had; machine code serves the card at hand alone, so nothing is lost by it.
pub fn architecture((major, minor): (i32, i32)) -> String {
    let variant = if major == 10 { "a" } else { "" };
    format!("sm_{major}{minor}{variant}")
}

/// The compiler's options.
pub fn options(architecture: &str) -> Vec<String> {
    vec![format!("--gpu-architecture={architecture}"), "--std=c++17".to_owned()]
}

/// The cubin of `kernel`, from `cache` or else compiled and kept there.
pub fn cubin(compiler: &dyn Compile, cache: &Cache, kernel: &Kernel, architecture: &str) -> Result<Cubin, Problem> {
    let key = key(compiler, kernel, architecture);
    if let Some(bytes) = cache.get(&key) {
        return Ok(Cubin { name: kernel.name, architecture: architecture.to_owned(), bytes, cached: true });
    }
    compile(compiler, cache, kernel, architecture)
}

/// The cubin of `kernel`, compiled whatever the cache holds, and kept there.
pub fn compile(compiler: &dyn Compile, cache: &Cache, kernel: &Kernel, architecture: &str) -> Result<Cubin, Problem> {
    let bytes = compiler.compile(kernel.name, kernel.source, HEADERS, &options(architecture))?;
    if !bytes.starts_with(ELF_MAGIC) {
        return Err(Problem::new(format!("{} gave no cubin for {}.cu", compiler.identity(), kernel.name), "install another version of it"));
    }
    cache.put(&key(compiler, kernel, architecture), &bytes);
    Ok(Cubin { name: kernel.name, architecture: architecture.to_owned(), bytes, cached: false })
}

fn key(compiler: &dyn Compile, kernel: &Kernel, architecture: &str) -> Key {
    let (identity, options) = (compiler.identity(), options(architecture).join("\n"));
    let headers = HEADERS.iter().flat_map(|(name, text)| [*name, *text]);
    let parts = [env!("CARGO_PKG_VERSION"), &identity, &options, kernel.source];
    Key::new(format!("{}-{architecture}", kernel.name), parts.into_iter().chain(headers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A compiler that counts, and answers with what it was asked.
    #[derive(Default)]
    struct Counting {
        runs: AtomicU32,
        version: Mutex<String>,
        answer: Option<&'static str>,
    }

    impl Compile for Counting {
        fn identity(&self) -> String {
            format!("counting {}", self.version.lock().expect("no panic"))
        }

        fn compile(&self, name: &str, source: &str, _: &[(&str, &str)], options: &[String]) -> Result<Vec<u8>, Problem> {
            self.runs.fetch_add(1, Ordering::Relaxed);
            let text = format!("\x7fELF {name} {source} {}", options.join(" "));
            Ok(self.answer.map_or(text, ToOwned::to_owned).into_bytes())
        }
    }

    const KERNEL: Kernel = Kernel { name: "k", what: "for the tests", source: "text" };

    #[test]
    fn each_part_of_the_key_compiles_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let (compiler, cache) = (Counting::default(), Cache::new(Some(folder.path().join("cubin"))));
        let run = |kernel: &Kernel, architecture: &str| cubin(&compiler, &cache, kernel, architecture).expect("a cubin");
        let first = run(&KERNEL, "sm_90");
        assert!(!first.cached && run(&KERNEL, "sm_90") == Cubin { cached: true, ..first.clone() });
        let runs = || compiler.runs.load(Ordering::Relaxed);
        assert_eq!(runs(), 1);
        run(&KERNEL, "sm_80");
        run(&Kernel { source: "other text", ..KERNEL }, "sm_90");
        run(&Kernel { name: "l", ..KERNEL }, "sm_90");
        *compiler.version.lock().expect("no panic") = "2".to_owned();
        run(&KERNEL, "sm_90");
        assert_eq!(runs(), 5, "architecture, text, name and compiler each count");
        compile(&compiler, &cache, &KERNEL, "sm_90").expect("a cubin");
        assert_eq!(runs(), 6, "compiled whatever the cache holds");
        assert!(run(&KERNEL, "sm_90").cached);
    }

    #[test]
    fn what_is_no_cubin_is_refused_and_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let compiler = Counting { answer: Some("// PTX"), ..Counting::default() };
        let problem = cubin(&compiler, &Cache::new(Some(folder.path().to_owned())), &KERNEL, "sm_90").unwrap_err();
        assert!(problem.found.contains("no cubin for k.cu"), "{problem}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    }

    #[test]
    fn a_card_is_compiled_for_by_its_capability() {
        let cards =
            [((8, 0), "sm_80"), ((8, 9), "sm_89"), ((9, 0), "sm_90"), ((10, 0), "sm_100a"), ((10, 3), "sm_103a"), ((12, 0), "sm_120")];
        for (capability, name) in cards {
            assert_eq!(architecture(capability), name);
        }
    }
}
