//! The program: serves a config.

use std::path::PathBuf;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    pointsman::telemetry::init_logging();
    let config = std::env::args().nth(2).map(PathBuf::from).unwrap_or_default();
    pointsman::node::serve(pointsman::node::ServeOptions {
        config,
        answer_only: false,
    })
    .await
}
