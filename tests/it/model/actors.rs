//! What the processes do, one step at a time.

use dr_core::internals::protocol::Refusal;

use super::log::{Entry, Log, Set, Slot, View, numbers, one};
use super::world::{Chunks, Op, Phase, Process, Reader, SEEDS, World, content, each_chunk, needed};
use super::{Config, TRIES, WRITERS};

const REPACKED_FROM: u8 = 8;
const COMPACTED_FROM: u8 = 10;
/// The writer of entries that no process of the model appends in steps of its own.
const OPERATOR: u8 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// The process does what comes next for it.
    Step(usize),
    /// It dies, and its operator starts the next attempt or operation.
    Crash(usize),
    /// It waits no longer for the store's answer.
    Unclear(usize),
    /// The store takes this entry in.
    Land(usize),
    /// The store takes in bytes in its place that are no entry.
    LandBad(usize),
    Forget(u8),
    Unforget(u8),
    Protect(u8),
    /// The operator appends behind a bad slot.
    Confirm,
    Damage(u8),
    /// The reader begins with a snapshot.
    Open(u8),
    Read,
}

impl World {
    pub(super) fn actions(&self, actions: &mut Vec<Action>) {
        for (number, process) in self.processes.iter().enumerate() {
            match process.phase {
                Phase::Done | Phase::Stopped => continue,
                Phase::Sent if self.budget.unclear > 0 => actions.push(Action::Unclear(number)),
                Phase::Sent => {}
                Phase::Ready | Phase::Forgetting if self.log.is_head_bad() => {}
                _ => actions.push(Action::Step(number)),
            }
            if self.budget.crashes > 0 && !matches!(process.phase, Phase::Idle | Phase::Refused(_)) {
                actions.push(Action::Crash(number));
            }
        }
        for put in 0..self.puts.len() {
            actions.push(Action::Land(put));
            if self.budget.bad > 0 {
                actions.push(Action::LandBad(put));
            }
        }
        if self.log.is_head_bad() {
            actions.push(Action::Confirm);
        } else {
            self.operator_actions(actions);
        }
        if self.budget.damages > 0 {
            actions.extend((1..self.log.next() - 1).map(Action::Damage));
        }
        let view = self.view();
        match self.reader {
            Reader::Idle => actions.extend(numbers(view.uncollected & !view.forgotten).map(Action::Open)),
            Reader::Reading { .. } => actions.push(Action::Read),
            Reader::Done | Reader::Failed => {}
        }
    }

    fn operator_actions(&self, actions: &mut Vec<Action>) {
        let view = self.view();
        if self.budget.forgets > 0 {
            actions.extend(numbers(view.uncollected & !view.forgotten).map(Action::Forget));
        }
        if self.budget.unforgets > 0 {
            let forgotten = |number: &u8| {
                one(*number) & view.uncollected & !view.forgotten == 0
                    && self.log.slots.iter().any(|slot| slot.entry == Entry::Forget(*number))
            };
            actions.extend((0..COMPACTED_FROM).filter(forgotten).map(Action::Unforget));
        }
        if self.budget.protects > 0 {
            actions.extend(numbers(view.uncollected).map(Action::Protect));
        }
    }

    pub(super) fn act(&mut self, config: &Config, action: Action) {
        match action {
            Action::Step(process) => self.step(config, process),
            Action::Crash(process) => {
                self.budget.crashes -= 1;
                self.next_round(config, process);
            }
            Action::Unclear(process) => {
                self.budget.unclear -= 1;
                self.processes[process].phase = Phase::Ready;
            }
            Action::Land(put) => self.land(config, put, false),
            Action::LandBad(put) => {
                self.budget.bad -= 1;
                self.land(config, put, true);
            }
            Action::Forget(snapshot) => {
                self.budget.forgets -= 1;
                self.append_at_once(config, OPERATOR, Entry::Forget(snapshot));
            }
            Action::Unforget(snapshot) => {
                self.budget.unforgets -= 1;
                self.append_at_once(config, OPERATOR, Entry::Unforget(snapshot));
            }
            Action::Protect(snapshot) => {
                self.budget.protects -= 1;
                self.append_at_once(config, OPERATOR, Entry::Protect(snapshot));
            }
            // What was written bad says nothing, so nothing is gone: the repair condemns nothing.
            Action::Confirm => {
                let changed = self.log.view.changed;
                let nothing = Entry::Condemn { changed, packs: 0, segments: 0, dead: 0, snapshots: 0 };
                self.append_at_once(config, OPERATOR, nothing)
            }
            Action::Damage(slot) => {
                self.budget.damages -= 1;
                self.damaged |= 1 << slot;
            }
            Action::Open(snapshot) => {
                let (known, synced) = (self.usable(self.view()), self.log.next());
                self.reader = Reader::Reading { snapshot, synced, known, left: content(config, snapshot) };
            }
            Action::Read => self.read(),
        }
    }

