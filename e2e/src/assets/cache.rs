//! A cache of things that take long to make, each made once, however many test processes need it at
//! the same time.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The folder `${XDG_CACHE_HOME:-~/.cache}/shaper`.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// A slot that is released on drop.
#[derive(Debug)]
pub struct Slot {
    number: usize,
    _lock: File,
}

/// A fingerprint of everything that an entry is made from, so that the cache never serves an
/// outdated one.
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
    /// The number of this slot, from 0.
    pub fn number(&self) -> usize {
        self.number
    }
}

// === impl Cache ===

impl Cache {
    /// Opens the cache and creates its folder if needed.
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

    /// Returns the folder `name`, made by `make` if it doesn't exist. `what` names it in messages.
    ///
    /// `make` works in a temporary folder that is renamed when it is complete, so an interrupted
    /// run leaves nothing that a later one would use.
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
        // It was renamed: there is nothing left to remove.
        let _ = unfinished.keep();
        Ok(entry)
    }

    /// Takes one of `count` slots that all processes on this computer share, waiting for a free
    /// one.
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
