//! All integration tests in one binary, since linking is the slow part.

mod architectures;
mod browser;
mod cli;
mod configs;
mod desk;
mod determinism;
mod device;
mod experiments;
mod fetch;
mod forged;
mod golden;
mod guide;
mod hostile;
mod hub;
mod kernels;
mod ledger;
mod ptx_vm;
mod ranks;
mod report;
mod rooms;
mod scale;
mod specs;
mod store;
mod support;
mod unfit;
mod weights;
