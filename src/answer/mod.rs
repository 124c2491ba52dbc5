//! Compiled answers and respond.
