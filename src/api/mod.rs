//! The HTTP API.

use crate::control::Handle;

/// A running API.
pub struct Running;

/// Starts the API.
///
/// # Errors
/// None yet.
pub async fn start(_handle: Handle) -> Result<Running, std::io::Error> {
    Ok(Running)
}

impl Running {
    /// Stops taking requests.
    pub async fn stop(self) {}
}
