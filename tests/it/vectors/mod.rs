//! The vectors in `tests/vectors`: stored bytes and what they mean, which this program must read for ever. The reading
//! tests take every case of a file; `DR_WRITE_VECTORS=1` writes the files anew, for a new version of the format.

mod case;
mod chunker;
mod derivations;
mod encoding;
mod key_slots;
mod packs;
mod padding;
mod repository;
mod sealed;
mod values;

use dr_core::Cipher;
use dr_core::internals::{Keys, Params};

const REPOSITORY: [u8; 16] = [1; 16];
const EPOCH: [u8; 32] = [2; 32];
const DOMAIN: [u8; 32] = [3; 32];

fn keys() -> Keys {
    Keys::fixed(REPOSITORY, EPOCH, DOMAIN, Params::DEFAULT)
}

/// The same keys, new objects made with suite 2.
fn keys_of_suite_2() -> Keys {
    keys().sealing_with(Cipher::Aes256Gcm)
}

/// The header of an object of epoch 0 whose salt is 32 bytes of 4.
fn header(kind: u8, suite: u8) -> Vec<u8> {
    [&b"\x89drobj\r\n"[..], &[1, kind, suite, 0], &[0; 4], &REPOSITORY, &[4; 32], &[0; 2]].concat()
}

#[test]
fn vectors_are_written_on_request() {
    if std::env::var_os("DR_WRITE_VECTORS").is_none() {
        return;
    }
    encoding::write_all();
    derivations::write_all();
    chunker::write_all();
    padding::write_all();
    values::write_all();
    sealed::write_all();
    packs::write_all();
    repository::write_all().unwrap();
}
