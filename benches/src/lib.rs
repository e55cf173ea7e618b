//! Inputs that the benchmarks share.

mod ghost;
mod many;

pub use ghost::GhostStore;
pub use many::ManyFiles;

use std::fs;
use std::io;
use std::path::Path;

/// Which implementations of the primitives the figures are of, in one line.
pub fn backends() -> String {
    let choices: Vec<String> =
        dr_core::backends().into_iter().map(|(name, choice)| format!("{name} {choice}")).collect();
    choices.join(", ")
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut output = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut output);
    output
}

/// Bytes that compress about as well as source code: words of a small vocabulary, in an order drawn from a seed.
pub fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let order = noise(seed, bytes);
    let mut output = Vec::with_capacity(bytes + 16);
    for pair in order.chunks(2) {
        let number = u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]) % 4096;
        output.extend_from_slice(format!("word{number} ").as_bytes());
        if output.len() >= bytes {
            break;
        }
    }
    output.truncate(bytes);
    output
}

/// Writes a tree of text and noise files of many lengths, about `bytes` bytes in all.
///
/// # Errors
/// Any I/O error.
pub fn write_tree(folder: &Path, bytes: usize) -> io::Result<()> {
    let lengths = [200, 900, 3_000, 9_000, 40_000, 150_000, 2_000_000];
    let (mut written, mut number) = (0, 0u64);
    while written < bytes {
        let length = lengths[number as usize % lengths.len()];
        let directory = folder.join(format!("{}", number / 40));
        fs::create_dir_all(&directory)?;
        let content = if number.is_multiple_of(4) { noise(number, length) } else { text(number, length) };
        fs::write(directory.join(format!("file{number}.txt")), content)?;
        written += length;
        number += 1;
    }
    Ok(())
}
