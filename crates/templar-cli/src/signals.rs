//! The signals by which a person or a system asks this program to stop.
//!
//! A command that works for long stops in order at the first of them, so nothing that it has done is lost.

use tokio::runtime::Runtime;

use crate::error::{Code, CommandError};

/// Waits until this process is asked to stop: by Ctrl-C, by the signal with which systems end services, or because its
/// terminal was closed.
pub(crate) async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate()).ok();
        // A command that was started with `nohup` outlives the terminal.
        let mut hung_up = if hangup_ends_this() { signal(SignalKind::hangup()).ok() } else { None };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            Some(()) = received(&mut terminated) => {}
            Some(()) = received(&mut hung_up) => {}
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
}

/// Carries out a transfer, unless this process is asked to stop. The data that has come by then is kept. A second
/// Ctrl-C ends the process at once.
pub(crate) fn interruptible<T>(runtime: &Runtime, transfer: impl Future<Output = T>) -> Result<T, CommandError> {
    runtime.block_on(async {
        tokio::select! {
            done = transfer => return Ok(done),
            () = asked_to_stop() => {}
        }
        tokio::spawn(async {
            asked_to_stop().await;
            std::process::exit(Code::Interrupted as i32);
        });
        let error = CommandError::says(Code::Interrupted, "interrupted; what has come is kept");
        Err(error.hint("run the same command again: it goes on where it stopped"))
    })
}

/// Waits for a signal. `None`, at once, if it is not waited for.
#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
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
