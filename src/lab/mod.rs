//! The mobile-edge testbed in network namespaces, and the demo on it. It uses the forwarder as anybody would: by its commands.

pub mod net;
pub mod ocr;
pub mod plate;
pub mod shell;
