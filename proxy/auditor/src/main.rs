//! The `countersign-audit` program.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use countersign_audit::cli::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&error.into()),
    };
    let mut out = std::io::stdout();
    match runtime.block_on(run(arguments, &mut out)) {
        Ok(status) => status,
        // Somebody closed the pipe: they have seen enough.
        Err(error) if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error),
    }
}

/// One line on standard error; "could not check" for the shell.
fn complain(error: &anyhow::Error) -> ExitCode {
    let text = countersign_audit::text::visible(&format!("{error:#}"), false);
    // Nowhere is left to say so when this fails.
    let _ = writeln!(std::io::stderr(), "countersign-audit: {text}");
    ExitCode::from(2)
}
