//! The command `dr`.
fn main() {}
