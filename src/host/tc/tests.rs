//! Encoding and decoding again is the identity; hostile bytes are told, never a panic; this kernel is asked what it has.

