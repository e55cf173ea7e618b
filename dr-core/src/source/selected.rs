//! A source without what its caller leaves out.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::selection::{Selection, TagFile};
use super::{Fetched, Remark, Source, SourceDirectory, SourceFile, SourceItem};
use crate::observer::lock;
use crate::select::{Case, Exclusion, Match, PathKind, Patterns, Verdict};
use crate::tree::{Entry, EntryKind};

/// The longest file of patterns that is read, and the most bytes of such files that count in one place.
const IGNORE_FILE_BYTES_MAX: usize = 256 << 10;
const IGNORE_BYTES_MAX: usize = 1 << 20;
/// How many bad lines of a file are named, and how many that do less than they seem to.
const BAD_LINES_NAMED_MAX: usize = 10;

/// A source without what a [`Selection`] leaves out: that is not listed, not opened, and nothing of it is a problem. Of what
/// is left out in a backup, [`BackupReport`](crate::BackupReport) has the number and [`Event`](crate::Event) the paths.
#[derive(Debug)]
pub struct SelectedTree {
    source: Box<dyn Source>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    selection: Selection,
    /// The paths that were named, ascending; the topmost directory is empty.
    named: Vec<Vec<u8>>,
}

/// A directory of which a part is left out.
#[derive(Debug)]
struct SelectedDirectory {
    inner: Arc<dyn SourceDirectory>,
    /// Empty for the topmost.
    path: Vec<u8>,
    place: Place,
    listed: Mutex<Listed>,
    shared: Arc<Shared>,
}

/// Where a directory stands.
#[derive(Debug, Clone, Default)]
struct Place {
    /// Whether it is a named path, or below one. Others only lead there.
    is_inside: bool,
    verdict: Verdict,
    /// Why it is excluded, where it is, and is there for something below.
    exclusion: Option<Exclusion>,
    /// The files of patterns that count for its entries, the nearest last.
    ignore_files: Arc<[Arc<IgnoreFile>]>,
}

/// A file of patterns.
#[derive(Debug)]
struct IgnoreFile {
    path: Vec<u8>,
    /// The length of its directory's path.
    directory_bytes: usize,
    file_bytes: usize,
    patterns: Patterns,
}

/// What a listing found.
#[derive(Debug, Default)]
struct Listed {
    remarks: Vec<Remark>,
    /// The directories that are excluded and there all the same, ascending.
    ways: Vec<(Vec<u8>, Verdict, Exclusion)>,
    ignore_files: Option<Arc<[Arc<IgnoreFile>]>>,
}

/// What counts for the entries of one listing.
struct Rules<'s> {
    tag: Option<&'s TagFile>,
    ignore_files: Arc<[Arc<IgnoreFile>]>,
    /// Whether a named path is below.
    has_named: bool,
}

/// What becomes of an entry.
enum Fate {
    Kept,
    /// Kept whatever else speaks against it.
    Included,
    /// A directory that is there for something below it.
    Way(Verdict, Exclusion),
    Excluded(Verdict, Exclusion),
}

impl Rules<'_> {
    /// Whether nothing in the directory or above it says what to leave out.
    fn is_empty(&self) -> bool {
        self.tag.is_none() && self.ignore_files.is_empty()
    }
}

impl SelectedTree {
    /// Leaves out of `source` what `selection` says.
    pub fn new(source: Box<dyn Source>, selection: Selection) -> SelectedTree {
        let path_of = |path: PathBuf| match path.as_os_str().as_bytes() {
            b"/" => Vec::new(),
            path => path.to_vec(),
        };
        let mut named: Vec<Vec<u8>> = source.paths().into_iter().map(path_of).collect();
        named.sort_unstable();
        SelectedTree { source, shared: Arc::new(Shared { selection, named }) }
    }
}

