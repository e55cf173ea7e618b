#!/usr/bin/env python3
"""Restores one file from a repository on a local disk: a second reader, written from dr-core/docs/FORMAT.md alone.

    reader.py REPOSITORY KEY_FILE PATH_IN_SNAPSHOT > FILE

Needs the packages blake3, cryptography and zstandard. Reads the newest snapshot. Section numbers are FORMAT.md's.
"""

import struct
import sys
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305


class Bytes:
    """A cursor: fixed layouts, and the encoding of bodies (section 1)."""

    def __init__(self, data):
        self.data, self.at = data, 0
    def take(self, count):
        assert self.at + count <= len(self.data), "cut short"
        self.at += count
        return self.data[self.at - count:self.at]
    def fixed(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))[0]
    def uint(self):
        marker = self.u8()
        return marker if marker < 251 else self.fixed({251: "H", 252: "I", 253: "Q"}[marker])
    def int(self):
        number = self.uint()
        return number // 2 if number % 2 == 0 else -(number + 1) // 2
    def end(self):
        assert self.at == len(self.data), "bytes follow"

    u8 = lambda self: self.take(1)[0]
    hash = lambda self: self.take(32)
    bytes = lambda self: self.take(self.uint())
    text = lambda self: self.bytes().decode()
    bool = lambda self: (False, True)[self.u8()]
    option = lambda self, item: item() if self.bool() else None
    list = lambda self, item: [item() for _ in range(self.uint())]
    record = lambda self, *fields: tuple(field() for field in fields)
    time = lambda self: self.record(self.int, self.uint)
    reference = lambda self: self.record(self.hash, self.uint)
    stream = lambda self: self.record(self.uint, self.u8, lambda: self.list(self.reference))

    def snapshot_record(self):
        return self.record(self.hash, self.bool, lambda: self.bytes() if self.uint() == 0 else self.stream())
    def map(self):
        if self.uint() == 0:
            return self.list(lambda: self.record(self.uint, self.uint)), None
        return None, self.stream()
    def entry(self):
        name, kind = self.bytes(), self.uint()
        if kind == 0:
            content = self.record(self.uint, self.stream, lambda: self.option(self.map))
        elif kind == 1:
            content = self.stream()
        else:
            content = {2: self.bytes, 3: self.uint, 4: self.uint}.get(kind, lambda: None)()
        u, t = self.uint, self.time
        self.record(u, u, u, t, t, lambda: self.option(t), lambda: self.option(t), u, u, u, self.bool)
        self.list(lambda: self.record(self.bytes, self.bytes))
        return name, kind, content


def body(data, value):
    """A body: its schema, the value that `value` reads, extensions."""
    cursor = Bytes(data)
    assert cursor.fixed("H") == 1, "a newer schema"
    read = value(cursor)
    cursor.list(lambda: cursor.record(cursor.uint, cursor.bytes))
    cursor.end()
    return read


H = lambda data: blake3(data).digest()
derive = lambda context, material: blake3(material, derive_key_context=context).digest()


def keys_of(key, header):
    """enc and commit."""
    stream = blake3(header, key=key).digest(length=64)
    return stream[:32], stream[32:]


CIPHERS = {1: ChaCha20Poly1305, 2: AESGCM}


def unseal(suite, enc, number, sealed, associated):
    return CIPHERS[suite](enc).decrypt(struct.pack("<I8x", number), sealed, associated)


class Header:
    """Section 6."""

    def __init__(self, data):
        cursor = Bytes(data)
        assert cursor.take(8) == b"\x89drobj\r\n"
        version, self.type, self.suite, mode = cursor.take(4)
        assert (version, mode) == (1, 0) and self.suite in CIPHERS
        self.epoch, self.repository, self.salt = cursor.fixed("I"), cursor.take(16), cursor.take(32)
        self.aux = cursor.take(cursor.fixed("H"))
        self.raw = data[:cursor.at]
    def key(self, kek, data):
        enc, commit = keys_of(kek, self.raw)
        assert data[len(self.raw):len(self.raw) + 32] == commit, "commitment"
        return enc


