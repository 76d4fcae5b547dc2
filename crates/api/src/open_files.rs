//! How many files this process may have open: each connection is one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to the highest that the system allows this process, and gives it.
///
/// The usual 1,024 stands for programs that use `select(2)`, which can't count further.
pub fn raise_open_files() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    usize::try_from(raised).unwrap_or(usize::MAX)
}
