//! Values that are stored as they are, or sealed by others: what their bytes mean.

use dr_core::internals::{self, Kind};

use super::case::{Case, cases, to_hex, write};
use super::{REPOSITORY, header};

fn kind_of(name: &str) -> Kind {
    match name {
        "header" => Kind::Header,
        "config" => Kind::Config,
        "key slot" => Kind::KeySlot,
        "wraps" => Kind::Wraps,
        "ring" => Kind::Ring,
        "log entry" => Kind::LogEntry,
        "list" => Kind::List,
        "snapshot" => Kind::Snapshot,
        "entries" => Kind::Entries,
        "references" => Kind::Refs,
        "extents" => Kind::Extents,
        "checkpoint" => Kind::Checkpoint,
        _ => panic!("there is no kind {name}"),
    }
}

#[test]
fn plain_values_decode_as_written() {
    for case in cases("values.txt") {
        let kind = kind_of(case.text("kind"));
        let decoded = internals::decode(kind, &case.hex("bytes"))
            .unwrap_or_else(|error| panic!("{}: {error}", case.title));
        assert_eq!(decoded.fields, case.expected(), "{}", case.title);
        if case.values.iter().all(|(name, _)| name != "not as written") {
            assert_eq!(to_hex(&decoded.encoded), case.text("bytes"), "{}", case.title);
        }
        case.assert_rejects(|bytes| internals::decode(kind, bytes).is_ok());
    }
}

/// Encodes as FORMAT.md, section 1, says, independently of the engine.
#[derive(Default, Clone)]
struct Body(Vec<u8>);

impl Body {
    fn new() -> Body {
        Body(vec![1, 0])
    }

    fn uint(mut self, number: u64) -> Body {
        match number {
            0..251 => self.0.push(number as u8),
            251..0x1_0000 => self.0.extend([&[251][..], &(number as u16).to_le_bytes()].concat()),
            0x1_0000..0x1_0000_0000 => self.0.extend([&[252][..], &(number as u32).to_le_bytes()].concat()),
            _ => self.0.extend([&[253][..], &number.to_le_bytes()].concat()),
        }
        self
    }

    fn uints(self, numbers: &[u64]) -> Body {
        numbers.iter().fold(self, |body, number| body.uint(*number))
    }

    fn int(self, number: i64) -> Body {
        self.uint((number << 1 ^ number >> 63) as u64)
    }

    fn raw(mut self, bytes: &[u8]) -> Body {
        self.0.extend_from_slice(bytes);
        self
    }

    fn bytes(self, bytes: &[u8]) -> Body {
        self.uint(bytes.len() as u64).raw(bytes)
    }

    fn hashes(self, hashes: &[u8]) -> Body {
        hashes.iter().fold(self.uint(hashes.len() as u64), |body, byte| body.raw(&[*byte; 32]))
    }

    fn stream(self, bytes: u64, level: u8, chunks: &[(u8, u64)]) -> Body {
        let body = self.uint(bytes).raw(&[level]).uint(chunks.len() as u64);
        chunks.iter().fold(body, |body, (id, length)| body.raw(&[*id; 32]).uint(*length))
    }

    fn metadata(self, mode: u64) -> Body {
        let times = self.uints(&[mode, 1000, 100]).int(1_700_000_000).uint(999_999_999).int(-1).uint(5);
        times.raw(&[0, 1]).int(3).uints(&[4, 77, 64_768, 2]).raw(&[1]).uint(1).bytes(b"user.a").bytes(b"v")
    }

    /// Ends a body without extensions.
    fn end(self) -> Vec<u8> {
        self.uint(0).0
    }
}

fn entry(kind: u64, payload: &Body) -> Body {
    let start = Body::new().uint(9).raw(&[6; 32]).int(1_700_000_000_000).raw(&[7; 16]).raw(&[8; 16]);
    start.uint(kind).bytes(&payload.0).raw(&[0]).uint(0)
}

