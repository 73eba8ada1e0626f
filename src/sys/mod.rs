//! Placeholder of the layer `sys`.
#![allow(unsafe_code)]
