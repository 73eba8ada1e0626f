//! The threads that forward: one per queue, pinned, both directions, in bursts. They parse no text and open no device.

pub mod cells;
