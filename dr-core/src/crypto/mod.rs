//! Keys and the primitives they are used with. Nothing here does I/O, and no secret can be printed.

mod cipher;
mod credentials;
mod envelope;
mod keys;
mod secret;
mod slot;

pub use cipher::Cipher;
pub use credentials::{Credentials, KdfStrength};
pub(crate) use envelope::{ObjectKey, hedged_salt, open_object, seal_object};
pub(crate) use keys::{Domain, Kek, KeyRing, SharedDomain};
pub(crate) use secret::Secret;
pub(crate) use slot::{new_slot, open_slot};
