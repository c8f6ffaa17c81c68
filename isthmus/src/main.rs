//! The one program: the roles of a PoP, the development cluster, tokens, configuration.

mod cli;
mod config;
mod dev;
mod ops;
mod process;
mod roles;
mod telemetry;
mod token;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use self::{
    cli::{Cli, Command, Configured},
    config::Config,
    roles::Role,
};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Some(parent) = cli.die_with_parent {
        process::die_with_parent(parent)?;
    }
    let log = cli.log.as_deref();
    match cli.command {
        Command::Dev(options) => develop(&options, log),
        Command::Pop(configured) => serve(&configured, log, None),
        Command::Sfu(configured) => serve(&configured, log, Some(Role::Sfu)),
        Command::Gateway(configured) => serve(&configured, log, Some(Role::Door)),
        Command::Directory(configured) => serve(&configured, log, Some(Role::Store)),
        Command::Token(wanted) => token::print(&wanted, &load(&wanted.configured)?),
        Command::CheckConfig(checked) => {
            Config::load(&checked.file, &[])?;
            println!("{}: no mistakes", checked.file.display());
            Ok(())
        }
    }
}

fn load(configured: &Configured) -> anyhow::Result<Config> {
    Config::load(&configured.config, &configured.set)
}

/// One thread: its children are told when the thread that started them ends (see [`process::die_with_parent`]), so that
/// must be the main one.
fn develop(options: &cli::Dev, log: Option<&str>) -> anyhow::Result<()> {
    on(Builder::new_current_thread(), async { dev::run(options, log, process::shutdown_by_signal()?).await })
}

/// Runs one role, or every one that the configuration has.
fn serve(configured: &Configured, log: Option<&str>, role: Option<Role>) -> anyhow::Result<()> {
    let config = load(configured)?;
    telemetry::start_logging(log.unwrap_or(&config.telemetry.log))?;
    process::raise_descriptor_limit();
    on(Builder::new_multi_thread(), async {
        let shutdown = process::shutdown_by_signal()?;
        match role {
            Some(role) => roles::run_one(role, config, shutdown).await,
            None => roles::run_all(config, shutdown).await,
        }
    })
}

fn on(mut runtime: Builder, task: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    // Every TLS of the process uses the one crypto library; nothing has chosen another before this line.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime: Runtime = runtime.enable_all().build()?;
    let result = runtime.block_on(task);
    // Tasks that block (a store's file) must not hold up the end.
    runtime.shutdown_background();
    result
}
