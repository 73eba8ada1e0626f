//! Tests of the front end on golden cases.
