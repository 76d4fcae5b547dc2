//! Names of CPU architectures: iPXE's spelling, and the aliases that other tools use.

use std::borrow::Cow;

/// The label that holds a subject's architecture.
pub const BUILDARCH: &str = "buildarch";

/// Returns the canonical spelling: that of iPXE's `${buildarch}`
/// (`ipxe:src/Makefile.housekeeping`).
///
/// A name without a known alias is only lower-cased, so that a new architecture needs no new
/// release of shaper.
pub fn canonical(name: &str) -> Cow<'_, str> {
    // Fast path: nearly all machines.
    if matches!(name, "x86_64" | "arm64") {
        return name.into();
    }
    let lower = if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    match lower.as_ref() {
        "aarch64" => "arm64".into(),
        "amd64" | "x86-64" | "x64" => "x86_64".into(),
        "i486" | "i586" | "i686" | "x86" => "i386".into(),
        "arm" | "armhf" | "armv7" | "armv7l" => "arm32".into(),
        "loongarch64" => "loong64".into(),
        _ => lower,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_one_architecture() {
        assert_eq!(canonical("aarch64"), canonical("ARM64"));
        assert_eq!(canonical("amd64"), "x86_64");
        assert_eq!(canonical("i686"), "i386");
        assert_eq!(canonical("armv7"), "arm32");
        assert_eq!(canonical("riscv64"), "riscv64");
    }
}
