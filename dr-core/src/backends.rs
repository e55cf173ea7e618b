//! Which implementations of the primitives run on this machine.

use crate::chunker::Scan;
use crate::crypto::Cipher;

/// The implementation of each primitive that this build uses on this machine: name and choice; `sealing` is what
/// [`Cipher::Auto`] takes. Whoever embeds the engine gets ChaCha20's AVX-512 implementation only if the build sets
/// `--cfg chacha20_avx512`.
pub fn backends() -> Vec<(&'static str, String)> {
    vec![
        ("blake3", blake3_backend().to_owned()),
        ("chacha20", chacha20_backend().to_owned()),
        ("chunk scan", format!("{:?}", Scan::fastest()).to_lowercase()),
        ("sealing", Cipher::Auto.suite().cipher_name().to_owned()),
        ("zstd", zstd_version()),
    ]
}

fn zstd_version() -> String {
    let number = zstd::zstd_safe::version_number();
    format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn blake3_backend() -> &'static str {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
        "avx512"
    } else if is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "sse"
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn chacha20_backend() -> &'static str {
    let has_avx512 = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
    if cfg!(chacha20_avx512) && has_avx512 {
        "avx512"
    } else if is_x86_feature_detected!("avx2") {
        "avx2"
    } else {
        "sse2"
    }
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn blake3_backend() -> &'static str {
    "native"
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn chacha20_backend() -> &'static str {
    "native"
}
