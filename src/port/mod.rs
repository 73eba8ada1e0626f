//! Placeholder of the layer `port`.
