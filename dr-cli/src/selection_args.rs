//! The arguments that say what a backup leaves out.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use dr_core::{Selection, TagFile};

use crate::error::{CliError, Result};
use crate::pattern_lists::PatternLists;
use crate::quantity;

/// The files of patterns that are dr's own, and git's.
const OWN_IGNORE_FILE: &str = ".drignore";
const GIT_IGNORE_FILE: &str = ".gitignore";

/// How patterns are written, for the end of a help.
pub(crate) const PATTERNS: &str = "\
Patterns (--exclude and the like) are lines of a gitignore file:
  name              whatever is called so, in any directory
  *.o  ?.o  [a-z].o  * is any bytes without '/', ? is one, [a-z] and [!a-z] are one of a class
  cache/            a '/' at the end: directories only
  /home/me/tmp      a '/' in front or inside: the whole path in the snapshot, from its '/'
  /home/*/tmp       and not from the working directory
  **/a/b  a/**/b    a/b anywhere; b anywhere below /a (a/** is all that is in /a)
  !name             not excluded after all: the last pattern that matches decides
  \\*  \\!  \\#          the character itself
  Files of patterns come first, then --iexclude, then --exclude. What is below an excluded
  directory is brought back only by a '!' that says where it is, from the first '/' on:
  --exclude /cache --exclude '!/cache/keep', and neither '!keep' nor '!**/keep'. A path that
  is named as a source is never excluded itself.
  Files called .drignore hold such patterns over what is in their directory and below, which
  begin there instead of at '/'. Nothing below a directory that they exclude comes back: write
  'cache/*' and '!cache/keep', not 'cache'.";

/// What is left out.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What is left out")]
pub(crate) struct SelectionArgs {
    /// Leave out what the pattern matches (may be repeated)
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// The same without regard to upper and lower case
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<OsString>,
    /// Leave out what the patterns in FILE match, one on each line (may be repeated)
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// The same without regard to upper and lower case
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
    /// Do not leave out what the patterns in files called .drignore match, in their directory and below
    #[arg(long)]
    no_ignore_files: bool,
    /// Leave out what the patterns in files called .gitignore match, in their directory and below
    #[arg(long)]
    git_ignore: bool,
    /// Of directories with a CACHEDIR.TAG, save nothing but that
    #[arg(long)]
    exclude_caches: bool,
    /// Of directories with a file NAME (that begins with HEADER), save nothing but that (may be repeated)
    #[arg(long, value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files of more than SIZE (for example 500M)
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    exclude_larger_than: Option<u64>,
    /// Leave out what carries the flag of 'chattr +d'
    #[arg(long)]
    exclude_nodump: bool,
}

impl SelectionArgs {
    /// The patterns that were typed.
    pub(crate) fn typed(&self) -> [&[OsString]; 2] {
        [&self.iexclude, &self.exclude]
    }

    /// What the engine is to leave out.
    pub(crate) fn to_selection(&self) -> Result<Selection> {
        let mut selection = Selection::new();
        selection.patterns = PatternLists {
            files: &self.exclude_file,
            ifiles: &self.iexclude_file,
            patterns: &self.exclude,
            ipatterns: &self.iexclude,
        }
        .gather()?;
        // Of two files in one directory, dr's own has the last word.
        for (is_wanted, name) in
            [(self.git_ignore, GIT_IGNORE_FILE), (!self.no_ignore_files, OWN_IGNORE_FILE)]
        {
            if is_wanted {
                selection.ignore_files.push(name.into());
            }
        }
        if self.exclude_caches {
            selection.tag_files.push(TagFile::cache());
        }
        for tag in &self.exclude_if_present {
            selection.tag_files.push(tag_file(tag)?);
        }
        selection.file_bytes_max = self.exclude_larger_than;
        selection.exclude_nodump = self.exclude_nodump;
        Ok(selection)
    }
}

fn tag_file(text: &OsStr) -> Result<TagFile> {
    let mut parts = text.as_bytes().splitn(2, |byte| *byte == b':');
    let (name, header) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    TagFile::new(name, header).map_err(|error| {
        let shown = OsString::from_vec(name.to_vec());
        CliError::from(error.with_path(Path::new(&shown)))
    })
}
