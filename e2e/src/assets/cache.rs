//! A folder of things that take long to make, each made once, however many runs want it at the same time.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// `${XDG_CACHE_HOME:-~/.cache}/shaper`.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A place that is free again when this value is gone.
#[derive(Debug)]
pub struct Slot {
    number: usize,
    _lock: File,
}

/// Changes whenever what a thing is made from does, so that the cache never serves one of another version.
pub(crate) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    // FNV-1a: stable across compilers, which the standard library's hasher doesn't promise.
    let hash = parts
        .into_iter()
        .flat_map(str::bytes)
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{hash:016x}")
}

// === impl Slot ===

impl Slot {
    /// Which of the places this is, counted from 0.
    pub fn number(&self) -> usize {
        self.number
    }
}

// === impl Cache ===

impl Cache {
    /// Opens the cache, and makes its folder where there is none.
    pub fn open() -> Result<Self> {
        let base = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .context("there is neither XDG_CACHE_HOME nor a home directory to keep downloads in; set XDG_CACHE_HOME")?;
        let root = base.join("shaper");
        fs::create_dir_all(&root).with_context(|| {
            format!(
                "could not make {}; set XDG_CACHE_HOME to another place",
                root.display()
            )
        })?;
        Ok(Self { root })
    }

    /// The folder `name`, made by `make` when it isn't there yet. `what` is for the person who waits.
    ///
    /// `make` works in a temporary folder that gets its name only when it is complete, so an interrupted run leaves
    /// nothing that a later one would take for whole.
    pub fn entry(
        &self,
        name: &str,
        what: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.root.join(name);
        if entry.is_dir() {
            return Ok(entry);
        }
        let _lock = self.lock(name)?;
        if entry.is_dir() {
            return Ok(entry);
        }
        eprintln!("e2e: preparing {what}, once, in {}", entry.display());
        let unfinished = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .tempdir_in(&self.root)
            .with_context(|| format!("could not make a folder in {}", self.root.display()))?;
        make(unfinished.path())?;
        fs::rename(unfinished.path(), &entry)
            .with_context(|| format!("could not move {what} to {}", entry.display()))?;
        // It has moved: there is nothing left to remove.
        let _ = unfinished.keep();
        Ok(entry)
    }

    /// Takes one of `count` places that all runs on this computer share, and waits for one to be free.
    pub fn slot(&self, name: &str, count: usize) -> Result<Slot> {
        let mut told = false;
        loop {
            for number in 0..count {
                let file = self.lock_file(&format!("{name}-{number}"))?;
                if file.try_lock().is_ok() {
                    return Ok(Slot {
                        number,
                        _lock: file,
                    });
                }
            }
            if !std::mem::replace(&mut told, true) {
                eprintln!("e2e: waiting until fewer than {count} others use {name}");
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn lock(&self, name: &str) -> Result<File> {
        let file = self.lock_file(name)?;
        if file.try_lock().is_err() {
            eprintln!("e2e: waiting for another run that prepares {name}");
            file.lock()
                .with_context(|| format!("could not wait for {name}"))?;
        }
        Ok(file)
    }

    fn lock_file(&self, name: &str) -> Result<File> {
        let path = self.root.join(format!(".{name}.lock"));
        File::create(&path).with_context(|| format!("could not write {}", path.display()))
    }
}
