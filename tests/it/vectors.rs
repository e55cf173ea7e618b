//! The vectors in `tests/vectors`: stored bytes and what they mean, which this program must read for ever. The reading
//! tests take every case of a file; `DR_WRITE_VECTORS=1` writes the files anew, for a new version of the format.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dr_core::internals::{self, Class, Fields, ForgedFrame, Keys, Kind, Params, Single};
use dr_core::{ChunkId, Credentials, ObjectHash, Repository, RepositoryOptions, Result, SnapshotFilter};
use dr_store::{MemoryStore, Name, PutMode, Store};
use dr_tests::repo::with_context;
use dr_tests::{TestRepo, noise};

const REPOSITORY: [u8; 16] = [1; 16];
const EPOCH: [u8; 32] = [2; 32];
const DOMAIN: [u8; 32] = [3; 32];

fn keys() -> Keys {
    Keys::fixed(REPOSITORY, EPOCH, DOMAIN, Params::DEFAULT)
}

/// One section of a file: `name = value` lines in order.
#[derive(Debug, Default, Clone)]
struct Case {
    title: String,
    values: Fields,
}

impl Case {
    fn new(title: &str) -> Case {
        Case { title: title.to_owned(), values: Fields::new() }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Case {
        self.values.push((name.to_owned(), value.to_string()));
        self
    }

    fn with_hex(self, name: &str, bytes: &[u8]) -> Case {
        self.with(name, to_hex(bytes))
    }

    /// What the bytes mean.
    fn meaning(mut self, fields: Fields) -> Case {
        self.values.extend(fields.into_iter().map(|(name, value)| (format!("is {name}"), value)));
        self
    }

    fn text(&self, name: &str) -> &str {
        let found = self.values.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("[{}] has no {name}", self.title), |(_, value)| value)
    }

    fn hex(&self, name: &str) -> Vec<u8> {
        from_hex(self.text(name))
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.hex(name).try_into().unwrap()
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> N {
        self.text(name).parse().unwrap_or_else(|_| panic!("[{}]: {name} is no number", self.title))
    }

    fn all<'c>(&'c self, name: &'c str) -> impl Iterator<Item = &'c str> {
        self.values.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn expected(&self) -> Fields {
        let meaning =
            |(name, value): &(String, String)| Some((name.strip_prefix("is ")?.to_owned(), value.clone()));
        self.values.iter().filter_map(meaning).collect()
    }

    /// Stops the test unless every `reject` line's change of the bytes is refused.
    fn assert_rejects(&self, read: impl Fn(&[u8]) -> bool) {
        let bytes = self.hex("bytes");
        for change in self.all("reject") {
            assert!(!read(&changed(&bytes, change)), "[{}] is read after `{change}`", self.title);
        }
    }
}

/// The bytes after `flip BIT`, `truncate LENGTH`, `append HEX` or `replace HEX`.
fn changed(bytes: &[u8], change: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match change.split_once(' ').unwrap() {
        ("flip", bit) => {
            let bit: usize = bit.parse().unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        ("truncate", length) => bytes.truncate(length.parse().unwrap()),
        ("append", more) => bytes.extend(from_hex(more)),
        ("replace", other) => bytes = from_hex(other),
        _ => panic!("there is no change `{change}`"),
    }
    bytes
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn cases(file: &str) -> Vec<Case> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[') {
            Some(title) => cases.push(Case::new(title.trim_end_matches(']'))),
            None => {
                let (name, value) = line.split_once(" =").unwrap();
                cases.last_mut().unwrap().values.push((name.to_owned(), value.trim_start().to_owned()));
            }
        }
    }
    assert!(!cases.is_empty(), "{file} is empty");
    cases
}

fn write(file: &str, about: &str, cases: &[Case]) {
    let mut text = format!("# {about}\n");
    for case in cases {
        write!(text, "\n[{}]\n", case.title).unwrap();
        case.values
            .iter()
            .for_each(|(name, value)| writeln!(text, "{}", format!("{name} = {value}").trim_end()).unwrap());
    }
    fs::write(folder().join(file), text).unwrap();
}

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
        _ => panic!("there is no kind {name}"),
    }
}

