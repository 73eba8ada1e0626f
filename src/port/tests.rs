//! Tests of the ports.