pub(super) fn write_all() {
    let key_slot = |costs: [u32; 3], kind: u8, label: &[u8]| {
        let costs = costs.map(u32::to_le_bytes).concat();
        let head = [&b"\x89drkey\r\n"[..], &[1, kind, 1, 0], &REPOSITORY, &costs, &[9; 32]].concat();
        [&head[..], &[label.len() as u8], label, &[10; 32], &[11; 48]].concat()
    };
    let config = [&b"\x89drcfg\r\n"[..], &1u32.to_le_bytes(), &REPOSITORY, &[1, 0, 0, 0]].concat();
    let config = [&config[..], blake3::hash(&config).as_bytes()].concat();
    let wraps = [&[4; 32][..], &[2], &[5; 32], &[6; 48], &[7; 32], &[8; 48]].concat();
    let commit = |place: Body| {
        let record = Body::default().raw(&[1]).raw(&[20; 32]).raw(&[0]).raw(&place.0);
        entry(
            0x8002,
            &record
                .hashes(&[21, 22])
                .uint(1)
                .bytes(b"seg")
                .uint(0)
                .hashes(&[23])
                .uint(1)
                .raw(&[24; 32])
                .hashes(&[25]),
        )
    };
    let empty_commit = entry(
        0x8002,
        &Body::default().raw(&[0]).hashes(&[]).uint(0).uint(0).hashes(&[]).uint(0).hashes(&[]).hashes(&[]),
    );
    let list = Body::new().hashes(&[1, 2]).end();
    let snapshot = Body::new()
        .raw(&[3; 16])
        .int(1_700_000_000)
        .uint(1)
        .int(1_700_000_060)
        .uint(0)
        .bytes(b"host")
        .uint(2)
        .bytes(b"/home")
        .bytes(b"/\xff")
        .uint(1)
        .bytes(b"tag")
        .bytes(b"dr 1")
        .raw(&[1])
        .raw(&[30; 32])
        .raw(&[0])
        .stream(300, 0, &[(31, 300)])
        .uints(&[1, 2, 3, 4, 5, 6, 7, 8, 1 << 40])
        .uint(1)
        .stream(50, 0, &[(32, 50)]);
    let origin = |body: Body, relation: u8, id: u8, slot: u64| {
        body.raw(&[relation]).raw(&REPOSITORY).raw(&[id; 32]).uint(slot)
    };
    let origins = origin(origin(Body::default().uint(2), 0, 33, 7), 1, 34, 1 << 20).0;
    let names = Body::new().uint(1).uint(1000).bytes(b"ann").uint(1).uint(100).bytes(b"users");
    let entries = names
        .clone()
        .uint(8)
        .bytes(b"a")
        .uint(0)
        .uint(8)
        .stream(8, 0, &[(40, 8)])
        .raw(&[0])
        .metadata(0o644)
        .bytes(b"b")
        .uint(0)
        .uint(1 << 40)
        .stream(8, 0, &[(40, 8)])
        .raw(&[1])
        .uint(0)
        .uint(2)
        .uints(&[0, 4, 4096, 4])
        .metadata(0o4755)
        .bytes(b"c")
        .uint(0)
        .uint(1 << 40)
        .stream(8, 0, &[(40, 8)])
        .raw(&[1])
        .uint(1)
        .stream(32, 0, &[(41, 32)])
        .metadata(0o600)
        .bytes(b"d")
        .uint(1)
        .stream(1 << 33, 2, &[(42, 300), (43, 300)])
        .metadata(0o7777)
        .bytes(b"e")
        .uint(2)
        .bytes(b"../\xff")
        .metadata(0o777)
        .bytes(b"f")
        .uint(3)
        .uint(259)
        .metadata(0o600)
        .bytes(b"g")
        .uint(5)
        .metadata(0o600)
        .bytes(b"\xff")
        .uint(6)
        .metadata(0o600)
        .end();
    let one =
        |name: &[u8], mode: u64| to_hex(&names.clone().uint(1).bytes(name).uint(5).metadata(mode).end());
    let two = |a: &[u8], b: &[u8]| {
        to_hex(&names.clone().uint(2).bytes(a).uint(5).metadata(0).bytes(b).uint(5).metadata(0).end())
    };
    let mut replaced: Vec<String> = [
        one(b"", 0),
        one(b".", 0),
        one(b"..", 0),
        one(b"a/b", 0),
        one(b"a\0", 0),
        one(&[b'n'; 256], 0),
        one(b"a", 0o10000),
        two(b"b", b"a"),
        two(b"a", b"a"),
    ]
    .into_iter()
    .map(|hex| format!("replace {hex}"))
    .collect();
    let mut cases = vec![
        value(
            "config",
            "config",
            config,
            &["flip 0", "flip 64", "flip 100", "flip 232", "flip 511", "truncate 63", "append 00"],
        ),
        value(
            "header",
            "header",
            header(2, 1),
            &["flip 0", "flip 64", "flip 75", "flip 80", "flip 88", "flip 519", "truncate 65"],
        ),
        value(
            "header of suite 2",
            "header",
            header(2, 2),
            &["flip 64", "flip 75", "flip 80", "flip 81", "flip 88", "truncate 65"],
        ),
        value(
            "key slot of a password",
            "key slot",
            key_slot([65_536, 3, 4], 1, b"laptop"),
            &["truncate 158", "append 00", "flip 88"],
        ),
        value(
            "key slot of a key",
            "key slot",
            key_slot([0; 3], 2, b""),
            &["flip 224", "flip 583", "truncate 10"],
        ),
        value("wraps", "wraps", wraps, &["flip 256", "truncate 192", "append 00"]),
        value(
            "genesis",
            "log entry",
            entry(0x8001, &Body::default().raw(&[1; 64])).end(),
            &["truncate 20", "append 00", "flip 0"],
        ),
        value(
            "commit, the body in the slot",
            "log entry",
            commit(Body::default().uint(0).bytes(b"sealed")).end(),
            &["append 00"],
        ),
        value(
            "commit, the body in tree chunks",
            "log entry",
            commit(Body::default().uint(1).stream(5, 0, &[(50, 5)])).end(),
            &["append 00"],
        ),
        value("commit without a snapshot", "log entry", empty_commit.end(), &["append 00"]),
        value("forget", "log entry", entry(0x8003, &Body::default().hashes(&[1, 2])).end(), &[]),
        value("unforget", "log entry", entry(0x8004, &Body::default().hashes(&[1])).end(), &[]),
        value(
            "condemn",
            "log entry",
            entry(0x8005, &Body::default().uint(0).hashes(&[1]).uint(1).raw(&[2; 32]).hashes(&[3]).raw(&[1]))
                .end(),
            &[],
        ),
        value(
            "reindex",
            "log entry",
            entry(0x8006, &Body::default().hashes(&[1, 2]).hashes(&[3]).uint(0).hashes(&[4])).end(),
            &[],
        ),
        value("checkpoint", "log entry", entry(7, &Body::default().uint(1000).raw(&[1; 32])).end(), &[]),
        value("keys", "log entry", entry(0x8008, &Body::default().uint(1).raw(&[1; 32])).end(), &[]),
        value("protect", "log entry", entry(0x8009, &Body::default().hashes(&[1, 2])).end(), &[]),
        value("unprotect", "log entry", entry(0x800a, &Body::default().hashes(&[1])).end(), &[]),
        value(
            "tag",
            "log entry",
            entry(0x800b, &Body::default().hashes(&[1, 2]).uint(2).bytes(b"kept").bytes(b"a b")).end(),
            &[],
        ),
        value(
            "hold",
            "log entry",
            entry(0x800c, &Body::default().uint(14 * 24 * 3600)).end(),
            &["append 00"],
        ),
        value("unknown kind", "log entry", entry(99, &Body::default()).end(), &[]),
        value("unknown critical kind", "log entry", entry(0x8063, &Body::default()).end(), &[]),
        value("extension", "log entry", entry(99, &Body::default()).uint(1).uint(7).bytes(b"x").0, &[])
            .with("not as written", ""),
        value(
            "critical extension",
            "log entry",
            entry(99, &Body::default()).uint(1).uint(0x8007).bytes(b"x").0,
            &[],
        )
        .with("not as written", ""),
        value("list", "list", list, &["append 00", "truncate 60", "flip 25"]),
        value("snapshot", "snapshot", snapshot.clone().end(), &["append 00", "truncate 60", "flip 0"]),
        value(
            "snapshot made of others",
            "snapshot",
            snapshot.uint(1).uint(1).bytes(&origins).0,
            &["append 00"],
        ),
        value(
            "references",
            "references",
            Body::new().uint(2).raw(&[1; 32]).uint(16 << 20).raw(&[2; 32]).uint(1).end(),
            &["append 00"],
        ),
        value(
            "extents",
            "extents",
            [4u64, 8, 100, 1].map(u64::to_le_bytes).concat(),
            &["append 00", "truncate 31"],
        ),
    ];
    cases.extend(checkpoints());
    let references = &mut cases.iter_mut().find(|case| case.title == "references").unwrap().values;
    for refused in [Body::new().uint(0).end(), Body::new().uint(1).raw(&[1; 32]).uint(0).end()] {
        references.push(("reject".to_owned(), format!("replace {}", to_hex(&refused))));
    }
    let unsorted = Body::new().uint(2).uint(2).bytes(b"a").uint(1).bytes(b"b").uint(0).uint(0).end();
    replaced.push(format!("replace {}", to_hex(&unsorted)));
    let rejects: Vec<&str> =
        replaced.iter().map(String::as_str).chain(["append 00", "truncate 100", "flip 0"]).collect();
    cases.push(value("entries of every kind", "entries", entries, &rejects));
    write(
        "values.txt",
        "Values that decode from their bytes alone: FORMAT.md, sections 3 to 6 and 10 to 13.",
        &cases,
    );
}

