//! Counts how much a backup will come to, beside it, where nothing else says that.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use dr_core::{CancelToken, Context, Event, Observer, Source, count_source};

/// How much the thread that counts gives way to the backup.
const NICENESS: i32 = 10;

/// Passes on what a backup tells, and has the source counted when it says that nobody knows how much there is.
#[derive(Debug)]
struct Watched<'o> {
    observer: &'o dyn Observer,
    begin: SyncSender<()>,
    cancel: CancelToken,
}

impl Observer for Watched<'_> {
    fn event(&self, event: &Event) {
        if *event == Event::Uncounted {
            // A backup that begins again says it again; to be counted once is enough.
            let _ = self.begin.try_send(());
        }
        self.observer.event(event);
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Makes a backup of `source`, which tells what it is given. Where it has no parent to go by, one more thread counts what
/// there is meanwhile, and tells `observer`; it ends with the backup.
pub(crate) fn beside<T>(
    source: &dyn Source,
    observer: &dyn Observer,
    backup: impl FnOnce(&dyn Observer) -> T,
) -> T {
    let cancel = CancelToken::new();
    let (begin, asked) = sync_channel(1);
    let watched = Watched { observer, begin, cancel: cancel.clone() };
    thread::scope(|scope| {
        // Dropped before the thread is waited for.
        let watched = watched;
        let count = move || {
            if asked.recv().is_ok() {
                // This thread's niceness alone. Where it cannot be changed, what is counted is as right.
                let _ = rustix::process::nice(NICENESS);
                // The backup says itself what is wrong with its source.
                let _ = count_source(source, &Context::new(observer, &cancel));
            }
        };
        // Without a thread nothing is missing but the end that is expected.
        let _ = thread::Builder::new().name("count".to_owned()).spawn_scoped(scope, count);
        backup(&watched)
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use dr_core::{
        Entry, LocalTree, LocalTreeOptions, RecordingObserver, SourceDirectory, SourceFile, SourceItem,
    };

    use super::*;

    /// Passes on what is expected.
    #[derive(Debug)]
    struct Expecting(Sender<(u64, u64)>);

    impl Observer for Expecting {
        fn event(&self, event: &Event) {
            if let Event::Expected { entries, bytes } = event {
                self.0.send((*entries, *bytes)).unwrap();
            }
        }
    }

    /// A tree without end. It says that it is listed.
    #[derive(Debug, Clone)]
    struct Endless(SyncSender<()>);

    impl Source for Endless {
        fn paths(&self) -> Vec<PathBuf> {
            vec![PathBuf::from("/")]
        }

        fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
            Ok(Arc::new(self.clone()))
        }

        fn missing(&self) -> Vec<(PathBuf, io::Error)> {
            Vec::new()
        }
    }

    impl SourceDirectory for Endless {
        fn entries(&self) -> io::Result<Vec<SourceItem>> {
            let _ = self.0.try_send(());
            let tree = LocalTree::open(&[PathBuf::from("/")], LocalTreeOptions::default()).unwrap();
            let mut items = tree.open_root()?.entries()?;
            items.retain(|item| item.entry.as_ref().is_ok_and(Entry::is_directory));
            Ok(items)
        }

        fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
            Ok(())
        }

        fn open_directory(&self, _name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
            Ok(Arc::new(self.clone()))
        }

        fn open_file(&self, _name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn endless() -> (Endless, Receiver<()>) {
        let (listed, is_listed) = sync_channel(1);
        (Endless(listed), is_listed)
    }

    #[test]
    fn what_nobody_knows_is_counted_while_the_backup_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), [7; 1000]).unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(folder.path().join("d/b"), [7; 234]).unwrap();
        let tree = LocalTree::open(&[folder.path().to_owned()], LocalTreeOptions::default()).unwrap();
        let above = folder.path().components().count() as u64 - 1;
        let (expected, is_expected) = channel();
        let found = beside(&tree, &Expecting(expected), |watched| {
            watched.event(&Event::Uncounted);
            is_expected.recv().unwrap()
        });
        assert_eq!(found, (above + 3, 1234));
    }

    #[test]
    fn what_is_known_is_not_counted() {
        let (source, is_listed) = endless();
        let observer = RecordingObserver::new();
        let told = Event::Expected { entries: 3, bytes: 4 };
        beside(&source, &observer, |watched| watched.event(&told));
        assert_eq!(observer.events(), [told]);
        assert!(is_listed.try_recv().is_err());
    }

    #[test]
    fn counting_ends_with_the_backup() {
        let (source, is_listed) = endless();
        let observer = RecordingObserver::new();
        let answer = beside(&source, &observer, |watched| {
            watched.event(&Event::Uncounted);
            watched.event(&Event::Uncounted);
            is_listed.recv().unwrap();
            7
        });
        assert_eq!((answer, observer.events()), (7, vec![Event::Uncounted, Event::Uncounted]));
    }
}
