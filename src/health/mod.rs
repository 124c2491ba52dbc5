//! Outcomes to verdicts.
