//! What the tests share: the testbed, the program, traffic, and what must not be left. No test here.

pub mod bed;
pub mod forwarder;
pub mod left;
pub mod testbed;
pub mod traffic;
