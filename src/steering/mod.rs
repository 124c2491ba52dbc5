//! decide: roles and health to decisions.
