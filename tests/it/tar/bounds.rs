//! Archives that say more than they should: nothing of them is committed as whole, and memory has its bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// The longest extended header, and the most extents of a file.
const EXTENDED_BYTES_MAX: usize = 8 << 20;
const EXTENTS_MAX: usize = 4 << 20;

/// An archive with a good member, something that goes on for ever, and how much of that was read.
struct Endless {
    first: io::Cursor<Vec<u8>>,
    block: Vec<u8>,
    /// The next byte of the block.
    at: usize,
    read: Arc<AtomicU64>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = self.first.read(buffer)?;
        if count == 0 {
            let rest = &self.block[self.at..];
            count = buffer.len().min(rest.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.at = (self.at + count) % self.block.len();
        }
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What is said of an archive that never ends, whose first member is good: none of it is kept. How many bytes were read of it.
fn refused_endless(behind: &[u8], block: &[u8]) -> (String, u64) {
    let repo = TestRepo::in_memory();
    let first = [member(b"good", b'0', b"x"), behind.to_vec()].concat();
    let read = Arc::new(AtomicU64::new(0));
    let endless = Endless { first: io::Cursor::new(first), block: block.to_vec(), at: 0, read: read.clone() };
    let error = store(&repo, "tar", endless).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source, "{error:?}");
    assert!(error.remedy().is_some(), "{error:?}");
    assert!(repo.snapshots().is_empty());
    (error.to_string(), read.load(Ordering::Relaxed))
}

#[test]
fn headers_that_are_too_long_are_refused_before_they_are_read() {
    // What is read ahead is no more than that.
    let ahead = 16 << 20;
    for kind in [b'x', b'g', b'L', b'K'] {
        let most = if matches!(kind, b'x' | b'g') { EXTENDED_BYTES_MAX as u64 } else { 1 << 20 };
        for bytes in [most + 1, 8_589_934_591] {
            let (said, read) = refused_endless(&header(b"long", kind, bytes), &[b'a'; 512]);
            assert!(said.contains("longer than any can be"), "{said}");
            assert!(read < ahead, "{read} bytes were read");
        }
    }
    // As long as it may be, it is taken.
    let value = vec![b'v'; EXTENDED_BYTES_MAX - 100];
    let long = pax(&[("comment", value.as_slice())]);
    let (repo, report) = store_bytes(&ended(&[long, member(b"good", b'0', b"x")]));
    assert!(report.unwrap().is_complete());
    assert_eq!(paths(&repo), ["/tar", "/tar/good"]);
}

#[test]
fn maps_with_too_many_extents_are_refused() {
    // Version 1.0: the map stands before the data.
    let records = pax(&[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"holes"),
        ("GNU.sparse.realsize", b"9000000000000000000"),
    ]);
    let head = [records, header(b"holes", b'0', 8_589_934_591).to_vec(), b"9999999\n".to_vec()].concat();
    let (said, read) = refused_endless(&head, b"1\n0\n");
    assert!(said.contains("map of a sparse file is longer"), "{said}");
    assert!(read < 8 * EXTENTS_MAX as u64 + (32 << 20), "{read} bytes were read");
    // The older kind: blocks that say that yet another follows.
    let mut old = header(b"old", b'S', 512);
    old[386..397].copy_from_slice(b"00000000000");
    old[398..409].copy_from_slice(b"00000000001");
    old[482] = 1;
    old[483..494].copy_from_slice(b"77777777777");
    let mut more = [0; 512];
    for pair in more[..504].chunks_exact_mut(24) {
        pair[..11].copy_from_slice(b"00000000001");
        pair[12..23].copy_from_slice(b"00000000001");
    }
    more[504] = 1;
    let (said, read) = refused_endless(&with_sum(old), &more);
    assert!(said.contains("map of a sparse file is longer"), "{said}");
    assert!(read < 25 * EXTENTS_MAX as u64 + (32 << 20), "{read} bytes were read");
}

#[test]
fn sizes_that_overflow_are_refused() {
    let with = |records: &[(&str, &[u8])]| {
        ended(&[member(b"good", b'0', b"x"), pax(records), member(b"m", b'0', b"0123456789")])
    };
    for size in
        ["18446744073709551615", "18446744073709551616", "9223372036854775807", "99999999999999999999999"]
    {
        refused(&with(&[("size", size.as_bytes())]));
        // A file of holes may be as long as any.
        if size != "9223372036854775807" {
            refused(&with(&[("GNU.sparse.map", &b"0,10"[..]), ("GNU.sparse.size", size.as_bytes())]));
        }
    }
    for map in
        ["9223372036854775807,10", "0,18446744073709551615,1,10", "5,5,0,5", "0,10,18446744073709551606,10"]
    {
        refused(&with(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", b"9223372036854775807")]));
    }
    // In base 256 a size may have any sign and length.
    for field in [[0xff; 12], [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
        let mut block = header(b"huge", b'0', 0);
        block[124..136].copy_from_slice(&field);
        refused(&[member(b"good", b'0', b"x"), with_sum(block).to_vec(), vec![0; 1024]].concat());
    }
}

#[test]
fn names_that_are_too_long_are_named_and_the_rest_is_kept() {
    let long = |name: &[u8]| [member(b"long", b'L', name), member(b"short", b'0', b"x")].concat();
    let component = vec![b'n'; 70_000];
    let deep = b"d/".repeat(50_000);
    for name in [&component, &deep] {
        let (repo, problems) = problems_of(&ended(&[member(b"good", b'0', b"x"), long(name)]));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(paths(&repo), ["/tar", "/tar/good"]);
    }
}
