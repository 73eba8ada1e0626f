//! Loads and attaches.
