//! Zones: master file text to zone, and lookup as data.