impl Source for SelectedTree {
    fn paths(&self) -> Vec<PathBuf> {
        self.source.paths()
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(SelectedDirectory {
            inner: self.source.open_root()?,
            path: Vec::new(),
            place: Place { is_inside: self.shared.is_named(b""), ..Place::default() },
            listed: Mutex::default(),
            shared: Arc::clone(&self.shared),
        }))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        self.source.missing()
    }
}

impl Shared {
    fn is_named(&self, path: &[u8]) -> bool {
        self.named.binary_search_by(|named| named.as_slice().cmp(path)).is_ok()
    }

    /// Whether a named path is below.
    fn leads_to_named(&self, path: &[u8]) -> bool {
        let below = [path, b"/"].concat();
        let first = self.named.partition_point(|named| *named < below);
        self.named.get(first).is_some_and(|named| named.starts_with(&below))
    }
}

impl SourceDirectory for SelectedDirectory {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let mut items = self.inner.entries()?;
        let mut listed = Listed { remarks: self.inner.remarks(), ..Listed::default() };
        let rules = self.rules(&items, &mut listed.remarks);
        // Most backups leave nothing out of most directories: then nothing is asked of each entry.
        if self.place.verdict.is_excluded() || !rules.is_empty() || self.shared.selection.asks_of_entries() {
            self.leave_out(&mut items, &rules, &mut listed);
        }
        listed.ignore_files = Some(rules.ignore_files);
        *lock(&self.listed) = listed;
        Ok(items)
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        self.inner.complete(entry)
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        let path = [self.path.as_slice(), b"/", name].concat();
        let inner = self.inner.open_directory(name)?;
        let listed = lock(&self.listed);
        let way = listed.ways.binary_search_by(|(way, ..)| way.as_slice().cmp(name)).ok();
        let way = way.and_then(|found| listed.ways.get(found));
        let place = Place {
            is_inside: self.place.is_inside || self.shared.is_named(&path),
            verdict: way.map_or(Verdict::Kept, |(_, verdict, _)| *verdict),
            exclusion: way.map(|(.., exclusion)| exclusion.clone()),
            ignore_files: Arc::clone(listed.ignore_files.as_ref().unwrap_or(&self.place.ignore_files)),
        };
        drop(listed);
        let shared = Arc::clone(&self.shared);
        Ok(Arc::new(SelectedDirectory { inner, path, place, listed: Mutex::default(), shared }))
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        self.inner.open_file(name)
    }

    fn fetch(&self, name: &[u8]) -> Fetched {
        self.inner.fetch(name)
    }

    fn remarks(&self) -> Vec<Remark> {
        std::mem::take(&mut lock(&self.listed).remarks)
    }

    fn is_marked_nodump(&self, name: &[u8]) -> io::Result<bool> {
        self.inner.is_marked_nodump(name)
    }
}

