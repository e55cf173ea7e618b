//! The way to the directory that was opened last, so that its neighbours need not be opened from the root again.

use std::collections::VecDeque;

use crate::error::Result;
use crate::restore::target::TargetDir;

/// Directories that are kept open. Whoever climbs a deep tree opens as many at once, and again when all are left.
const KEPT_MAX: usize = 64;

/// A way down from the root of a target.
#[derive(Debug, Default)]
pub(super) struct Way {
    names: Vec<Vec<u8>>,
    /// The last directories of the way, each in the one before it; the last is where the way ends.
    open: VecDeque<TargetDir>,
}

impl Way {
    /// Opens the directory at `path` below `root`, from the deepest directory on the way that leads there.
    ///
    /// # Errors
    /// Those of [`TargetDir::open_below`]; the way then ends at the last directory that could be opened.
    pub(super) fn open<P: AsRef<[u8]>>(&mut self, root: &TargetDir, path: &[P]) -> Result<TargetDir> {
        let shared =
            self.names.iter().zip(path).take_while(|(known, name)| known.as_slice() == name.as_ref());
        self.end_at(shared.count());
        if self.names.len() + KEPT_MAX < path.len() {
            // What lies far above is passed in one call.
            let far = path.len() - KEPT_MAX;
            self.go(root, &path[self.names.len()..=far])?;
        }
        for name in &path[self.names.len()..] {
            self.go(root, std::slice::from_ref(name))?;
        }
        Ok(self.open.back().unwrap_or(root).clone())
    }

    /// Goes back up to the directory of `depth` names; to the root where that is not open any more.
    fn end_at(&mut self, depth: usize) {
        while self.names.len() > depth {
            self.names.pop();
            self.open.pop_back();
        }
        if self.open.is_empty() {
            self.names.clear();
        }
    }

    /// Goes on by `names`, and keeps the directory they end at.
    fn go<P: AsRef<[u8]>>(&mut self, root: &TargetDir, names: &[P]) -> Result<()> {
        let below = self.open.back().unwrap_or(root).open_below(names)?;
        if names.len() > 1 {
            // The directories passed over are not open: the way is kept without gaps.
            self.open.clear();
        }
        self.names.extend(names.iter().map(|name| name.as_ref().to_vec()));
        self.open.push_back(below);
        if self.open.len() > KEPT_MAX {
            self.open.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::target::{Target, TargetOptions};

    /// Every path of a chain and of its side branches, in an order that climbs, falls and jumps.
    #[test]
    fn any_order_of_paths_leads_to_the_same_directories() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::create(&folder.path().join("root"), TargetOptions::default()).unwrap();
        let depth = 3 * KEPT_MAX;
        let chain: Vec<Vec<u8>> = (0..depth).map(|level| format!("{level}").into_bytes()).collect();
        let (root, mut dir) = (target.root(), target.root().clone());
        let side = b"side".to_vec();
        for name in &chain {
            dir.make_dir(name).unwrap();
            dir.make_dir(&side).unwrap();
            dir = dir.open_dir(name).unwrap();
        }
        let mut way = Way::default();
        let depths = (0..=depth).chain((0..=depth).rev()).chain((0..200).map(|step| step * 71 % depth));
        for depth in depths {
            let mut path = chain[..depth].to_vec();
            for with_side in [false, depth < chain.len()] {
                path.extend(with_side.then(|| side.clone()));
                let opened = way.open(root, &path).unwrap();
                let afresh = root.open_below(&path).unwrap();
                assert_eq!(opened.path(), afresh.path());
                let stat = |dir: &TargetDir| rustix::fs::fstat(dir).unwrap().st_ino;
                assert_eq!(stat(&opened), stat(&afresh));
                assert!(way.open.len() <= KEPT_MAX && way.open.len() <= way.names.len());
            }
        }
    }

    #[test]
    fn a_path_that_fails_leaves_a_way_that_works() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::create(&folder.path().join("root"), TargetOptions::default()).unwrap();
        let root = target.root();
        root.make_dir(b"a").unwrap();
        root.open_dir(b"a").unwrap().make_dir(b"b").unwrap();
        std::os::unix::fs::symlink("b", folder.path().join("root/a/link")).unwrap();
        let mut way = Way::default();
        for wrong in [&["a", "none"][..], &["a", "link"], &["a", "b", ".."], &["", "a"]] {
            assert!(way.open(root, wrong).is_err());
            assert_eq!(way.open(root, &["a", "b"]).unwrap().path(), folder.path().join("root/a/b"));
        }
    }
}
