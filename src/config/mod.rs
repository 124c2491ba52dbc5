//! TOML to Config with every diagnostic.