#[test]
fn encodings_are_as_written() {
    let written: Fields = cases("encoding.txt")[0].values.clone();
    assert_eq!(internals::samples(), written);
    for case in &cases("encoding.txt")[1..] {
        let read = internals::decode_sample(case.text("type"), &case.hex("bytes"));
        match case.text("value") {
            "error" => assert!(read.is_err(), "{}: {read:?}", case.title),
            value => assert_eq!(read.unwrap(), value, "{}", case.title),
        }
    }
}

#[test]
fn derivations_are_as_written() {
    for case in cases("derivations.txt") {
        let keys =
            Keys::fixed(case.array("repository"), case.array("epoch"), case.array("domain"), Params::DEFAULT);
        let mut found = keys.derived().unwrap();
        found.push(("id of data abc".to_owned(), keys.chunk_id(Class::Data, b"abc").unwrap().to_string()));
        found.push(("id of tree abc".to_owned(), keys.chunk_id(Class::Tree, b"abc").unwrap().to_string()));
        assert_eq!(found, case.expected()[..9]);
        // The object's key: computed here from the key-encryption key, and its commitment by the engine.
        let header = case.hex("header");
        assert_eq!(object_keys(&case.array("is kek.log"), &header)[..], case.hex("object keys"));
        assert_eq!(keys.commitment(&header).unwrap()[..], case.hex("object keys")[32..64]);
    }
}

fn object_keys(kek: &[u8; 32], header: &[u8]) -> [u8; 96] {
    let mut output = [0; 96];
    blake3::Hasher::new_keyed(kek).update(header).finalize_xof().fill(&mut output);
    output
}

#[test]
fn streams_are_cut_as_written() {
    for case in cases("chunker.txt") {
        let params = Params {
            min_bytes: case.number("min"),
            average_bytes: case.number("average"),
            max_bytes: case.number("max"),
            normalisation: case.number("normalisation"),
        };
        let key = case.array("key");
        let cutter = internals::cutter(&key, params);
        if case.text("cuts") == "error" {
            assert!(cutter.is_err(), "{}", case.title);
        } else {
            assert_eq!(cuts(&case, &cutter.unwrap()), case.text("cuts"), "{}", case.title);
        }
    }
}

/// Where chunks end in `input bytes` bytes of the BLAKE3 output of `input seed`, each modulo `input alphabet`.
fn cuts(case: &Case, cut: &dyn Fn(&[u8]) -> usize) -> String {
    let mut source = vec![0; case.number("input bytes")];
    blake3::Hasher::new().update(case.text("input seed").as_bytes()).finalize_xof().fill(&mut source);
    let alphabet: u16 = case.number("input alphabet");
    source.iter_mut().for_each(|byte| *byte = (u16::from(*byte) % alphabet) as u8);
    let (mut ends, mut end) = (Vec::new(), 0);
    while end < source.len() {
        end += cut(&source[end..]);
        ends.push(end.to_string());
    }
    ends.join(" ")
}

