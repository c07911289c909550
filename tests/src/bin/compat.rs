//! By hand: a server behind the gateway beside one of the same kind, for whole client test suites and PostgreSQL's regression scripts.
//! See `docs/compatibility.md`.

#![expect(clippy::print_stdout, reason = "a command line program")]

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use countersign_e2e::cluster::find_server;
use countersign_e2e::compat::{Pair, regress};
use countersign_e2e::programs::{Progress, ensure_built};

/// Two servers, one behind the gateway.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder with `initdb` and `postgres`; the installed one when absent.
    #[arg(long, global = true)]
    bin: Option<PathBuf>,
    /// Records in `strict` durability, as the gateway does by default.
    #[arg(long, global = true)]
    strict: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts both, prints how to reach them, and ends with its standard input.
    Serve {
        /// Where to write `direct.env` and `through.env`, for a shell to read.
        #[arg(long, default_value = "target/compat")]
        out: PathBuf,
    },
    /// Plays PostgreSQL's regression scripts at both and compares what psql prints.
    Regress {
        /// `src/test/regress` of a PostgreSQL source tree, readable by the server's user.
        #[arg(long)]
        tree: PathBuf,
        /// Folder of `regress.so`.
        #[arg(long)]
        library: Option<PathBuf>,
        /// Only these, in this order.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Both times around the gateway, to learn what differs by itself.
        #[arg(long)]
        control: bool,
        /// Where psql's output is left.
        #[arg(long, default_value = "/tmp/countersign-regress")]
        out: PathBuf,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let bin = arguments.bin.map_or_else(find_server, Ok)?;
    tokio::task::spawn_blocking(|| ensure_built(Progress::Shown)).await??;
    let pair = Pair::start(&bin, !arguments.strict).await?;
    println!("PostgreSQL {}", pair.version());
    match arguments.command {
        Command::Serve { out } => {
            std::fs::create_dir_all(&out)?;
            for route in pair.routes("postgres")? {
                let lines: Vec<String> = route.environment().into_iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
                let file = out.join(format!("{}.env", route.name));
                std::fs::write(&file, lines.join("\n") + "\n")?;
                println!("{}: port {}, everything else in {}", route.name, route.port, file.display());
            }
            println!("the gateway's log: {}", pair.through.proxy.log_file().display());
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
        }
        Command::Regress { tree, library, only, control, out } => {
            let scripts = if only.is_empty() { regress::schedule(&tree)? } else { only };
            let library = library.unwrap_or_else(|| tree.clone());
            let play = regress::Play::prepare(&pair, &tree, &library, &out, control).await?;
            let (mut same, mut different) = (0, 0);
            for name in &scripts {
                let outcome = play.script(name).await.with_context(|| format!("script {name}"))?;
                let (direct, through) = outcome.seconds;
                println!("{name}: {} lines, {} differ ({direct:.1} s, {through:.1} s)", outcome.lines, outcome.differences.len());
                for line in outcome.differences.iter().take(60) {
                    println!("    {line}");
                }
                if outcome.differences.is_empty() { same += 1 } else { different += 1 }
            }
            println!("{same} scripts the same, {different} different");
        }
    }
    Ok(())
}