    fn step(&mut self, config: &Config, number: usize) {
        let process = self.processes[number];
        match process.phase {
            Phase::Idle => self.look(config, number),
            Phase::Refused(_) => self.next_round(config, number),
            Phase::Forgetting => {
                let Some(snapshot) = process.forget else { return };
                self.append_at_once(config, number as u8, Entry::Forget(snapshot));
                self.processes[number].forget = None;
                self.processes[number].phase = Phase::Ready;
            }
            Phase::PutPack => {
                let name = own_name(number, process.round);
                self.pack_chunks[usize::from(name)] = process.chunks;
                self.packs |= one(name);
                self.processes[number].chunks = 0;
                self.processes[number].phase = Phase::PutSegment;
                if !config.fine {
                    self.put_segment(number);
                }
            }
            Phase::PutSegment => self.put_segment(number),
            Phase::Ready => self.send(config, number),
            Phase::Deleting => self.delete_one(config, number),
            Phase::Sent | Phase::Done | Phase::Stopped => {}
        }
    }

    fn put_segment(&mut self, number: usize) {
        // What a compacted segment lists was noted when it was planned.
        let name = match self.processes[number].entry {
            Some(Entry::Reindex { output, .. }) => output,
            _ => {
                let name = own_name(number, self.processes[number].round);
                self.segment_packs[usize::from(name)] = one(name) as u16;
                name
            }
        };
        self.segments |= one(name);
        self.processes[number].phase = Phase::Ready;
    }

    /// What a process reads: nothing, where a slot that it has not read yet is damaged.
    fn read_log(&mut self, config: &Config, number: usize) -> Option<Log> {
        let synced = self.processes[number].synced;
        let unread = self.damaged >> synced << synced;
        let log = match unread {
            0 => self.log.clone(),
            _ if config.rules.damage => {
                self.processes[number].rest(Phase::Stopped);
                return None;
            }
            _ => self.log.without(unread, &config.rules),
        };
        if config.budget.damages > 0 && unread == 0 {
            self.processes[number].synced = self.log.next();
        }
        Some(log)
    }

    fn look(&mut self, config: &Config, number: usize) {
        let Some(log) = self.read_log(config, number) else { return };
        let view = &*log.view;
        let Some(collector) = number.checked_sub(WRITERS) else {
            self.plan_backup(config, number, view);
            return;
        };
        match config.collectors[collector][usize::from(self.processes[number].round)] {
            Op::Prune => self.plan_prune(config, number, view, (self.packs, self.segments), view.forgotten),
            Op::PruneListed => self.plan_prune(config, number, view, (0, 0), view.forgotten),
            Op::Delete => self.plan_prune(config, number, view, (self.packs, self.segments), 0),
            Op::Expire => {
                let victim = numbers(view.uncollected & !view.forgotten).next();
                let collected = view.forgotten | victim.map_or(0, one);
                self.plan_prune(config, number, view, (self.packs, self.segments), collected);
                if self.processes[number].phase == Phase::Ready && victim.is_some() {
                    self.processes[number].forget = victim;
                    self.processes[number].phase = Phase::Forgetting;
                }
            }
            Op::Collect if view.forgotten == 0 => self.next_round(config, number),
            Op::Collect => self.plan(number, collect(view), 0),
            Op::Repack => self.plan_repack(config, number, view),
            Op::Compact => self.plan_compaction(config, number, view),
        }
    }

    /// Takes over what a parent has, finds the rest in the index, and is to upload what is not there. A backup that was
    /// refused has no parent.
    fn plan_backup(&mut self, config: &Config, number: usize, view: &View) {
        let (writer, round) = (&config.writers[number], self.processes[number].round);
        let parent = view
            .newest_live
            .filter(|parent| writer.parent && round == 0 && content(config, *parent) & writer.content != 0);
        let taken = parent.map_or(0, |parent| content(config, parent) & writer.content);
        let (mut dedup, mut chunks) = (0, 0);
        for chunk in each_chunk(writer.content & !taken) {
            match self.lookup(view, chunk) {
                Some(pack) => dedup |= one(pack),
                None => chunks |= chunk,
            }
        }
        let name = own_name(number, round);
        let own = if chunks == 0 { 0 } else { one(name) };
        let reused = parent.map_or(0, one);
        let entry = Entry::Commit { snapshot: Some(name), segment: own, own, dedup, reused };
        self.plan(number, entry, chunks);
    }