#[test]
fn lengths_are_padded_as_written() {
    for (bytes, padded) in &cases("padding.txt")[0].values {
        let (object, pack) = internals::padded(bytes.parse().unwrap());
        assert_eq!(format!("{object} {pack}"), *padded, "{bytes}");
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

#[test]
fn key_slots_and_the_ring_open_as_written() {
    for case in cases("key_slots.txt") {
        let bytes = case.hex("bytes");
        if case.title == "ring" {
            let slot = ObjectHash::from_hex(case.text("slot")).unwrap();
            let open = |bytes: &[u8]| Keys::open_ring(&slot, case.array("slot key"), bytes);
            let (keys, body) = open(&bytes).unwrap();
            let mut found = internals::decode(Kind::Ring, &body).unwrap().fields;
            found.extend(keys.derived().unwrap());
            assert_eq!(found, case.expected());
            case.assert_rejects(|bytes| open(bytes).is_ok());
        } else {
            let credentials = credentials(&case);
            let opened = internals::open_key_slot(&bytes, &credentials).unwrap();
            assert_eq!(opened.map(|key| to_hex(&key)).as_deref(), Some(case.text("key")), "{}", case.title);
            case.assert_rejects(|bytes| matches!(internals::open_key_slot(bytes, &credentials), Ok(Some(_))));
        }
    }
}

fn credentials(case: &Case) -> Credentials {
    match case.text("with").split_once(' ').unwrap() {
        ("password", password) => Credentials::password(password).unwrap(),
        (_, key) => Credentials::key_file_text(key.as_bytes()).unwrap(),
    }
}

#[test]
fn sealed_objects_open_as_written() {
    for case in cases("sealed.txt") {
        let location = case.number("location");
        let open = |bytes: &[u8], location| keys().open(single_of(case.text("kind")), location, bytes);
        assert_eq!(to_hex(&open(&case.hex("bytes"), location).unwrap()), case.text("body"), "{}", case.title);
        assert!(open(&case.hex("bytes"), location + 1).is_err());
        case.assert_rejects(|bytes| open(bytes, location).is_ok());
    }
}

fn single_of(name: &str) -> Single {
    match name {
        "slot" => Single::Slot,
        "list" => Single::List,
        "snapshot" => Single::Snapshot,
        _ => panic!("there is no kind {name}"),
    }
}

#[test]
fn packs_open_as_written() {
    for case in cases("pack.txt") {
        let class = if case.text("class") == "data" { Class::Data } else { Class::Tree };
        let (fields, raws) = keys().open_pack(class, &case.hex("bytes")).unwrap();
        assert_eq!(fields, case.expected());
        let raws: Vec<String> = raws.iter().map(|raw| to_hex(raw)).collect();
        assert_eq!(raws, case.all("raw").collect::<Vec<_>>());
        case.assert_rejects(|bytes| keys().open_pack(class, bytes).is_ok());
    }
}

#[test]
fn segments_open_as_written() {
    for case in cases("segment.txt") {
        let (fields, table) = keys().open_segment(&case.hex("bytes")).unwrap();
        assert_eq!(fields, case.expected());
        let ids: Vec<ChunkId> = fields
            .iter()
            .filter(|(name, _)| name.starts_with("chunk."))
            .map(|(_, value)| ChunkId::from_hex(&value[..64]).unwrap())
            .collect();
        assert!(internals::look_up(table, &ids).unwrap().iter().all(|places| *places == 1));
        case.assert_rejects(|bytes| keys().open_segment(bytes).is_ok());
    }
}

/// The objects and files of the frozen repository.
fn frozen() -> (Case, Case) {
    let mut cases = cases("repository.txt");
    let files = cases.pop().unwrap();
    (cases.pop().unwrap(), files)
}

#[test]
fn the_frozen_repository_restores() {
    let (objects, files) = frozen();
    let store = Arc::new(MemoryStore::new());
    for (name, bytes) in &objects.values {
        let name = Name::new(name.clone()).unwrap();
        store.put(&name, from_hex(bytes).into(), PutMode::Create).unwrap();
    }
    let repository = Repository::open(store, &dr_tests::key(), RepositoryOptions::new()).unwrap();
    let report =
        with_context(|ctx| repository.check(&dr_core::CheckOptions::new().read_data(), ctx)).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
    let room = tempfile::tempdir().unwrap();
    let restored =
        with_context(|ctx| repository.restore(&snapshot, room.path(), &dr_core::RestoreOptions::new(), ctx))
            .unwrap();
    assert_eq!(restored.files, files.values.len() as u64);
    for (path, content) in &files.values {
        let found = fs::read(room.path().join(path.trim_start_matches('/'))).unwrap();
        assert_eq!(blake3::hash(&found).to_string(), *content, "{path}");
    }
}

#[test]
fn another_reader_written_from_the_document_reads_the_frozen_repository() {
    let python = Command::new("python3").args(["-c", "import blake3, cryptography, zstandard"]).output();
    if !python.is_ok_and(|run| run.status.success()) {
        return skip(
            "python-reader: python3 with the packages blake3, cryptography and zstandard is not there",
        );
    }
    let (objects, files) = frozen();
    let room = tempfile::tempdir().unwrap();
    for (name, bytes) in &objects.values {
        let path = room.path().join("repository").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, from_hex(bytes)).unwrap();
    }
    let key = room.path().join("key");
    fs::write(&key, Credentials::key_file_for(&[42; 32])).unwrap();
    for (path, content) in &files.values {
        let mut command = Command::new("python3");
        command.arg(folder().join("reader.py")).arg(room.path().join("repository")).arg(&key).arg(path);
        let run = command.output().unwrap();
        assert!(run.status.success(), "{path}: {}", String::from_utf8_lossy(&run.stderr));
        assert_eq!(blake3::hash(&run.stdout).to_string(), *content, "{path}");
    }
}

fn skip(why: &str) {
    use std::io::Write;
    if let Some(file) = std::env::var_os("DR_TEST_SKIPS") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "SKIPPED {why}").unwrap();
    }
}

