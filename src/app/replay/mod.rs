//! Rules on a capture, offline: what every device would have transmitted, what would have reached the stack, and every counter.

pub mod topology;