def open_single(kek, kind, location, data):
    """Section 7."""
    header = Header(data)
    assert header.type == kind
    associated = H(header.raw) + struct.pack("<Q", location)
    text = unseal(header.suite, header.key(kek, data), 0, data[len(header.raw) + 32:], associated)
    length = struct.unpack("<I", text[:4])[0]
    assert len(text) >= 4 + length and not any(text[4 + length:])
    return text[4:4 + length]


class State:
    """What the log stands for (section 10). Lists of hashes in objects of their own are not read."""

    def __init__(self):
        self.genesis = self.ring = self.lossy = None
        self.changed, self.snapshots, self.segments, self.replaced, self.condemned = 0, {}, {}, set(), {}
        self.attempts, self.checkpoints, self.collected, self.pending, self.holds = {}, [], [], {}, []

    def apply(self, slot, previous_ms, attempt, kind, c):
        for state in self.snapshots.values():
            if state["slot"] == slot - 1:
                state["next_ms"] = previous_ms
        self.attempts = {known: at for known, at in self.attempts.items() if at >= slot - 4096}
        if attempt in self.attempts:
            return
        self.attempts[attempt] = slot
        if kind in (0x8002, 0x8004, 0x8005, 0x8006):
            self.changed = slot + 1
        hashes = lambda: c.list(c.hash) if c.uint() == 0 else sys.exit("lists are not read")
        ids = lambda: [self.snapshots[i] for i in c.list(c.hash) if i in self.snapshots]
        if kind == 0x8001 and slot == 0:
            self.genesis = c.record(c.hash, c.hash)
            self.ring = 0, self.genesis[1]
        elif kind == 0x8002:
            record, names, inline, own, _, _ = c.record(
                lambda: c.option(c.snapshot_record), lambda: c.list(c.hash), lambda: c.list(c.bytes), hashes, hashes,
                lambda: c.list(c.hash))
            for name, data in [(name, None) for name in names] + [(H(data), data) for data in inline]:
                if self.is_new(name):
                    self.segments[name] = data
            if not record:
                self.pending[slot] = own
            elif record[0] not in self.snapshots:
                self.snapshots[record[0]] = dict(
                    record=record, slot=slot, store_ms=previous_ms, next_ms=None, forgotten=None, protected=False,
                    tags=None)
        elif kind == 0x8003:
            for state in ids():
                if not state["protected"] and state["forgotten"] is None:
                    state["forgotten"] = slot
        elif kind == 0x8004:
            for state in ids():
                state["forgotten"] = None
        elif kind == 0x8005:
            packs, segments, collected, lossy = c.record(hashes, hashes, lambda: c.list(c.hash), c.bool)
            self.lossy = slot if lossy else self.lossy
            for name in packs + segments:
                self.condemned.setdefault(name, slot)
                self.segments.pop(name, None)
                self.replaced.discard(name)
            for identity in collected:
                if self.snapshots.get(identity, {}).get("forgotten") is not None:
                    self.collected.append((slot, self.snapshots.pop(identity)["forgotten"]))
        elif kind == 0x8006:
            inputs, outputs, own = c.record(lambda: c.list(c.hash), lambda: c.list(c.hash), hashes)
            is_valid = all(name in self.segments for name in inputs) and all(self.is_new(name) for name in outputs)
            if is_valid and not any(name in self.condemned for name in own):
                before = list(self.segments.items())
                place = min([at for at, (name, _) in enumerate(before) if name in inputs], default=len(before))
                new = [(name, None) for name in outputs if self.is_new(name)]
                self.segments = dict(i for i in before[:place] + new + before[place:] if i[0] not in inputs)
                self.replaced |= {name for name, data in before if name in inputs and data is None}
        elif kind in (7, 0x8007):
            self.checkpoints.append(c.record(c.uint, c.hash))
        elif kind == 0x8008:
            generation, ring = c.record(c.uint, c.hash)
            if generation > self.ring[0]:
                self.ring = generation, ring
        elif kind in (0x8009, 0x800a):
            for state in ids():
                state["protected"] = kind == 0x8009 and state["forgotten"] is None
        elif kind == 0x800b:
            states, tags = c.record(ids, lambda: c.list(c.text))
            for state in states:
                state["tags"] = tags
        elif kind == 0x800c:
            seconds = min(c.uint(), 316224000)
            if seconds != (self.holds[-1][1] if self.holds else 0):
                self.holds.append((slot, seconds))
        else:
            assert kind < 0x8000, "a newer program wrote this"
            return
        c.end()

    def is_new(self, name):
        return not (name in self.segments or name in self.replaced or name in self.condemned)

    @staticmethod
    def from_checkpoint(c):
        """Section 17: the last slot, its hash, and the state."""
        state, option = State(), c.option
        pair = lambda first, second: lambda: c.record(first, second)
        through, head, _, state.changed = c.record(c.uint, c.hash, c.int, c.uint)
        state.genesis, state.ring = option(pair(c.hash, c.hash)), option(pair(c.uint, c.hash))
        names = "record", "slot", "store_ms", "next_ms", "forgotten", "protected", "tags"
        snapshots = c.list(lambda: dict(zip(names, c.record(
            c.snapshot_record, c.uint, c.int, lambda: option(c.int), lambda: option(c.uint), c.bool,
            lambda: option(lambda: c.list(c.text))))))
        state.snapshots = {snapshot["record"][0]: snapshot for snapshot in snapshots}
        segments = c.list(lambda: (c.hash(), None) if c.uint() == 0 else (lambda data: (H(data), data))(c.bytes()))
        state.segments = dict(segments)
        state.replaced, state.condemned = set(c.list(c.hash)), dict(c.list(pair(c.hash, c.uint)))
        state.lossy = option(c.uint)
        attempts = c.list(lambda: c.record(c.uint, lambda: c.take(16), lambda: c.take(16)))
        state.attempts = {(writer, nonce): slot for slot, writer, nonce in attempts}
        lists, state.checkpoints = c.list(c.hash), c.list(pair(c.uint, c.hash))
        assert not lists and not c.list(c.uint)
        state.collected = c.list(pair(c.uint, c.uint))
        hashes = lambda: c.list(c.hash) if c.uint() == 0 else sys.exit("lists are not read")
        state.pending = dict(c.list(pair(c.uint, hashes)))
        state.holds = c.list(pair(c.uint, c.uint))
        return through, head, state


