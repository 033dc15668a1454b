//! `templar explore`: the run as pages in a browser, served from this machine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use templar_explore::Source;
use templar_explore::server::{Site, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::address::address;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::signals::asked_to_stop;

/// The address of the explorer, unless another one is named.
pub(super) const ADDRESS: &str = "127.0.0.1:8460";

/// The number of random bytes in a token.
const TOKEN_BYTES: usize = 16;

/// Show the run in a browser: what it learns, who took part, who was paid what and why
///
/// Serves pages until you press Ctrl-C, and follows a node that runs in the same home. Every page is there as JSON too,
/// at the same path with .json. Nothing is loaded from another address, and scripts may be off. On a loopback address
/// an audit of the run can be started from the browser.
#[derive(Debug, clap::Args)]
pub(crate) struct ExploreArgs {
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = ADDRESS, value_parser = address)]
    listen: SocketAddr,
    /// Answer requests that name this server so, besides its address; several times for several names
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &ExploreArgs) -> CommandResult {
    show(invocation, invocation.root()?, args)
}

impl ExploreArgs {
    /// The current run of a home at an address.
    pub(super) fn at(listen: SocketAddr) -> Self {
        Self { run: None, listen, allow_host: Vec::new() }
    }
}

/// Shows a run of the home in `root` until this process is asked to stop.
pub(super) fn show(invocation: &Invocation, root: &Path, args: &ExploreArgs) -> CommandResult {
    let source = Source::open(root, args.run.as_deref()).map_err(|error| *error)?;
    let runtime = Runtime::new().map_err(|error| CommandError::new(Code::Failed, error))?;
    let asked = asked_to_stop();
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen).await.map_err(|error| unbound(args.listen, &error))?;
        let address = listener.local_addr()?;
        let site = Site::new(Arc::new(source), address, &args.allow_host, token()?);
        let url = format!("http://{address}/");
        let text = format!("The run is at {url} until you press Ctrl-C.");
        invocation.printer.document(&json!({"type": "listening", "url": url}), text);
        if !address.ip().is_loopback() {
            invocation.printer.warn("whoever reaches this address can read the run; audits start on loopback only");
        }
        tokio::select! {
            () = serve(listener, site) => {}
            () = asked => {}
        }
        Ok(Code::Ok)
    })
}

/// A text that nobody can guess.
fn token() -> Result<String, CommandError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| CommandError::says(Code::Failed, error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unbound(address: SocketAddr, error: &std::io::Error) -> CommandError {
    let error = CommandError::says(Code::Failed, format_args!("cannot listen on {address}: {error}"));
    error.hint("`--listen 127.0.0.1:0` takes a port that is free")
}
