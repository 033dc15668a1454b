//! The events of a node in words, one line each. With `--json`, the event itself is the line.

use templar_node::event::NodeEvent;

use crate::printer::{Printer, amount, bytes, count};

/// Prints an event as one line.
pub(crate) fn tell(printer: &Printer, event: &NodeEvent) {
    printer.progress(event, sentence(event));
}

/// An event as a sentence.
pub(crate) fn sentence(event: &NodeEvent) -> String {
    match event {
        NodeEvent::Step { step, steps, loss, norm, learning_rate, tokens_per_second, .. } => format!(
            "step {step}/{steps} | loss {loss:.3} | norm {norm:.2} | lr {} | {} tok/s",
            scientific(*learning_rate),
            amount(*tokens_per_second)
        ),
        NodeEvent::Contributed {
            window,
            miner,
            contribution,
            delta,
            delta_bytes,
            ratio_fp32,
            ratio_bf16,
            loss,
            ..
        } => {
            format!(
                "w{window} {} contributed {}: delta {}, {}, {ratio_fp32:.0}x smaller than fp32, {ratio_bf16:.0}x than bf16, loss {loss:.3}",
                miner.short(),
                contribution.short(),
                delta.short(),
                bytes(*delta_bytes)
            )
        }
        NodeEvent::Judged { window, miner, replay, improvement, .. } => {
            let loss = improvement.map_or_else(String::new, |by| {
                let change = if by > 0.0 { "lowers" } else { "raises" };
                format!("; its update {change} the loss by {:.4} on pages that it never saw", by.abs())
            });
            let replay = match replay.as_str() {
                "match" => "replayed to the same hashes",
                "not-drawn" => "not replayed by this node",
                refusal => refusal,
            };
            format!("w{window} {} checked: {replay}{loss}", miner.short())
        }
        NodeEvent::Closed {
            window,
            record,
            checkpoint,
            held_out_loss,
            aggregated,
            refused,
            minted,
            signatures,
            ..
        } => {
            let mut text = format!(
                "w{window} closed: record {} | {} aggregated | held-out loss {held_out_loss:.4} | minted {minted:.3} ALPHA | {} | checkpoint {}",
                record.short(),
                aggregated.len(),
                count(*signatures as u64, "signature"),
                checkpoint.short()
            );
            for refused in refused {
                text.push_str(&format!("\nw{window} refused {}: {}", refused.miner.short(), refused.reason));
            }
            text
        }
        NodeEvent::Started { key, run, window, ticket, .. } => {
            format!("node {} serves run {}; window {window} is open\nticket {ticket}", key.short(), run.short())
        }
        NodeEvent::Metrics { addr } => format!("metrics are served at http://{addr}/metrics"),
        NodeEvent::Signed { window, kind, id, signer, .. } => {
            format!("w{window} {kind} {} signed by {}", id.short(), signer.short())
        }
        NodeEvent::Admitted { window, owner, verdict } => {
            format!("w{window} registration of {}: {verdict}", owner.short())
        }
        NodeEvent::Registered { owner, slot, since } => {
            format!("this node trains for {} in slot {slot}, from window {since} on", owner.short())
        }
        NodeEvent::Finished { checkpoint, .. } => {
            format!("the run is over; the final model is checkpoint {}", checkpoint.short())
        }
        NodeEvent::Deadline { window, phase, .. } => {
            format!("w{window} the deadline to {phase} has passed; the window goes on without whoever is missing")
        }
        NodeEvent::Pruned { blobs, bytes: freed } => {
            format!("removed {} that no run needs any more: {}", count(*blobs, "blob"), bytes(*freed))
        }
        NodeEvent::KeyElsewhere { window, kind, entry } => format!(
            "this node's key is in use elsewhere: it has signed the {kind} of window {window} (entry {}), and not here",
            entry.short()
        ),
        NodeEvent::Reconnected { seconds } => format!("others can be reached again, after {seconds} s"),
        NodeEvent::Warning { message, times: 1 } => format!("warning: {message}"),
        NodeEvent::Warning { message, times } => format!("warning, {times} times since the last one: {message}"),
    }
}

/// A learning rate as `6.0e-04`.
fn scientific(value: f32) -> String {
    let text = format!("{value:.1e}");
    match text.split_once('e') {
        Some((digits, exponent)) => match exponent.strip_prefix('-') {
            Some(exponent) => format!("{digits}e-{exponent:0>2}"),
            None => format!("{digits}e+{exponent:0>2}"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_line_is_the_familiar_one() {
        let event = NodeEvent::Step {
            window: 0,
            step: 12,
            steps: 100,
            loss: 3.9184,
            norm: 0.8123,
            learning_rate: 6e-4,
            tokens_per_second: 1402.0,
        };
        assert_eq!(sentence(&event), "step 12/100 | loss 3.918 | norm 0.81 | lr 6.0e-04 | 1.4k tok/s");
        assert_eq!([scientific(0.0), scientific(3e-12), scientific(1.0)], ["0.0e+00", "3.0e-12", "1.0e+00"]);
    }
}
