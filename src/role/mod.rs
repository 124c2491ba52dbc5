//! Roles, commands, gates, policies.
