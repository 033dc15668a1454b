//! The signals by which a person or a system asks this program to stop: one rule for all commands.
//!
//! Ctrl-C (SIGINT), the signal with which systems end services (SIGTERM) and the closing of the terminal (SIGHUP) mean
//! the same. A command that has something to finish, to keep or to clean up says so with [`asked_to_stop`] or
//! [`stop_flag`]: at the first signal it ends in order. Any other command ends at once, and so does every command at
//! the second signal. A node or a server that was asked to stop has done its work, and ends with exit code 0. A command
//! that leaves its work undone ends with 130.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvError, channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::runtime::{Builder, Runtime};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Code, CommandError};
use crate::printer::Printer;

/// What this process was asked, and how many parts of its command see to that.
struct Asked {
    flag: Arc<AtomicBool>,
    told: watch::Sender<bool>,
    seen_to: AtomicUsize,
}

/// Signals are of the process, so there is one of these.
static ASKED: LazyLock<Asked> =
    LazyLock::new(|| Asked { flag: Arc::default(), told: watch::Sender::new(false), seen_to: AtomicUsize::new(0) });

/// Listens for signals on a thread of its own, from now on. Without it, a signal ends this process as the system does.
pub(crate) fn obey(printer: Printer) {
    let (listening, listens) = channel();
    let listen = move || {
        let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async {
            let mut signals = Signals::new();
            drop(listening);
            signals.next().await;
            ASKED.flag.store(true, Ordering::SeqCst);
            ASKED.told.send_replace(true);
            if ASKED.seen_to.load(Ordering::SeqCst) > 0 {
                signals.next().await;
            }
            if let Some(clean) = CLEAN.lock().unwrap_or_else(PoisonError::into_inner).take() {
                clean();
            }
            let error = CommandError::says(Code::Interrupted, "interrupted");
            error.report(&printer);
            std::process::exit(error.code() as i32);
        });
    };
    // Without a thread for them signals still end the process.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(listen);
    let _: Result<(), RecvError> = listens.recv();
}

/// What is done before a signal ends this process at once.
static CLEAN: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Removes the half-written files among these when a signal ends this process at once. Those that are not there by then
/// are passed over.
pub(crate) fn removes(half_written: impl FnOnce() -> Vec<PathBuf> + Send + 'static) {
    let clean = move || half_written().iter().for_each(|path| drop(std::fs::remove_file(path)));
    *CLEAN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(clean));
}

/// Waits until this process is asked to stop. As long as the result lives, the first signal does not end the process.
pub(crate) fn asked_to_stop() -> impl Future<Output = ()> + Send + 'static {
    let (seen_to, mut told) = (SeenTo::new(), ASKED.told.subscribe());
    async move {
        let _ = told.wait_for(|told| *told).await;
        drop(seen_to);
    }
}

/// A flag that is set when this process is asked to stop. From now on the command sees to that: the first signal does
/// not end the process.
pub(crate) fn stop_flag() -> Arc<AtomicBool> {
    ASKED.seen_to.fetch_add(1, Ordering::SeqCst);
    ASKED.flag.clone()
}

/// The promise that a part of the command ends in order, as long as it lives.
pub(crate) struct SeenTo;

impl SeenTo {
    fn new() -> Self {
        ASKED.seen_to.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for SeenTo {
    fn drop(&mut self) {
        ASKED.seen_to.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets a command finish a file that it is writing: as long as the result lives, the first signal does not end the
/// process.
pub(crate) fn finishing() -> SeenTo {
    SeenTo::new()
}

/// Carries out a transfer, unless this process is asked to stop. The data that has come by then is kept.
pub(crate) fn interruptible<T>(runtime: &Runtime, transfer: impl Future<Output = T>) -> Result<T, CommandError> {
    let stop = asked_to_stop();
    runtime.block_on(async {
        tokio::select! {
            done = transfer => return Ok(done),
            () = stop => {}
        }
        let error = CommandError::says(Code::Interrupted, "interrupted; what has come is kept");
        Err(error.hint("run the same command again: it goes on where it stopped"))
    })
}

/// The signals that ask a process to stop.
struct Signals {
    #[cfg(unix)]
    all: [Option<Signal>; 3],
}

impl Signals {
    #[cfg(unix)]
    fn new() -> Self {
        // A command that was started with `nohup` outlives the terminal.
        let hangup = hangup_ends_this().then(SignalKind::hangup);
        let kinds = [Some(SignalKind::interrupt()), Some(SignalKind::terminate()), hangup];
        Self { all: kinds.map(|kind| kind.and_then(|kind| signal(kind).ok())) }
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    /// Waits for the next of them.
    async fn next(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate, hangup] = &mut self.all;
            tokio::select! {
                Some(()) = received(interrupt) => {}
                Some(()) = received(terminate) => {}
                Some(()) = received(hangup) => {}
                // None of them can be waited for.
                else => std::future::pending().await,
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Waits for a signal. `None`, at once, if it is not waited for.
#[cfg(unix)]
async fn received(signal: &mut Option<Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// Whether the end of its terminal would end this process. `false` if the process was started so that it does not, and
/// if the system does not say.
#[cfg(unix)]
fn hangup_ends_this() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status) == Some(false))
}

/// Whether a process ignores the signal SIGHUP, by its status as Linux gives it. The line `SigIgn` is a mask in
/// hexadecimal whose lowest bit is the first signal, SIGHUP.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? & 1 == 1)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_under_nohup_outlives_its_terminal() {
        let status = |mask: &str| format!("Name:\ttemplar\nSigBlk:\t0000000000000000\nSigIgn:\t{mask}\nSigCgt:\t0\n");
        assert_eq!(ignores_hangup(&status("0000000000000001")), Some(true));
        assert_eq!(ignores_hangup(&status("0000000000001000")), Some(false));
        assert_eq!(ignores_hangup(&status("?")), None);
        assert_eq!(ignores_hangup(""), None);
    }
}
