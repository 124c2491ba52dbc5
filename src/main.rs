//! The program: chooses the one TLS provider, starts the runtime and hands over to the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The first and only one in this process, so this cannot fail; were it to, TLS would say so when it is needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(pointsman::precedence::step_back)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pointsman: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(pointsman::cli::run())
}
