//! What the tests share. No test here.