#[test]
fn vectors_are_written_on_request() {
    if std::env::var_os("DR_WRITE_VECTORS").is_none() {
        return;
    }
    write_encoding();
    write_derivations();
    write_chunker();
    let lengths = [
        0,
        1,
        255,
        256,
        257,
        1000,
        4095,
        4096,
        65_535,
        65_536,
        65_537,
        100_000,
        1_048_575,
        1_048_576,
        1_048_577,
        33_554_433,
        268_435_456u64,
    ];
    let padding = lengths.iter().fold(Case::new("length = padded object, padded pack"), |case, bytes| {
        let (object, pack) = internals::padded(*bytes);
        case.with(&bytes.to_string(), format!("{object} {pack}"))
    });
    write("padding.txt", "Padded lengths: FORMAT.md, sections 7 and 8.", &[padding]);
    write_values();
    write_sealed();
    write_packs();
    write_repository().unwrap();
}

fn write_encoding() {
    let mut written = Case::new("type value = bytes");
    written.values = internals::samples();
    let mut cases = vec![written];
    for (kind, bytes, value) in [
        ("u16", "fb0500", "5"),
        ("u64", "fd0500000000000000", "5"),
        ("i64", "fb0200", "1"),
        ("option of u32", "0107", "Some(7)"),
        ("list of u64", "020102", "[1, 2]"),
        ("bool", "02", "error"),
        ("u16", "fc05000000", "error"),
        ("u32", "fd0500000000000000", "error"),
        ("u64", "fe00000000000000000000000000000000", "error"),
        ("u64", "ff", "error"),
        ("u64", "fb05", "error"),
        ("u64", "", "error"),
        ("u64", "0500", "error"),
        ("option of u32", "02", "error"),
        ("list of u64", "0201", "error"),
        ("list of u64", "fdffffffffffffff7f01", "error"),
        ("text", "01ff", "error"),
        ("id", "0000", "error"),
    ] {
        let title = format!("{kind} {bytes}");
        cases.push(Case::new(&title).with("type", kind).with("bytes", bytes).with("value", value));
    }
    write("encoding.txt", "The encoding of bodies: FORMAT.md, section 1.", &cases);
}

