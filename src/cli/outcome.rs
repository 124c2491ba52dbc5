//! How a command ends, and its two outputs.
//!
//! Standard output carries what was asked for, standard error everything else. Who closes either early (`| head`) ends the
//! command quietly: a change that was made stays made. A refusal or a failure keeps its exit code.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Why a command did not simply succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It failed.
    Failed(anyhow::Error),
    /// It failed, and what is wrong was printed.
    Told,
    /// What was asked makes no sense.
    Usage(String),
    /// A gate refused; the refusal was printed.
    Refused,
    /// No server could be reached.
    Unreachable(String),
    /// Nobody reads the output any more.
    Closed,
}

/// The result of a command.
pub(super) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure in words.
    pub fn failed(message: impl std::fmt::Display) -> Failure {
        Failure::Failed(anyhow::anyhow!("{message}"))
    }

    /// The exit code of the program.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Closed => 0,
            Failure::Failed(_) | Failure::Told => 1,
            Failure::Usage(_) => 2,
            Failure::Refused => 3,
            Failure::Unreachable(_) => 4,
        }
    }

    /// Tells a person, with the chain of causes once.
    pub fn print(&self) {
        match self {
            Failure::Closed | Failure::Told | Failure::Refused => {}
            Failure::Failed(error) => complain(&format!("pointsman: {error:#}\n")),
            Failure::Usage(message) | Failure::Unreachable(message) => complain(&format!("pointsman: {message}\n")),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Failed(error)
    }
}

/// Ends the program as the outcome says.
pub(super) fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.code())
        }
    }
}

/// Prints to standard output; colour only where it is a terminal.
pub(super) fn say(text: &str) -> Outcome {
    let mut out = anstream::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The outcome of writing to standard output.
pub(super) fn written(result: std::io::Result<()>) -> Outcome {
    result.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::failed(format!("writing to standard output: {error}")),
    })
}

/// Prints to standard error; there is nobody to tell when that fails.
pub(super) fn complain(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_the_exit_code_of_the_contract() {
        let ends = [
            (Failure::failed("x"), 1),
            (Failure::Told, 1),
            (Failure::Usage(String::new()), 2),
            (Failure::Refused, 3),
            (Failure::Unreachable(String::new()), 4),
            (Failure::Closed, 0),
        ];
        for (failure, code) in ends {
            assert_eq!(failure.code(), code, "{failure:?}");
        }
    }
}
