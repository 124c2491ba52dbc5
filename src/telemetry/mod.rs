//! Metrics, logs, alerts.
