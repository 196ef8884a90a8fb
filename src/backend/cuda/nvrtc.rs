//! NVRTC, the CUDA compiler as a library: opened by path, asked for machine code.
//!
//! It is a separate download (the package `nvidia-cuda-nvrtc`, or a part of the toolkit) and lies in different places, so the caller hands
//! over where to look. Beside `libnvrtc.so.13` lies `libnvrtc-builtins.so.13.0`, which NVRTC opens by bare name at its first compilation:
//! outside the loader's path it would not find it, so it is opened here first, by its full path.

#![allow(unsafe_code, reason = "calls into NVRTC")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::Library;

use crate::backend::cuda::compile::Compile;
use crate::backend::cuda::problem::{INSTALL_COMPILER, Problem, Version};

type Program = *mut c_void;
type Status = c_int; // nvrtcResult; 0 is success

/// The entries used, as `nvrtc.h` declares them. They stay valid as long as the library, which [`Compiler`] keeps.
#[derive(Clone, Copy, Debug)]
struct Entries {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    count_architectures: unsafe extern "C" fn(*mut c_int) -> Status,
    architectures: unsafe extern "C" fn(*mut c_int) -> Status,
    create: unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
}

impl Entries {
    /// Looks every entry up; the name of the first one missing otherwise.
    fn of(library: &Library) -> Result<Self, &'static str> {
        macro_rules! entry {
            ($name:literal) => {
                // SAFETY: the field's type is the entry's declaration in `nvrtc.h`.
                *unsafe { library.get($name) }.map_err(|_| $name)?
            };
        }
        Ok(Self {
            version: entry!("nvrtcVersion"),
            error_string: entry!("nvrtcGetErrorString"),
            count_architectures: entry!("nvrtcGetNumSupportedArchs"),
            architectures: entry!("nvrtcGetSupportedArchs"),
            create: entry!("nvrtcCreateProgram"),
            compile: entry!("nvrtcCompileProgram"),
            log_size: entry!("nvrtcGetProgramLogSize"),
            log: entry!("nvrtcGetProgramLog"),
            cubin_size: entry!("nvrtcGetCUBINSize"),
            cubin: entry!("nvrtcGetCUBIN"),
            destroy: entry!("nvrtcDestroyProgram"),
        })
    }
}

/// The compiler.
#[derive(Debug)]
pub struct Compiler {
    entries: Entries,
    version: Version,
    path: PathBuf,
    bytes: u64,
    architectures: Vec<u32>,
    _library: Library,
    _builtins: Option<Library>,
}

impl Compiler {
    /// The first of `candidates` that opens and is no newer than `driver` by a major version; else the first that opens. A bare file
    /// name is looked for where the loader looks.
    pub fn find(candidates: &[PathBuf], driver: Option<Version>) -> Result<Self, Problem> {
        let mut too_new = None;
        let mut failures = Vec::new();
        for path in candidates {
            match Self::open(path) {
                Ok(compiler) if driver.is_none_or(|driver| compiler.version.0 <= driver.0) => return Ok(compiler),
                Ok(compiler) => too_new = too_new.or(Some(compiler)),
                // That a bare name is not on the loader's path is no news; that a file which exists will not open is.
                Err(failure) if path.exists() => failures.push(failure),
                Err(_) => {}
            }
        }
        too_new.ok_or_else(|| match failures.as_slice() {
            [] => Problem::new(format!("no run-time compiler (libnvrtc) in {} places looked at", candidates.len()), INSTALL_COMPILER),
            _ => Problem::new(format!("no run-time compiler (libnvrtc) opens: {}", failures.join("; ")), INSTALL_COMPILER),
        })
    }

    /// Opens the library at `path`; the reason why not otherwise.
    pub fn open(path: &Path) -> Result<Self, String> {
        let builtins = builtins_beside(path).map(|path| open_global(&path)).transpose().map_err(|e| format!("{}: {e}", path.display()))?;
        // SAFETY: the caller names a library of NVIDIA's, whose initializers are made to run on loading.
        let library = unsafe { Library::new(path) }.map_err(|e| format!("{}: {e}", path.display()))?;
        let entries = Entries::of(&library).map_err(|name| format!("{}: lacks {name}", path.display()))?;
        let (mut major, mut minor) = (0, 0);
        // SAFETY: NVRTC writes two ints.
        entries.check("nvrtcVersion", unsafe { (entries.version)(&raw mut major, &raw mut minor) })?;
        let mut count = 0;
        // SAFETY: NVRTC writes one int.
        entries.check("nvrtcGetNumSupportedArchs", unsafe { (entries.count_architectures)(&raw mut count) })?;
        let mut list = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the list has the length that NVRTC just gave.
        entries.check("nvrtcGetSupportedArchs", unsafe { (entries.architectures)(list.as_mut_ptr()) })?;
        let architectures = list.into_iter().filter_map(|arch| u32::try_from(arch).ok()).collect();
        let bytes = std::fs::metadata(path).map_or(0, |file| file.len());
        let version = Version(major, minor);
        Ok(Self { entries, version, path: path.to_owned(), bytes, architectures, _library: library, _builtins: builtins })
    }

