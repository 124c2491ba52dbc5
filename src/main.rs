//! The program: chooses the one TLS provider, starts the runtime and hands over to the command line.

use std::process::ExitCode;
use std::time::Duration;

/// How long work that was begun on a thread of its own may take after everything else ended.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // The first and only one in this process, so this cannot fail; were it to, TLS would say so when it is needed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pointsman: starting the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(pointsman::cli::run());
    // A thread that waits for a file system which hangs must not keep the process.
    runtime.shutdown_timeout(STOP_TIME_MAX);
    code
}