    fn plan(&mut self, number: usize, entry: Entry, chunks: Chunks) {
        let process = &mut self.processes[number];
        process.entry = Some(entry);
        process.chunks = chunks;
        process.phase = if chunks == 0 { Phase::Ready } else { Phase::PutPack };
    }

    /// Keeps one pack for every chunk that a snapshot needs; condemns all others that the index or `stored` shows, whoever
    /// wrote them.
    fn plan_prune(
        &mut self,
        config: &Config,
        number: usize,
        view: &View,
        stored: (Set, Set),
        collected: Set,
    ) {
        let needed = needed(config, view.uncollected & !collected);
        let usable = self.usable(view);
        let mut keep = 0;
        for chunk in each_chunk(needed) {
            // The pack with the least in it that nobody needs: what was repacked goes before what it came from.
            let waste = |pack: &u8| (self.chunks_of(*pack) & !needed).count_ones();
            keep |= numbers(self.holders(usable, chunk)).min_by_key(waste).map_or(0, one);
        }
        let packs = (usable | stored.0) & !view.condemned_packs & !keep;
        let gone = packs | view.condemned_packs;
        let is_dead = |segment: &u8| self.packs_of(one(*segment)) & !gone == 0;
        let dead = numbers(view.live()).filter(is_dead).fold(0, |set, segment| set | one(segment));
        let unknown = stored.1 & !view.live() & !view.condemned_segments;
        let segments = dead | unknown | view.superseded;
        if packs | segments | collected == 0 {
            self.processes[number].rest(Phase::Deleting);
            return;
        }
        let changed = view.changed;
        let process = &mut self.processes[number];
        process.entry = Some(Entry::Condemn { changed, packs, segments, dead, snapshots: collected });
        process.phase = Phase::Ready;
    }

    fn plan_repack(&mut self, config: &Config, number: usize, view: &View) {
        let needed = needed(config, view.uncollected & !view.forgotten);
        let is_mixed = |pack: &u8| {
            let chunks = self.chunks_of(*pack);
            chunks & needed != 0 && chunks & !needed != 0 && self.packs & one(*pack) != 0
        };
        let Some(pack) = numbers(self.usable(view)).find(is_mixed) else {
            self.next_round(config, number);
            return;
        };
        let own = one(own_name(number, 0));
        let chunks = self.chunks_of(pack) & needed;
        self.plan(number, Entry::Commit { snapshot: None, segment: own, own, dedup: 0, reused: 0 }, chunks);
    }

    fn plan_compaction(&mut self, config: &Config, number: usize, view: &View) {
        let inputs = view.live();
        if inputs.count_ones() < 2 {
            self.next_round(config, number);
            return;
        }
        let mut packs = self.usable(view);
        if !config.rules.copies {
            packs = self.without_copies(packs);
        }
        let output = COMPACTED_FROM + (number - WRITERS) as u8;
        self.segment_packs[usize::from(output)] = packs as u16;
        self.plan(number, Entry::Reindex { inputs, output }, 0);
        self.processes[number].phase = Phase::PutSegment;
    }

    /// Leaves out every pack whose chunks lie in the others as well.
    fn without_copies(&self, packs: Set) -> Set {
        let mut kept = packs;
        for pack in numbers(packs) {
            let others = kept & !one(pack);
            if each_chunk(self.chunks_of(pack)).all(|chunk| self.holders(others, chunk) != 0) {
                kept = others;
            }
        }
        kept
    }

    /// Reads to the end, recognises an earlier put that got there after all, validates, and puts.
    fn send(&mut self, config: &Config, number: usize) {
        let Some(log) = self.read_log(config, number) else { return };
        let process = self.processes[number];
        let (attempt, Some(entry)) = ((number as u8, process.round), process.entry) else { return };
        if log.has_attempt(attempt) {
            self.committed(config, number);
            return;
        }
        let entry = match entry {
            // No pack goes with it, so it holds on any state.
            Entry::Condemn { packs: 0, segments: 0, .. } => collect(&log.view),
            entry => entry,
        };
        let mut checked = log.check(entry, &config.rules).map(|()| entry);
        // A collector goes on with its plan where what came since leaves it as good as it was.
        if checked == Err(Refusal::PlanOutdated)
            && let Some(newer) = log.advanced(entry, &config.rules)
        {
            checked = log.check(newer, &config.rules).map(|()| newer);
        }
        let entry = match checked {
            Ok(entry) => entry,
            Err(refusal) => {
                self.processes[number].rest(Phase::Refused(refusal));
                return;
            }
        };
        self.processes[number].entry = Some(entry);
        let put = Slot { attempt, entry };
        if !self.puts.contains(&put) {
            self.puts.push(put);
        }
        self.processes[number].phase = Phase::Sent;
    }