/// Checkpoints of an empty log and of a full one, and such as a reader must refuse.
fn checkpoints() -> [Case; 2] {
    let head = |through: u64, changed: u64| {
        let head = Body::new().uint(through).raw(&[1; 32]).int(1_700_000_000_000).uint(changed);
        head.raw(&[1]).raw(&[2; 32]).raw(&[3; 32]).raw(&[1]).uint(2).raw(&[4; 32])
    };
    let snapshot = |body: Body, id: u8, slot: u64, place: &Body| {
        body.raw(&[id; 32]).raw(&[0]).raw(&place.0).uint(slot).int(1000)
    };
    let snapshots = |body: Body, slots: [u64; 2]| {
        let inline = Body::default().uint(0).bytes(b"sealed");
        let stream = Body::default().uint(1).stream(5, 0, &[(50, 5)]);
        // With all that is optional, and with nothing of it.
        let first = snapshot(body.uint(2), 20, slots[0], &inline);
        let first = first.raw(&[1]).int(-5).raw(&[1]).uint(8).raw(&[0, 1]).uint(2).bytes(b"a").bytes(b"b");
        snapshot(first, 21, slots[1], &stream).raw(&[0, 0, 1, 0])
    };
    let with_holds = |body: Body, condemned: [u8; 2], attempts: [u64; 2], holds: [u64; 2]| {
        let segments = body.uint(2).uint(0).raw(&[30; 32]).uint(1).bytes(b"seg");
        let condemned = condemned
            .iter()
            .fold(segments.hashes(&[31, 32]).uint(2), |body, name| body.raw(&[*name; 32]).uint(300));
        let attempts = attempts.iter().fold(condemned.raw(&[1]).uint(7).uint(2), |body, slot| {
            body.uint(*slot).raw(&[7; 16]).raw(&[*slot as u8; 16])
        });
        let all = attempts.hashes(&[35]).uint(1).uint(6).raw(&[36; 32]).uints(&[1, 4]);
        let all = all.uint(1).uint(900).uint(800).uint(1).uint(990).uint(0).hashes(&[37]);
        holds.iter().fold(all.uint(2), |body, slot| body.uint(*slot).uint(*slot % 1000 * 86_400)).end()
    };
    let rest = |body, condemned, attempts| with_holds(body, condemned, attempts, [14, 30]);
    let full = rest(snapshots(head(1000, 999), [6, 7]), [33, 34], [998, 1000]);
    let refused = [
        rest(snapshots(head(1000, 1002), [6, 7]), [33, 34], [998, 1000]),
        rest(snapshots(head(1000, 999), [7, 6]), [33, 34], [998, 1000]),
        rest(snapshots(head(1000, 999), [6, 1001]), [33, 34], [998, 1000]),
        rest(snapshots(head(1000, 999), [6, 7]), [34, 33], [998, 1000]),
        rest(snapshots(head(1000, 999), [6, 7]), [33, 33], [998, 1000]),
        rest(snapshots(head(1000, 999), [6, 7]), [33, 34], [1000, 998]),
        rest(snapshots(head(1000, 999), [6, 7]), [33, 34], [998, 1001]),
        with_holds(snapshots(head(1000, 999), [6, 7]), [33, 34], [998, 1000], [30, 14]),
        with_holds(snapshots(head(1000, 999), [6, 7]), [33, 34], [998, 1000], [14, 1001]),
        // Longer than ten years.
        with_holds(snapshots(head(1000, 999), [6, 7]), [33, 34], [998, 1000], [14, 13]),
    ]
    .map(|bytes| format!("replace {}", to_hex(&bytes)));
    let rejects: Vec<&str> =
        refused.iter().map(String::as_str).chain(["append 00", "truncate 100", "flip 0"]).collect();
    let empty = Body::new().uint(0).raw(&[1; 32]).int(0).raw(&[0; 15]).end();
    [
        value("checkpoint of much", "checkpoint", full, &rejects),
        value("checkpoint of little", "checkpoint", empty, &[]),
    ]
}

/// A value, what it means, and changes that must be refused.
fn value(title: &str, kind: &str, bytes: Vec<u8>, rejects: &[&str]) -> Case {
    let decoded = internals::decode(kind_of(kind), &bytes).unwrap_or_else(|error| panic!("{title}: {error}"));
    let case = Case::new(title).with("kind", kind).with_hex("bytes", &bytes).meaning(decoded.fields);
    rejects.iter().fold(case, |case, reject| case.with("reject", reject))
}