fn write_derivations() {
    let keys = keys();
    let header = header(5);
    let derived = keys.derived().unwrap();
    let kek: [u8; 32] =
        from_hex(&derived.iter().find(|(name, _)| name == "kek.log").unwrap().1).try_into().unwrap();
    let case = Case::new("one epoch, one domain")
        .with_hex("repository", &REPOSITORY)
        .with_hex("epoch", &EPOCH)
        .with_hex("domain", &DOMAIN)
        .with_hex("header", &header)
        .with_hex("object keys", &object_keys(&kek, &header))
        .meaning(derived)
        .with("is id of data abc", keys.chunk_id(Class::Data, b"abc").unwrap())
        .with("is id of tree abc", keys.chunk_id(Class::Tree, b"abc").unwrap());
    write("derivations.txt", "Derived keys and ids: FORMAT.md, sections 5 and 6.", &[case]);
}

/// The header of an object of epoch 0 whose salt is 32 bytes of 4.
fn header(kind: u8) -> Vec<u8> {
    [&b"\x89drobj\r\n"[..], &[1, kind, 1, 0], &[0; 4], &REPOSITORY, &[4; 32], &[0; 2]].concat()
}

fn write_chunker() {
    let case = |title: &str, key: u8, params: [u32; 4], input: (&str, usize, u16)| {
        let case = Case::new(title)
            .with_hex("key", &[key; 32])
            .with("min", params[0])
            .with("average", params[1])
            .with("max", params[2])
            .with("normalisation", params[3])
            .with("input seed", input.0)
            .with("input bytes", input.1)
            .with("input alphabet", input.2);
        let params = Params {
            min_bytes: params[0],
            average_bytes: params[1],
            max_bytes: params[2],
            normalisation: params[3] as u8,
        };
        let ends = internals::cutter(&[key; 32], params).map_or("error".to_owned(), |cut| cuts(&case, &cut));
        case.with("cuts", ends)
    };
    let small = [64, 256, 1024, 2];
    let default = [128 << 10, 512 << 10, 2 << 20, 2];
    write(
        "chunker.txt",
        "Where streams are cut: FORMAT.md, section 13. The input is BLAKE3 output of the seed, each byte modulo the alphabet.",
        &[
            case("small", 1, small, ("dr", 20_001, 256)),
            case("small, another key", 2, small, ("dr", 20_001, 256)),
            case("few values", 1, small, ("dr", 20_000, 2)),
            case("one value", 1, small, ("dr", 5000, 1)),
            case("shorter than the minimum", 1, small, ("dr", 64, 256)),
            case("odd rests", 1, [64, 128, 256, 0], ("odd", 4097, 256)),
            case("no normalisation", 3, [64, 4096, 16_384, 0], ("dr", 100_000, 256)),
            case("defaults", 1, default, ("dr", 8 << 20, 256)),
            case("minimum too small", 1, [62, 256, 1024, 2], ("dr", 1, 256)),
            case("average no power of two", 1, [64, 258, 1024, 2], ("dr", 1, 256)),
            case("maximum too large", 1, [64, 256, (16 << 20) + 2, 2], ("dr", 1, 256)),
            case("odd maximum", 1, [64, 256, 1023, 2], ("dr", 1, 256)),
            case("too much normalisation", 1, [64, 256, 1024, 5], ("dr", 1, 256)),
        ],
    );
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

fn write_values() {
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
            header(2),
            &["flip 0", "flip 64", "flip 75", "flip 80", "flip 88", "flip 519", "truncate 65"],
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
            entry(0x8005, &Body::default().uint(0).hashes(&[1]).uint(1).raw(&[2; 32]).hashes(&[3])).end(),
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
        value("snapshot", "snapshot", snapshot.end(), &["append 00", "truncate 60", "flip 0"]),
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

/// A value, what it means, and changes that must be refused.
fn value(title: &str, kind: &str, bytes: Vec<u8>, rejects: &[&str]) -> Case {
    let decoded = internals::decode(kind_of(kind), &bytes).unwrap_or_else(|error| panic!("{title}: {error}"));
    let case = Case::new(title).with("kind", kind).with_hex("bytes", &bytes).meaning(decoded.fields);
    rejects.iter().fold(case, |case, reject| case.with("reject", reject))
}

fn write_sealed() {
    let mut cases = Vec::new();
    for (kind, location, body) in
        [("slot", 7, &b"a slot's body"[..]), ("list", 0, b""), ("snapshot", 0, &[5; 300])]
    {
        let bytes = keys().seal(single_of(kind), location, body).unwrap();
        let last = bytes.len() * 8 - 1;
        cases.push(
            Case::new(kind)
                .with("kind", kind)
                .with("location", location)
                .with_hex("bytes", &bytes)
                .with_hex("body", body)
                .with("reject", "flip 72")
                .with("reject", "flip 300")
                .with("reject", "flip 530")
                .with("reject", "flip 800")
                .with("reject", format!("flip {last}"))
                .with("reject", format!("truncate {}", bytes.len() - 1))
                .with("reject", "truncate 97")
                .with("reject", "append 00"),
        );
    }
    write("sealed.txt", "Single objects under the keys of derivations.txt: FORMAT.md, section 7.", &cases);
}

/// True frames, every other one compressed.
fn frames(count: u32, chunks_each: u32) -> Vec<ForgedFrame> {
    let chunk = |frame: u32, number: u32| format!("{frame} {number};").into_bytes();
    let frame = |frame: u32| {
        let chunks: Vec<Vec<u8>> = (0..chunks_each).map(|number| chunk(frame, number)).collect();
        let raw = chunks.concat();
        ForgedFrame {
            is_zstd: frame % 2 == 1,
            raw_bytes: raw.len() as u32,
            bytes: if frame % 2 == 1 { zstd_of(&raw) } else { raw },
            chunks: chunks
                .iter()
                .map(|chunk| (keys().chunk_id(Class::Data, chunk).unwrap(), chunk.len() as u32))
                .collect(),
        }
    };
    (0..count).map(frame).collect()
}

/// A zstd frame of one raw block: RFC 8878.
fn zstd_of(raw: &[u8]) -> Vec<u8> {
    let block = (1 | (raw.len() as u32) << 3).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &(raw.len() as u32).to_le_bytes(), &block[..3], raw].concat()
}

fn write_packs() {
    let bytes = keys().seal_pack(Class::Data, frames(3, 4)).unwrap();
    let (fields, raws) = keys().open_pack(Class::Data, &bytes).unwrap();
    let mut case = Case::new("three frames").with("class", "data").with_hex("bytes", &bytes).meaning(fields);
    for raw in raws {
        case = case.with_hex("raw", &raw);
    }
    // Header, commitment, frames are left to the frames' own tags; padding, footer, trailer.
    for reject in
        ["flip 72", "flip 600", "flip 8000", "flip 522000", "flip 524287", "truncate 65535", "append 00"]
    {
        case = case.with("reject", reject);
    }
    write("pack.txt", "A pack under the keys of derivations.txt: FORMAT.md, section 8.", &[case]);
    let mut cases = Vec::new();
    for (title, count, chunks) in [("without a filter", 2, 3), ("with a filter", 26, 10)] {
        let (bytes, ..) = keys().seal_segment(Class::Data, frames(count, chunks)).unwrap();
        let (fields, _) = keys().open_segment(&bytes).unwrap();
        let case = Case::new(title).with_hex("bytes", &bytes).meaning(fields);
        let last = bytes.len() * 8 - 1;
        let rejects = [72, 600, 800, last / 2, last - 600, last].map(|bit| format!("flip {bit}"));
        let case = rejects.iter().fold(case, |case, reject| case.with("reject", reject));
        cases.push(case.with("reject", "truncate 100").with("reject", "append 00"));
    }
    write("segment.txt", "Index segments under the keys of derivations.txt: FORMAT.md, section 9.", &cases);
}

/// A repository made by the engine as it was when this was written, its key slot and ring, and one of a password.
fn write_repository() -> Result<()> {
    let room = tempfile::tempdir().unwrap();
    let source = room.path().join("source");
    let files: [(&str, Vec<u8>); 4] = [
        ("d/e/small", b"small".to_vec()),
        ("empty", vec![]),
        ("text", b"text ".repeat(2000)),
        ("z", noise(1, 3000)),
    ];
    let repo = TestRepo::in_memory();
    for (path, content) in &files {
        fs::create_dir_all(source.join(path).parent().unwrap()).unwrap();
        fs::write(source.join(path), content).unwrap();
    }
    let holes = fs::File::create(source.join("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"data", 500_000).unwrap();
    std::os::unix::fs::symlink("text", source.join("link")).unwrap();
    assert!(repo.backup(&[&source])?.is_complete());
    let mut objects = Case::new("objects");
    repo.store.list("", None, &mut |meta| {
        objects.values.push((meta.name.to_string(), to_hex(&repo.store.get(&meta.name)?)));
        Ok(())
    })?;
    objects.values.sort();
    let mut contents = Case::new("files");
    for path in ["d/e/small", "empty", "holes", "text", "z"] {
        let content = fs::read(source.join(path)).unwrap();
        contents = contents.with(source.join(path).to_str().unwrap(), blake3::hash(&content));
    }
    write_key_slots(&objects)?;
    let about =
        "A whole repository, its key 32 bytes of 42 (2a), and the BLAKE3 of the files in its snapshot.";
    write("repository.txt", about, &[objects, contents]);
    Ok(())
}

fn write_key_slots(objects: &Case) -> Result<()> {
    let object = |folder: &str| {
        let found = objects.values.iter().find(|(name, _)| name.starts_with(folder));
        found.map(|(name, bytes)| (name[folder.len()..].to_owned(), from_hex(bytes))).unwrap()
    };
    let (slot, slot_bytes) = object("keys/");
    let (_, ring) = object("ring/");
    let slot_key = internals::open_key_slot(&slot_bytes, &dr_tests::key())?.unwrap();
    let (keys, body) = Keys::open_ring(&ObjectHash::from_hex(&slot).unwrap(), slot_key, &ring)?;
    let slot_case = |title: &str, with: &str, bytes: &[u8], key: &[u8; 32]| {
        let case = Case::new(title).with("with", with).with_hex("bytes", bytes).with_hex("key", key);
        let last = bytes.len() * 8 - 1;
        let case = case
            .with("reject", "flip 330")
            .with("reject", format!("flip {last}"))
            .with("reject", "append 00");
        // A cost of 2^32 - 1 lanes, 5 GiB, or no passes.
        let costs = [("ffffffff", 36, "lanes"), ("00005000", 28, "memory"), ("00000000", 32, "passes")];
        costs.into_iter().fold(case, |case, (cost, at, _)| {
            let mut planted = bytes.to_vec();
            planted[9] = 1;
            planted[at..at + 4].copy_from_slice(&from_hex(cost));
            case.with("reject", format!("replace {}", to_hex(&planted)))
        })
    };
    let (password, password_key) =
        internals::seal_key_slot(REPOSITORY, &Credentials::password("correct horse")?, "laptop")?;
    let key_text = format!("key {}", to_hex(&[42; 32]));
    let ring_case = Case::new("ring")
        .with("slot", slot)
        .with_hex("slot key", &slot_key)
        .with_hex("bytes", &ring)
        .meaning(internals::decode(Kind::Ring, &body)?.fields)
        .meaning(keys.derived()?)
        .with("reject", "flip 600")
        .with("reject", "flip 900")
        .with("reject", "flip 2000")
        .with("reject", "append 00");
    write(
        "key_slots.txt",
        "Key slots, the keys in them, and the ring of repository.txt: FORMAT.md, sections 4 and 5.",
        &[
            slot_case("key", &key_text, &slot_bytes, &slot_key),
            slot_case("password", "password correct horse", &password, &password_key),
            ring_case,
        ],
    );
    Ok(())
}
