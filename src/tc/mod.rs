//! Placeholder of the layer `tc`.