    fn land(&mut self, config: &Config, put: usize, is_bad: bool) {
        let slot = self.puts[put];
        let sender = usize::from(slot.attempt.0);
        let process = self.processes[sender];
        let is_waiting = process.phase == Phase::Sent && process.round == slot.attempt.1;
        if is_bad {
            self.append(config, Slot { entry: Entry::Bad, ..slot });
            if is_waiting {
                // What stands there is not what it meant to say: it ends with an error.
                self.next_round(config, sender);
            }
            return;
        }
        self.append(config, slot);
        if is_waiting {
            self.committed(config, sender);
        }
    }

    fn append_at_once(&mut self, config: &Config, writer: u8, entry: Entry) {
        let attempt = (writer, OPERATOR + self.log.next());
        self.append(config, Slot { attempt, entry });
    }

    /// Puts an entry into the next slot. Whatever else was under way to that slot is refused by the store.
    fn append(&mut self, config: &Config, slot: Slot) {
        let before = self.log.view.clone();
        self.log.push(slot, &config.rules);
        self.puts.clear();
        for process in &mut self.processes {
            if process.phase == Phase::Sent {
                process.phase = Phase::Ready;
            }
        }
        let collected = before.uncollected & !self.view().uncollected;
        self.lost |= collected & self.acked & !before.forgotten;
    }

    /// The sender learns that its entry is in the log.
    fn committed(&mut self, config: &Config, number: usize) {
        if number >= WRITERS {
            if matches!(self.processes[number].entry, Some(Entry::Condemn { .. })) {
                self.processes[number].rest(Phase::Deleting);
            } else {
                self.next_round(config, number);
            }
            return;
        }
        let snapshot = own_name(number, self.processes[number].round);
        self.acked |= one(snapshot);
        let is_there = self.view().uncollected & one(snapshot) != 0;
        let was_forgotten = self.log.slots.iter().any(|slot| slot.entry == Entry::Forget(snapshot));
        if !is_there && !was_forgotten {
            self.lost |= one(snapshot);
        }
        self.processes[number].rest(Phase::Done);
    }

    /// On to the next attempt or operation, if there is one.
    fn next_round(&mut self, config: &Config, number: usize) {
        let rounds = match number.checked_sub(WRITERS) {
            None => TRIES,
            Some(collector) => config.collectors[collector].len() as u8,
        };
        let process: &mut Process = &mut self.processes[number];
        let is_last = process.round + 1 >= rounds;
        process.round += u8::from(!is_last);
        process.rest(if is_last { Phase::Done } else { Phase::Idle });
    }

    /// Packs go one by one, their segments after them.
    fn delete_one(&mut self, config: &Config, number: usize) {
        let Some(log) = self.read_log(config, number) else { return };
        let packs = self.packs & log.view.condemned_packs;
        let segments = self.segments & log.view.condemned_segments;
        if let Some(pack) = numbers(packs).next() {
            self.packs &= !one(pack);
        } else {
            self.segments &= !segments;
            self.next_round(config, number);
        }
    }

    /// Reads one chunk from where it was found. A pack that vanished sends the reader back to the log, if that grew.
    fn read(&mut self) {
        let Reader::Reading { snapshot, synced, known, left } = self.reader else { return };
        let Some(chunk) = each_chunk(left).next() else { return };
        let is_there = self.holders(known & self.packs, chunk) != 0;
        self.reader = if is_there && left == chunk {
            Reader::Done
        } else if is_there {
            Reader::Reading { snapshot, synced, known, left: left & !chunk }
        } else if self.view().uncollected & one(snapshot) == 0 {
            Reader::Done
        } else if synced == self.log.next() {
            Reader::Failed
        } else {
            let known = self.usable(self.view());
            Reader::Reading { snapshot, synced: self.log.next(), known, left }
        };
    }
}

/// Collects what is forgotten.
fn collect(view: &View) -> Entry {
    Entry::Condemn { changed: view.changed, packs: 0, segments: 0, dead: 0, snapshots: view.forgotten }
}

/// The number of the pack, the segment and the snapshot of a writer's attempt, or of what a collector repacked.
fn own_name(number: usize, round: u8) -> u8 {
    match number.checked_sub(WRITERS) {
        None => SEEDS as u8 + number as u8 * TRIES + round,
        Some(collector) => REPACKED_FROM + collector as u8,
    }
}