    /// Version of the compiler.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it compiles for, as in 90 for compute capability 9.0.
    pub fn architectures(&self) -> &[u32] {
        &self.architectures
    }
}

impl Compile for Compiler {
    fn identity(&self) -> String {
        // NVRTC tells no more of its version than 13.0, and compiles otherwise in 13.0.88 than in 13.0.48: files of different sizes are
        // different compilers. The size of one that the loader found by its name is not known.
        format!("nvrtc {}, {} bytes", self.version, self.bytes)
    }

    fn compile(&self, name: &str, source: &str, headers: &[(&str, &str)], options: &[String]) -> Result<Vec<u8>, Problem> {
        let text = |text: &str| CString::new(text).map_err(|_| Problem::new(format!("{name}: the text holds a zero byte"), ""));
        let (name, source) = (text(name)?, text(source)?);
        let header_names = headers.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>, _>>()?;
        let header_texts = headers.iter().map(|(_, body)| text(body)).collect::<Result<Vec<_>, _>>()?;
        let options = options.iter().map(|option| text(option)).collect::<Result<Vec<_>, _>>()?;
        let [header_names, header_texts, options] = [&header_names, &header_texts, &options].map(|strings| pointers(strings));
        let mut program = ptr::null_mut();
        let count = headers.len() as c_int;
        // SAFETY: every string ends in zero and outlives the program, which `Running` destroys below; `count` is both lists' length.
        let status = unsafe {
            (self.entries.create)(&raw mut program, source.as_ptr(), name.as_ptr(), count, header_texts.as_ptr(), header_names.as_ptr())
        };
        self.entries.check("nvrtcCreateProgram", status).map_err(|found| Problem::new(found, ""))?;
        let running = Running { entries: self.entries, program };
        // SAFETY: the program exists, and `options` holds that many strings.
        let status = unsafe { (self.entries.compile)(program, options.len() as c_int, options.as_ptr()) };
        if let Err(found) = self.entries.check("nvrtcCompileProgram", status) {
            let log = running.bytes(self.entries.log_size, self.entries.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log);
            let what = format!("{}.cu does not compile with NVRTC {}: {found}", name.to_string_lossy(), self.version);
            return Err(Problem::new(format!("{what}\n{}", log.trim_end_matches(['\0', '\n'])), ""));
        }
        running.bytes(self.entries.cubin_size, self.entries.cubin).map_err(|found| Problem::new(found, ""))
    }
}

impl Entries {
    fn check(&self, call: &str, status: Status) -> Result<(), String> {
        if status == 0 {
            return Ok(());
        }
        // SAFETY: NVRTC answers any status with a constant string, never null.
        let words = unsafe { CStr::from_ptr((self.error_string)(status)) };
        Err(format!("{call} failed: {}", words.to_string_lossy()))
    }
}

/// A program, destroyed when it goes.
struct Running {
    entries: Entries,
    program: Program,
}

impl Running {
    /// What a pair of calls gives: one for the length, one for the bytes.
    fn bytes(
        &self,
        size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        get: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ) -> Result<Vec<u8>, String> {
        let mut len = 0;
        // SAFETY: the program exists, and NVRTC writes one length.
        self.entries.check("nvrtcGet…Size", unsafe { size(self.program, &raw mut len) })?;
        let mut bytes = vec![0_u8; len];
        // SAFETY: the buffer has the length that NVRTC just gave.
        self.entries.check("nvrtcGet…", unsafe { get(self.program, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the program was created and is destroyed once. A failure leaves a leak at worst.
        unsafe { (self.entries.destroy)(&raw mut self.program) };
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).collect()
}

/// `libnvrtc-builtins.so.13.0` beside `libnvrtc.so.13`, where there is one.
fn builtins_beside(path: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(path.parent()?).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let builtins = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        (name.starts_with("libnvrtc-builtins.so") || name.starts_with("nvrtc-builtins")) && !name.contains("alt")
    };
    files.filter(builtins).max() // the longest name is the one NVRTC asks for
}

/// Opens a library so that a later look-up of its name finds it.
fn open_global(path: &Path) -> Result<Library, libloading::Error> {
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: NVRTC's table of built-in functions; its initializers are made to run on loading.
        unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map(Into::into)
    }
    #[cfg(not(unix))]
    // SAFETY: as above.
    unsafe {
        Library::new(path)
    }
}
