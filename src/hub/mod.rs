//! Models and tables that have a public home, and downloads of them: each at one commit, checked by
//! digest, and resumed after an interruption. Nothing else in this program opens a socket.

mod client;
mod download;
mod families;
mod model;
mod place;
mod revision;
mod tables;

pub use client::Patience;
pub use download::{Digest, blob_id};
pub use families::{ModelFamily, model_families};
pub use model::{ModelOrigin, fetch_model};
pub use place::Hub;
pub use revision::{KnownModel, known_models};
pub use tables::{Manifest, RemoteFile, fetch, manifest};
