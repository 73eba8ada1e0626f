//! The slow, obvious interpreter of a ruleset: what it does is the definition of "right". It opens no device.
