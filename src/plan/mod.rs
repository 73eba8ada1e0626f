//! Placeholder of the layer `plan`.
