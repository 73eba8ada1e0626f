//! Placeholder of the layer `ebpf`.
