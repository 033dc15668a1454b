//! `templar device test`: compares devices with the specification.

use std::time::Duration;

use serde_json::{Value, json};
use templar_device::{
    Admitted, Cpu, Device as _, DeviceChoice, DeviceReport, OpenError, OpenOptions, admit, list, prove,
};

use super::words::{built_without, value};
use crate::compute::options;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::printer::Tone;

/// Test devices: every operation on wild numbers and two training steps must have the specified bits
///
/// A device is tested with the arithmetic of its hardware. Where that does not pass, it is tested with integers
/// in its place, which is slow. Ends with exit code 4 if a device computes something else than the specification.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// The device, as `templar device list` names it [default: all]
    device: Option<DeviceChoice>,
    /// The number of seconds that compiling and testing may take, for each arithmetic
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    time_limit: u64,
}

/// A device after its test.
struct Tested {
    /// The name and the device, for people.
    title: String,
    /// The report for a program.
    report: Value,
    /// The lines of the report for people.
    lines: Vec<String>,
    /// The arithmetic that passed, with the reasons against others.
    result: Result<Vec<String>, OpenError>,
    seconds: f64,
}

pub(crate) fn run(invocation: &Invocation, args: &TestArgs) -> CommandResult {
    let mut worst = Code::Ok;
    let mut tested = |tested: Tested| worst = worst.max(say(invocation, tested));
    if matches!(args.device, None | Some(DeviceChoice::Cpu)) {
        tested(test_cpu());
    }
    let options =
        OpenOptions { time_limit: Duration::from_secs(args.time_limit), test_again: true, ..options(invocation) };
    let reports = list()?;
    match args.device {
        Some(DeviceChoice::Cpu) => {}
        None | Some(DeviceChoice::Auto) => reports.iter().for_each(|report| tested(test(report, &options))),
        Some(choice) => match reports.iter().find(|report| report.choice == choice) {
            Some(report) => tested(test(report, &options)),
            // The attempt to open it says why it is not there.
            None => drop(admit(choice, &options)?),
        },
    }
    if let Some(text) = built_without() {
        invocation.printer.talk(text);
    }
    Ok(worst)
}

fn test_cpu() -> Tested {
    let cpu = Cpu::default();
    let (result, seconds) = timed(|| prove(&cpu));
    let refused = |difference| OpenError::Refused { device: cpu.name(), difference };
    let result = result.map(|()| vec!["hardware".to_owned()]).map_err(refused);
    Tested { title: cpu.name(), report: json!({"name": "cpu"}), lines: Vec::new(), result, seconds }
}

fn test(report: &DeviceReport, options: &OpenOptions) -> Tested {
    let (result, seconds) = timed(|| admit(report.choice, options));
    let arithmetic = |admitted: Admitted| {
        let refused = admitted.refused.iter().map(|(path, reason)| format!("not with {path}: {reason}"));
        std::iter::once(admitted.path.to_string()).chain(refused).collect()
    };
    let floats = report.floats;
    let says = [
        (floats.has_fma, "fused multiply-add"),
        (floats.has_subnormals, "subnormal numbers"),
        (floats.has_division, "rounded division"),
        (floats.has_f64, "binary64"),
    ];
    let part = |wanted: bool| {
        let names: Vec<&str> = says.iter().filter(|(has, _)| *has == wanted).map(|(_, name)| *name).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let lines = vec![
        format!("driver   {}, {}", report.platform, report.driver),
        format!("has      {}", part(true)),
        format!("lacks    {}", part(false)),
    ];
    Tested { title: report.title(), report: value(report), lines, result: result.map(arithmetic), seconds }
}

/// Prints the result of a test, and gives the exit code that it asks for.
fn say(invocation: &Invocation, tested: Tested) -> Code {
    let printer = invocation.printer;
    let Tested { title, report, lines, result, seconds } = tested;
    let mut text = vec![title];
    text.extend(lines.into_iter().map(|line| format!("  {line}")));
    let (code, verdict, details) = match result {
        Ok(arithmetic) => {
            let passed = printer.tone(Tone::Good, "passed");
            text.push(format!("  {passed}   by {} ({seconds:.1} s)", arithmetic.join("; ")));
            (Code::Ok, "passed", arithmetic)
        }
        Err(error) => {
            let error = CommandError::from(error);
            text.push(format!("  {}  {}", printer.tone(Tone::Bad, "refused"), error.lines().join(": ")));
            (error.code(), "refused", error.lines())
        }
    };
    let value = json!({"type": "device", "device": report, "verdict": verdict, "details": details, "seconds": seconds});
    printer.data(&value, text.join("\n"));
    code
}

/// A result with the seconds that it took.
#[expect(clippy::disallowed_methods, reason = "a time that a person reads; decides nothing")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = std::time::Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64())
}
