//! `templar explore`: the run as pages in a browser, served from this machine.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use templar_explore::Source;
use templar_explore::server::{Site, serve};
use templar_manifest::RunId;
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
    let listener = bound(args.listen, "--listen 127.0.0.1:0")?;
    let token = token()?;
    runtime.block_on(async {
        let pages = pages(invocation, source, listener, &args.allow_host, token, "until you press Ctrl-C");
        tokio::select! {
            result = pages => result?,
            () = asked => {}
        }
        Ok(Code::Ok)
    })
}

/// The pages of a run beside the node that takes part in it. The port is taken at once, and the pages begin when the
/// node answers for its home.
pub(super) struct BesideNode {
    listener: std::net::TcpListener,
    token: String,
}

impl BesideNode {
    /// Takes the port.
    pub(super) fn bind(listen: SocketAddr) -> Result<Self, CommandError> {
        Ok(Self { listener: bound(listen, "--http 127.0.0.1:0")?, token: token()? })
    }

    /// Serves the pages on a thread that ends with the process. What goes wrong there is a warning: a node does not
    /// stop because nobody can look at it.
    pub(super) fn start(self, invocation: &Invocation, run: RunId) -> std::io::Result<()> {
        let (printer, invocation) = (invocation.printer, invocation.clone());
        let serve = move || -> Result<(), CommandError> {
            let source = Source::open(invocation.root()?, Some(&run.to_string())).map_err(|error| *error)?;
            let runtime = Runtime::new().map_err(|error| CommandError::new(Code::Failed, error))?;
            runtime.block_on(pages(&invocation, source, self.listener, &[], self.token, "while the node runs"))
        };
        let thread = std::thread::Builder::new().name("explorer".to_owned());
        thread.spawn(move || {
            if let Err(error) = serve() {
                printer.warn(format_args!("the explorer does not run: {}", error.lines().join(": ")));
            }
        })?;
        Ok(())
    }
}

/// Serves the pages of a run, for ever. `until` says for people how long.
async fn pages(
    invocation: &Invocation,
    source: Source,
    listener: std::net::TcpListener,
    names: &[String],
    token: String,
    until: &str,
) -> Result<(), CommandError> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let site = Site::new(Arc::new(source), address, names, token);
    let url = format!("http://{address}/");
    let text = format!("The run is at {url} {until}.");
    invocation.printer.document(&json!({"type": "listening", "url": url}), text);
    if !address.ip().is_loopback() {
        invocation.printer.warn("whoever reaches this address can read the run; audits start on loopback only");
    }
    serve(listener, site).await;
    Ok(())
}

fn bound(address: SocketAddr, free: &str) -> Result<std::net::TcpListener, CommandError> {
    std::net::TcpListener::bind(address).map_err(|error| {
        let error = CommandError::says(Code::Failed, format_args!("cannot listen on {address}: {error}"));
        error.hint(format!("`{free}` takes a port that is free"))
    })
}

/// A text that nobody can guess.
fn token() -> Result<String, CommandError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| CommandError::says(Code::Failed, error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
