//! What a client makes of what is there: streams that are put and go on, snapshots that are rewritten, and merged ones.

use std::collections::BTreeMap;
use std::io::Cursor;

use dr_core::{
    BackupOptions, Case, Error, ErrorKind, MergeBy, MergeOptions, Patterns, PutContent, PutOptions,
    PutOutcome, PutReport, Repository, Result, RewriteOptions, Rewritten, Snapshot, SnapshotFilter,
    SnapshotId, StreamInput, TagChange, WhenUnchanged,
};

use super::client::Client;
use super::model::{Marking, PLAN, Plan, Saw};
use super::source::{File, Flat, PUT_NAMES, content, merged, without};
use crate::steps::alone;

impl Client {
    pub(super) fn put(&mut self, repository: &Repository) -> Result<String> {
        let name = PUT_NAMES[self.dice.below(2) as usize];
        let mode = if self.dice.below(2) == 0 { PutContent::Append } else { PutContent::Whole };
        let unchanged =
            [WhenUnchanged::Save, WhenUnchanged::Skip, WhenUnchanged::Heartbeat][self.dice.below(3) as usize];
        let bytes = match mode {
            PutContent::Append => content(&mut self.dice),
            // Often the same.
            _ => crate::noise(100, [700, 9000][self.dice.below(2) as usize]),
        };
        let time = self.next_time();
        let saw = match mode {
            PutContent::Append => Saw::Appended(name.to_owned(), bytes.clone()),
            _ => {
                let file = File { bytes: bytes.clone(), modified: 0 };
                Saw::Whole(Flat::from([(name.to_owned(), Some(file))]))
            }
        };
        self.world.model().begin_backup(time.as_nanoseconds(), saw);
        if unchanged == WhenUnchanged::Heartbeat {
            self.world.model().begin_heartbeat(&self.host, name);
        }
        let mut backup = BackupOptions::new().host(&self.host);
        backup.time = Some(time);
        let options = PutOptions::new(backup).mode(mode).unchanged(unchanged);
        self.note(format!("puts {name} of {} at {}: {mode:?}, {unchanged:?}", self.host, time.seconds));
        let input = StreamInput::new(name, Cursor::new(bytes.clone()));
        let outcome = alone(&(), |ctx| repository.put(input, &options, ctx));
        self.world.learn();
        match outcome {
            Ok(report) => {
                self.put += 1;
                Ok(self.was_put(&report, name, (mode == PutContent::Whole).then_some(&bytes)))
            }
            Err(error) if mode == PutContent::Append && self.is_refused_append(name, &error) => {
                Ok(format!("refused: {error}"))
            }
            Err(error) => Err(error),
        }
    }

    fn is_refused_append(&self, name: &str, error: &Error) -> bool {
        match error.kind() {
            // Somebody was faster.
            ErrorKind::AlreadyExists => true,
            ErrorKind::InvalidInput => error.to_string().contains("a copied or merged snapshot came last"),
            // What it was to go on from was collected.
            ErrorKind::Corrupt | ErrorKind::NotFound => self.world.model().may_lose_stream(name),
            _ => false,
        }
    }

    fn was_put(&mut self, report: &PutReport, name: &str, whole: Option<&Vec<u8>>) -> String {
        let said = self.backed_up(&report.backup);
        let held = match report.outcome {
            PutOutcome::Unchanged => report.previous,
            _ => report.backup.snapshot,
        };
        match held {
            Some(id) => {
                let model = self.world.model();
                let compared = model.compare_stream(&id, name, whole.map(Vec::as_slice));
                drop(model);
                self.wrong = self.wrong.take().or(compared.err());
            }
            None => self.wrong = Some("a stream is in no snapshot".to_owned()),
        }
        format!("{:?} behind {:?}: {said}", report.outcome, report.previous)
    }

    /// A tag that no other plan has.
    fn plan_tag(&mut self) -> String {
        let time = self.next_time();
        format!("{PLAN}{}-{}", self.number, time.seconds)
    }

    /// What a snapshot must hold; nothing where it is partial, or its holder was never seen.
    fn holds(&self, snapshot: &Snapshot) -> Option<Flat> {
        self.world.learn();
        let mut model = self.world.model();
        model.learn(snapshot);
        model.expected(&snapshot.id).ok().cloned()
    }

    pub(super) fn rewrite(&mut self, repository: &Repository) -> Result<String> {
        let all = repository.snapshots(&SnapshotFilter::new())?;
        let ids = self.draw(&all);
        let chosen: Vec<Snapshot> =
            ids.iter().filter_map(|id| all.iter().find(|known| known.id == *id)).cloned().collect();
        let patterns: &[&str] =
            [&["a"][..], &["x"], &["*.txt"], &["wide", "b"], &[]][self.dice.below(5) as usize];
        let tag = self.plan_tag();
        let mut each = BTreeMap::new();
        for snapshot in &chosen {
            let Some(holds) = self.holds(snapshot) else { return Ok("nothing is known".to_owned()) };
            each.insert(snapshot.id, without(&holds, &|name| is_left_out(patterns, name)));
        }
        let options = self.rewrite_options(patterns, &tag);
        if chosen.is_empty() {
            return Ok("nothing".to_owned());
        }
        self.world.model().begin_plan(&tag, Plan::Rewrite(each.clone()));
        let mut said = Vec::new();
        // What was cut short is taken up again.
        for _ in 0..=self.dice.below(2) {
            self.note(format!("rewrites {ids:?} without {patterns:?} as {tag}, forgets: {}", options.forget));
            let markings = self.begin_replacing(&tag, options.forget, &ids);
            let outcome = alone(&(), |ctx| repository.rewrite(&chosen, &options, ctx));
            self.world.learn();
            match outcome {
                Ok(done) => {
                    said.push(self.was_rewritten(&done, &markings));
                    break;
                }
                Err(error) if error.kind() == ErrorKind::StoreUnavailable => {
                    said.push(format!("failed: {error}"))
                }
                Err(error) => {
                    // Of a partial one nobody knows how much it holds.
                    let is_empty = each.values().any(BTreeMap::is_empty)
                        || chosen.iter().any(|snapshot| snapshot.partial);
                    return self.refused(&tag, &ids, is_empty, error);
                }
            }
        }
        Ok(said.join(", then "))
    }

