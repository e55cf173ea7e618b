//! What the process does for itself at start-up: keeps secrets out of core dumps, and makes room for descriptors.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Keeps memory from being dumped or read by others, and raises the limit of open files as far as it goes: a deep tree
/// holds a descriptor per directory. Each of these is an extra, so a refusal is no failure.
pub(crate) fn apply() {
    let core = getrlimit(Resource::Core);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: core.maximum });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
}
