//! The `viscum` binary.

fn main() {}
