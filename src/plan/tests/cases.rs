//! Named cases: what a plan does that its twin cannot show (refusals, failing transmission, lack of buffers).
