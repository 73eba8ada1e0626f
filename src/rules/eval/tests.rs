//! Named cases of what the kernel does, small enough to read.
