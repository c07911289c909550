//! `cargo demo`: see `docs/demo.md`. The work is done by [`countersign_e2e::demo`].

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use countersign_e2e::demo::{Options, run};

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = runtime.block_on(run(options));
    // A build that a signal interrupted must not keep us.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("demo: {error:#}");
    ExitCode::FAILURE
}
