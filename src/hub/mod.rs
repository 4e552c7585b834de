//! Fetching from public homes: pinned, checked, resumable. Nothing else in this program
//! opens a socket.

mod client;
mod download;
mod model;
mod tables;

pub use client::Patience;
pub use download::{Digest, blob_id};
pub use model::{Hub, Known, fetch_model, known_models};
pub use tables::{Manifest, RemoteFile, fetch, manifest};