class Repository:
    def __init__(self, root, key):
        self.root, self.frames = Path(root), {}
        config = (self.root / "config").read_bytes()
        assert len(config) == 64 and config[:8] == b"\x89drcfg\r\n" and config[32:] == H(config[:32])
        assert struct.unpack("<I", config[8:12])[0] == 1 and config[28] == 1
        self.repository = config[12:28]
        slots = dict(filter(None, (self.open_key_slot(path, key) for path in (self.root / "keys").iterdir())))
        for path in (self.root / "ring").iterdir():
            if self.open_ring(path.read_bytes(), slots, H(config)) and self.read_log(H(config), path.name):
                return
        raise SystemExit("no ring is in force")

    def open_key_slot(self, path, key):
        """Section 4, kind 2 only."""
        data = path.read_bytes()
        cursor = Bytes(data)
        assert H(data).hex() == path.name and cursor.take(8) == b"\x89drkey\r\n"
        if cursor.take(4) != bytes([1, 2, 1, 0]) or cursor.take(16) != self.repository:
            return None
        cursor.take(12 + 32)
        cursor.take(cursor.u8())
        header, commit, sealed = data[:cursor.at], cursor.take(32), cursor.take(48)
        enc, expected = keys_of(derive("dr 2026 v1 key slot", key), header)
        return (H(data), unseal(1, enc, 0, sealed, H(header))) if commit == expected else None

    def open_ring(self, data, slots, config):
        """Section 5."""
        wraps = Bytes(Header(data).aux)
        salt, ring_key = wraps.take(32), None
        for _ in range(wraps.u8()):
            slot, sealed = wraps.take(32), wraps.take(48)
            if slot in slots:
                enc, _ = keys_of(derive("dr 2026 v1 ring wrap", slots[slot] + salt), slot)
                ring_key = unseal(1, enc, 0, sealed, H(slot))
        if ring_key is None:
            return False
        text = open_single(derive("dr 2026 v1 kek ring", ring_key + self.repository), 1, 0, data)
        _, named, keys = body(text, lambda c: c.record(c.uint, c.hash, lambda: c.list(lambda: self.ring_key(c))))
        assert named == config, "the config is another one"
        self.epochs = {number: secret for variant, number, secret in keys if variant == 0}
        _, domain = max((number, secret) for variant, number, secret in keys if variant == 1)
        self.ids = {0: derive("dr 2026 v1 id data", domain), 1: derive("dr 2026 v1 id tree", domain)}
        return True

    def ring_key(self, c):
        variant = c.uint()
        key = variant, c.hash() if variant == 2 else c.uint(), c.hash()
        if variant == 1:
            c.record(c.uint, c.uint, c.uint, c.uint, c.u8)
        return key

    def kek(self, header):
        purpose = {2: "data", 3: "tree", 8: "tree", 4: "index", 5: "log", 6: "log", 7: "log"}[header.type]
        epoch = self.repository + struct.pack("<I", header.epoch)
        return derive("dr 2026 v1 kek " + purpose, self.epochs[header.epoch] + epoch)

    open = lambda self, kind, location, data: open_single(self.kek(Header(data)), kind, location, data)

    def read_log(self, config, ring):
        """Section 10. Checkpoints on the way must say what the slots before them say."""
        state, previous, number = State(), bytes(32), 0
        while (path := self.slot_path(number)).exists():
            raw = path.read_bytes()
            entry = body(self.open(5, number, raw), lambda c: c.record(
                c.uint, c.hash, c.int, lambda: c.take(16), lambda: c.take(16), c.uint, c.bytes, c.u8, c.bytes))
            assert entry[0] == number and entry[1] == previous, "the chain is broken"
            _, _, previous_ms, writer, nonce, kind, payload = entry[:7]
            if kind == 7:
                self.check_checkpoint(payload[-32:])
            state.apply(number, previous_ms, (writer, nonce), kind, Bytes(payload))
            previous, number = H(raw), number + 1
        if state.genesis != (config, bytes.fromhex(ring)) or state.ring[1] != bytes.fromhex(ring):
            return False
        listed = [s for s in state.snapshots.values() if s["forgotten"] is None and not s["record"][1]]
        self.snapshot = max(listed, key=lambda s: s["slot"])["record"]
        self.places = {}
        for name, inline in state.segments.items():
            self.read_segment(inline or (self.root / "index" / name.hex()).read_bytes(), state.condemned)
        return True
    def slot_path(self, number):
        digits = f"{2**64 - 1 - number:016x}"
        return self.root / "log" / digits[:13] / digits[13:]
    def check_checkpoint(self, name):
        """Section 17: the state in a checkpoint is that of the slots up to it. It may have been swept meanwhile."""
        path = self.root / "ckpt" / name.hex()
        if not path.exists():
            return
        data = path.read_bytes()
        assert H(data) == name
        through, head, said = body(self.open(7, 0, data), State.from_checkpoint)
        folded = State()
        for number in range(through + 1):
            raw = self.slot_path(number).read_bytes()
            entry = body(self.open(5, number, raw), lambda c: c.record(
                c.uint, c.hash, c.int, lambda: c.take(16), lambda: c.take(16), c.uint, c.bytes, c.u8, c.bytes))
            folded.apply(number, entry[2], (entry[3], entry[4]), entry[5], Bytes(entry[6]))
        assert head == H(raw), "the checkpoint is of another log"
        assert vars(said) == vars(folded), "the checkpoint says something else"

    def sealed_parts(self, data):
        """Header, keys, trailer and footer, as packs (section 8) and segments (section 9) have them."""
        header = Header(data)
        enc = header.key(self.kek(header), data)
        digest = H(header.raw)
        trailer = Bytes(unseal(header.suite, enc, 0xFFFFFFFF, data[-64:], digest))
        _, offset, length = trailer.fixed("Q"), trailer.fixed("Q"), trailer.fixed("I")
        return header, enc, digest, unseal(header.suite, enc, 0xFFFFFFFE, data[offset:offset + length], digest)
    def read_segment(self, data, condemned):
        header, enc, digest, footer = self.sealed_parts(data)
        pack = lambda c: c.record(c.u8, c.hash, c.uint)
        _, packs, headers, filter_bytes, chunks, frames, _ = body(footer, lambda c: c.record(
            lambda: c.list(c.hash), lambda: c.list(lambda: pack(c)), lambda: c.list(c.bytes), c.uint, c.uint,
            c.uint, lambda: c.list(lambda: c.take(8))))
        lengths = [filter_bytes]
        for count, width in (chunks, 44), (frames, 29):
            lengths += [min(1024, count - start) * width for start in range(0, count, 1024)]
        at, texts = len(header.raw) + 32, []
        for number, length in enumerate(lengths):
            texts.append(unseal(header.suite, enc, number, data[at:at + length + 16], digest))
            at += length + 16
        pages = b"".join(texts[1:])
        records = struct.iter_unpack("<IIIIIIB4x", pages[chunks * 44:])
        table = [(packs[r[0]], r[1], headers[r[2]], r[3:]) for r in records]
        for chunk, frame, offset, length in struct.iter_unpack("<32sIII", pages[:chunks * 44]):
            if table[frame][0][1] not in condemned:
                self.places.setdefault(chunk, (table[frame], offset, length))

    def chunk(self, chunk_class, reference):
        """Sections 8 and 5: the frame, the chunk in it, its id."""
        identity, length = reference
        (pack, offset, header, shape), start, stored = self.places[identity]
        assert pack[0] == chunk_class and stored == length
        if (pack[1], offset) not in self.frames:
            name = pack[1].hex()
            with open(self.root / ("data", "tree")[chunk_class] / name[:2] / name, "rb") as file:
                file.seek(offset)
                self.frames = {(pack[1], offset): self.frame(header, shape, file.read(shape[2]))}
        chunk = self.frames[pack[1], offset][start:start + length]
        assert blake3(chunk, key=self.ids[chunk_class]).digest() == identity, "id"
        return chunk
    def frame(self, raw_header, shape, sealed):
        number, raw, _, codec = shape
        header = Header(raw_header)
        enc, _ = keys_of(self.kek(header), raw_header)
        text = unseal(header.suite, enc, number, sealed, H(raw_header) + struct.pack("<IIIB", *shape))
        text = zstandard.ZstdDecompressor().decompress(text, max_output_size=raw) if codec == 1 else text
        assert len(text) == raw
        return text

    def stream(self, stream, chunk_class):
        """Section 13: the chunks of a stream."""
        _, level, references = stream
        for reference in references:
            if level == 0:
                yield self.chunk(chunk_class, reference)
            else:
                below = body(self.chunk(1, reference), lambda c: c.list(c.reference))
                yield from self.stream((None, level - 1, below), chunk_class)
    def entries(self, stream):
        for chunk in self.stream(stream, 1):
            names = lambda c: c.list(lambda: c.record(c.uint, c.text))
            yield from body(chunk, lambda c: c.record(
                lambda: names(c), lambda: names(c), lambda: c.list(c.entry)))[2]

    def file(self, path):
        """Section 16."""
        identity, _, place = self.snapshot
        text = self.open(8, 0, place) if isinstance(place, bytes) else b"".join(self.stream(place, 1))
        assert blake3(text, key=self.ids[1]).digest() == identity, "snapshot"
        kind, content = 1, body(text, lambda c: c.record(
            lambda: c.take(16), c.time, c.time, c.text, lambda: c.list(c.bytes), lambda: c.list(c.text), c.text,
            lambda: c.option(c.hash), c.bool, c.stream, *[c.uint] * 10, c.stream))[9]
        for part in filter(None, path.encode().split(b"/")):
            assert kind == 1, "not a directory"
            kind, content = next((k, c) for name, k, c in self.entries(content) if name == part)
        assert kind == 0, "not a file"
        length, stream, sparse = content
        data = b"".join(self.stream(stream, 0))
        if sparse is None:
            assert len(data) == length
            return data
        extents, map_stream = sparse
        extents = struct.iter_unpack("<QQ", b"".join(self.stream(map_stream, 1))) if map_stream else extents
        whole, rest = bytearray(length), data
        for offset, count in extents:
            whole[offset:offset + count], rest = rest[:count], rest[count:]
        assert not rest and len(whole) == length
        return bytes(whole)


if __name__ == "__main__":
    root, key_file, path = sys.argv[1:]
    sys.stdout.buffer.write(Repository(root, bytes.fromhex(Path(key_file).read_text())).file(path))