    fn rewrite_options(&mut self, patterns: &[&str], tag: &str) -> RewriteOptions {
        let mut options = RewriteOptions::new();
        let mut exclude = Patterns::new();
        for pattern in patterns {
            exclude.add(pattern.as_bytes(), Case::Sensitive).unwrap();
        }
        options.exclude = exclude;
        options.host = (self.dice.below(4) == 0).then(|| format!("host{}", self.dice.below(3)));
        options.time = (self.dice.below(4) == 0).then(|| self.next_time());
        let tags = vec![tag.to_owned()];
        options.tags =
            vec![if self.dice.below(4) == 0 { TagChange::Set(tags) } else { TagChange::Add(tags) }];
        options.forget = self.dice.below(2) == 0;
        options
    }

    fn begin_replacing(&self, tag: &str, forget: bool, ids: &[SnapshotId]) -> Vec<Marking> {
        let begin = |id: &SnapshotId| self.world.model().begin_replacing(tag, &[*id]);
        ids.iter().filter(|_| forget).map(begin).collect()
    }

    fn was_rewritten(&mut self, done: &[Rewritten], markings: &[Marking]) -> String {
        let mut model = self.world.model();
        for (number, one) in done.iter().enumerate() {
            match one.replacement {
                Some(replacement) => model.acknowledge(replacement),
                None => self.wrong = Some(format!("{} was not rewritten: {one:?}", one.snapshot)),
            }
            let Some(marking) = markings.get(number) else { continue };
            if one.forgotten {
                self.wrong = self.wrong.take().or(model.end_marks(marking).err());
            } else {
                // Somebody was faster.
                model.refuse_marks(marking);
            }
        }
        drop(model);
        self.rewritten += done.len() as u64;
        format!("rewrote {done:?}")
    }

    /// What may come of a plan where others forget, collect and protect.
    fn refused(&self, tag: &str, ids: &[SnapshotId], is_empty: bool, error: Error) -> Result<String> {
        let model = self.world.model();
        let may_vanish = ids.iter().any(|id| model.may_be_forgotten(id)) || model.may_lose_plan(tag);
        let is_excused = match error.kind() {
            ErrorKind::NotFound | ErrorKind::Corrupt => may_vanish,
            ErrorKind::InvalidInput => is_empty || ids.iter().any(|id| model.may_be_protected(id)),
            _ => false,
        };
        if is_excused { Ok(format!("refused: {error}")) } else { Err(error) }
    }

    pub(super) fn merge(&mut self, repository: &Repository) -> Result<String> {
        let mut whole = repository.snapshots(&SnapshotFilter::new())?;
        whole.retain(|snapshot| !snapshot.partial);
        let mut chosen: Vec<Snapshot> = Vec::new();
        for _ in 0..2 + self.dice.below(2) {
            if !whole.is_empty() {
                chosen.push(whole.swap_remove(self.dice.below(whole.len() as u64) as usize));
            }
        }
        let tag = self.plan_tag();
        let holds: Option<Vec<Flat>> = chosen.iter().map(|snapshot| self.holds(snapshot)).collect();
        let Some(holds) = holds.filter(|holds| holds.len() > 1) else {
            return Ok("nothing to merge".to_owned());
        };
        let mut options = MergeOptions::new();
        // When streams were modified that are put is nobody's to know.
        let is_put = |flat: &Flat| PUT_NAMES.iter().any(|name| flat.contains_key(*name));
        options.by = match self.dice.below(2) {
            0 if !holds.iter().any(is_put) => MergeBy::Modified,
            _ => MergeBy::Last,
        };
        options.host = Some(self.host.clone());
        options.tags = Some(vec![tag.clone()]);
        options.forget = self.dice.below(2) == 0;
        let ids: Vec<SnapshotId> = chosen.iter().map(|snapshot| snapshot.id).collect();
        self.note(format!("merges {ids:?} by {:?} as {tag}, forgets: {}", options.by, options.forget));
        self.world.model().begin_plan(&tag, Plan::Merge(merged(&holds, options.by)));
        let markings = self.begin_replacing(&tag, options.forget, &ids);
        let outcome = alone(&(), |ctx| repository.merge_snapshots(&chosen, &options, ctx));
        self.world.learn();
        let report = match outcome {
            Ok(report) => report,
            Err(error) if error.kind() == ErrorKind::StoreUnavailable => return Err(error),
            Err(error) => return self.refused(&tag, &ids, false, error),
        };
        let Some(snapshot) = report.snapshot else {
            self.wrong = Some("a merge made nothing".to_owned());
            return Ok("merged nothing".to_owned());
        };
        let mut model = self.world.model();
        model.acknowledge(snapshot);
        for (id, marking) in ids.iter().zip(&markings) {
            // Which of them others forgot before it, it does not say.
            if !model.may_be_forgotten_by_others(id, &tag) {
                self.wrong = self.wrong.take().or(model.end_marks(marking).err());
            }
        }
        drop(model);
        self.merged += 1;
        Ok(format!("merged {report:?}"))
    }
}

/// Whether a name is one of the patterns that are used here.
fn is_left_out(patterns: &[&str], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => name == *pattern,
    })
}
