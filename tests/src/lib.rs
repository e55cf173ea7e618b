//! The shared test toolkit.