impl SelectedDirectory {
    fn rules(&self, items: &[SourceItem], remarks: &mut Vec<Remark>) -> Rules<'_> {
        let mut rules = Rules {
            tag: None,
            ignore_files: Arc::clone(&self.place.ignore_files),
            has_named: self.shared.leads_to_named(&self.path),
        };
        if !self.place.is_inside || self.place.verdict.is_excluded() {
            return rules;
        }
        let selection = &self.shared.selection;
        rules.tag = selection.tag_files.iter().find(|tag| self.is_tagged(tag, items, remarks));
        if rules.tag.is_none() {
            for name in &selection.ignore_files {
                let Some(file) = self.read_ignore_file(name, items, &rules.ignore_files, remarks) else {
                    continue;
                };
                rules.ignore_files = rules.ignore_files.iter().cloned().chain([Arc::new(file)]).collect();
            }
        }
        rules
    }

    /// Takes what is left out from a listing.
    fn leave_out(&self, items: &mut Vec<SourceItem>, rules: &Rules<'_>, listed: &mut Listed) {
        let mut path = [self.path.as_slice(), b"/"].concat();
        let directory_bytes = path.len();
        items.retain(|item| {
            path.truncate(directory_bytes);
            path.extend_from_slice(&item.name);
            match self.fate(rules, &path, item) {
                Fate::Kept | Fate::Included => true,
                Fate::Way(verdict, exclusion) => {
                    listed.ways.push((item.name.clone(), verdict, exclusion));
                    true
                }
                Fate::Excluded(_, reason) => {
                    listed.remarks.push(Remark::Excluded { name: item.name.clone(), reason });
                    false
                }
            }
        });
        // What is left may wait for the walk, for a while and with others.
        items.shrink_to_fit();
    }

    fn is_tagged(&self, tag: &TagFile, items: &[SourceItem], remarks: &mut Vec<Remark>) -> bool {
        let Some(item) = find(items, tag.name()) else { return false };
        if tag.header().is_empty() {
            return true;
        }
        if matches!(&item.entry, Ok(entry) if !is_file(entry)) {
            return false;
        }
        match self.read_start(tag.name(), tag.header().len()) {
            Ok(start) => start == tag.header(),
            Err(error) => {
                let detail = format!("cannot be read, so its directory is saved with what is in it: {error}");
                remarks.push(Remark::Warning { name: tag.name().to_vec(), detail });
                false
            }
        }
    }

    fn read_ignore_file(
        &self,
        name: &[u8],
        items: &[SourceItem],
        known: &[Arc<IgnoreFile>],
        remarks: &mut Vec<Remark>,
    ) -> Option<IgnoreFile> {
        let item = find(items, name)?;
        let mut warn = |detail: String| remarks.push(Remark::Warning { name: name.to_vec(), detail });
        if matches!(&item.entry, Ok(entry) if !is_file(entry)) {
            warn("is no regular file, so its patterns do not count".to_owned());
            return None;
        }
        let text = match self.read_start(name, IGNORE_FILE_BYTES_MAX + 1) {
            Ok(text) => text,
            Err(error) => {
                warn(format!("cannot be read, so its patterns do not count: {error}"));
                return None;
            }
        };
        let bytes_above: usize = known.iter().map(|file| file.file_bytes).sum();
        if text.len() > IGNORE_FILE_BYTES_MAX || bytes_above + text.len() > IGNORE_BYTES_MAX {
            warn(
                "is too long (256 KiB, and 1 MiB with those above it), so its patterns do not count"
                    .to_owned(),
            );
            return None;
        }
        let mut patterns = Patterns::new();
        let refused = patterns.add_good_lines(&text, Case::Sensitive);
        refused.iter().take(BAD_LINES_NAMED_MAX).for_each(|error| warn(error.to_string()));
        if refused.len() > BAD_LINES_NAMED_MAX {
            warn(format!("has {} more lines that are no patterns", refused.len() - BAD_LINES_NAMED_MAX));
        }
        let above: Vec<&Patterns> = known.iter().map(|file| &file.patterns).collect();
        let unreaching = patterns.unreaching_in_file(&above);
        unreaching.iter().take(BAD_LINES_NAMED_MAX).for_each(|pattern| warn(pattern.to_string()));
        Some(IgnoreFile {
            path: [self.path.as_slice(), b"/", name].concat(),
            directory_bytes: self.path.len(),
            file_bytes: text.len(),
            patterns,
        })
    }

    /// The first bytes of a file, as many as there are up to `bytes_max`.
    fn read_start(&self, name: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
        let file = self.inner.open_file(name)?;
        let mut start = vec![0; bytes_max];
        let mut filled = 0;
        while filled < bytes_max {
            match file.read_at(&mut start[filled..], filled as u64)? {
                0 => break,
                bytes => filled += bytes,
            }
        }
        start.truncate(filled);
        Ok(start)
    }

    fn fate(&self, rules: &Rules<'_>, path: &[u8], item: &SourceItem) -> Fate {
        if rules.has_named && self.shared.is_named(path) {
            return Fate::Included;
        }
        let fate = match &item.entry {
            Ok(entry) => self.fate_of(rules, path, entry),
            // What cannot be looked at may be a directory as well as anything else.
            Err(_) => match self.fate_by_path(rules, path, PathKind::Directory) {
                Fate::Kept => self.fate_by_path(rules, path, PathKind::Other),
                fate => fate,
            },
        };
        match fate {
            Fate::Excluded(verdict, exclusion) if rules.has_named && self.shared.leads_to_named(path) => {
                Fate::Way(verdict, exclusion)
            }
            fate => fate,
        }
    }

    fn fate_of(&self, rules: &Rules<'_>, path: &[u8], entry: &Entry) -> Fate {
        let kind = if entry.is_directory() { PathKind::Directory } else { PathKind::Other };
        let fate = match self.fate_by_path(rules, path, kind) {
            Fate::Kept => self.fate_by_looks(entry),
            fate => fate,
        };
        let patterns = &self.shared.selection.patterns;
        match fate {
            Fate::Excluded(verdict, exclusion)
                if kind == PathKind::Directory && patterns.leads_on(verdict, path) =>
            {
                Fate::Way(verdict, exclusion)
            }
            fate => fate,
        }
    }

    /// What patterns, files of patterns and tags say.
    fn fate_by_path(&self, rules: &Rules<'_>, path: &[u8], kind: PathKind) -> Fate {
        let patterns = &self.shared.selection.patterns;
        let verdict = patterns.judge(self.place.verdict, path, kind);
        match verdict {
            Verdict::Included => return Fate::Included,
            Verdict::Kept => {}
            Verdict::Excluded { .. } => {
                let own = || Exclusion::Pattern(patterns.decisive(verdict).unwrap_or_default().to_vec());
                let above = self.place.exclusion.clone().filter(|_| verdict == self.place.verdict);
                return Fate::Excluded(verdict, above.unwrap_or_else(own));
            }
        }
        let excluded = |exclusion| Fate::Excluded(Verdict::Excluded { until: 0 }, exclusion);
        if let Some(tag) = rules.tag {
            let is_tag = path.strip_prefix(self.path.as_slice()).is_some_and(|name| &name[1..] == tag.name());
            return if is_tag { Fate::Kept } else { excluded(Exclusion::TagFile(tag.name().to_vec())) };
        }
        for file in rules.ignore_files.iter().rev() {
            match file.patterns.find(&path[file.directory_bytes..], kind) {
                None | Some((Match::None, _)) => {}
                Some((Match::Included, _)) => break,
                Some((Match::Excluded, pattern)) => {
                    let (file, pattern) = (file.path.clone(), pattern.to_vec());
                    return excluded(Exclusion::IgnoreFile { file, pattern });
                }
            }
        }
        Fate::Kept
    }

    /// What length and marks say.
    fn fate_by_looks(&self, entry: &Entry) -> Fate {
        let selection = &self.shared.selection;
        let excluded = |exclusion| Fate::Excluded(Verdict::Excluded { until: 0 }, exclusion);
        match (&entry.kind, selection.file_bytes_max) {
            (EntryKind::File(content), Some(bytes_max)) if content.bytes > bytes_max => {
                excluded(Exclusion::Larger(bytes_max))
            }
            // What cannot be asked is kept; what has vanished is told of where it is read.
            _ if selection.exclude_nodump && self.inner.is_marked_nodump(&entry.name).unwrap_or(false) => {
                excluded(Exclusion::NoDump)
            }
            _ => Fate::Kept,
        }
    }
}

fn find<'i>(items: &'i [SourceItem], name: &[u8]) -> Option<&'i SourceItem> {
    let found = items.binary_search_by(|item| item.name.as_slice().cmp(name)).ok()?;
    items.get(found)
}

fn is_file(entry: &Entry) -> bool {
    matches!(entry.kind, EntryKind::File(_))
}
