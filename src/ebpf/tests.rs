//! Programs against the interpreter.
