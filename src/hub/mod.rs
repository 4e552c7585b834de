//! Fetching from public homes: pinned, checked, resumable. Nothing else in this program
//! opens a socket.

mod download;
mod model;
mod tables;

pub use download::{Digest, Patience, blob_id};
pub use model::{Hub, Known, fetch_model, known_models};
pub use tables::{Manifest, RemoteFile, fetch, manifest};
