//! The mobile-edge testbed in namespaces, and the demo on it. It handles no frame itself.
