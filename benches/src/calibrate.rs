//! What stands behind `/dev/kvm`: a processor, or a program that plays one. Nothing else tells. CPUID of a
//! host with software KVM shows no virtualization although KVM works there, and on a nested host it may
//! show one that is slow. So a bare guest counts its own instructions a second in both rings.

use std::sync::PoisonError;
use std::time::Duration;

use ringside_vmm::boot::{Image, ImageError};
use ringside_vmm::device::Streams;
use ringside_vmm::sys::kvm::Kvm;
use ringside_vmm::trap::Stop;
use ringside_vmm::vm::{End, Limits, Vm, VmError};
use thiserror::Error;

use crate::host::{GuestSpeed, KvmLabel};

/// The guest program, and what it calls its results.
const PROGRAM: &str = "calibrate";
const RING0: &str = "ring0_instructions_per_second";
const RING3: &str = "ring3_instructions_per_second";

/// Guest memory, in bytes.
const MEMORY_BYTES: u64 = 16 << 20;

/// A hundred times what it takes on the slowest host that we know.
const PATIENCE: Duration = Duration::from_secs(10);

/// A processor runs one loop equally fast in both rings; software KVM emulates ring 0 a thousand times
/// slower. Anything in between would be a host that we have not met.
const EMULATED_BELOW: f64 = 1.0 / 30.0;

/// Why the speed of a guest is not known.
#[derive(Debug, Error)]
pub enum CalibrateError {
    /// No virtual machine came to be.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The embedded program is no ELF image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The guest did not end by itself, with success.
    #[error(
        "the guest program `{PROGRAM}` failed: {0}; run `ringside vm run {PROGRAM}` to see where"
    )]
    Guest(End),
    /// It printed something else.
    #[error(
        "the guest program `{PROGRAM}` printed no `{0}`; run `ringside vm run {PROGRAM}` to see what it prints"
    )]
    Output(&'static str),
}

impl KvmLabel {
    /// The label of this host, by a calibration of some forty milliseconds.
    pub fn calibrated() -> Self {
        let speed = Kvm::open()
            .map_err(VmError::from)
            .map_err(CalibrateError::from)
            .and_then(|kvm| guest_speed(&kvm));
        match speed {
            Ok(speed) => KvmLabel::of(speed),
            Err(error) => KvmLabel::None {
                reason: error.to_string(),
            },
        }
    }

    /// The kind of host on which a guest is that fast.
    pub fn of(speed: GuestSpeed) -> Self {
        let ratio = speed.ring0_instructions_per_second / speed.ring3_instructions_per_second;
        if ratio < EMULATED_BELOW {
            KvmLabel::Software(speed)
        } else {
            KvmLabel::Hardware(speed)
        }
    }
}

/// Runs the guest program that measures.
///
/// # Errors
/// When no guest can run here, or it came to no result.
pub fn guest_speed(kvm: &Kvm) -> Result<GuestSpeed, CalibrateError> {
    let program = ringside_guest::program(PROGRAM).expect("it is embedded");
    let (streams, output) = Streams::captured();
    let image = Image::parse(program.elf)?;
    let mut vm = Vm::new(kvm, MEMORY_BYTES, &image, &[], streams)?;
    let limits = Limits {
        time: Some(PATIENCE),
        exits: None,
    };
    let end = vm.run(limits)?.end;
    if end != End::Stopped(Stop::Exited(0)) {
        return Err(CalibrateError::Guest(end));
    }
    let output = output.lock().unwrap_or_else(PoisonError::into_inner);
    parse(&String::from_utf8_lossy(&output))
}

/// Reads the result lines, `name value` each.
fn parse(output: &str) -> Result<GuestSpeed, CalibrateError> {
    let value = |name| {
        let line = output
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line
            .and_then(|value| value.parse().ok())
            .filter(|value: &f64| value.is_finite() && *value > 0.0);
        value.ok_or(CalibrateError::Output(name))
    };
    Ok(GuestSpeed {
        ring0_instructions_per_second: value(RING0)?,
        ring3_instructions_per_second: value(RING3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(ring0: f64, ring3: f64) -> GuestSpeed {
        GuestSpeed {
            ring0_instructions_per_second: ring0,
            ring3_instructions_per_second: ring3,
        }
    }

    #[test]
    fn a_ring_0_that_is_far_slower_is_emulated() {
        assert!(matches!(
            KvmLabel::of(speed(1.1e6, 4e9)),
            KvmLabel::Software(_)
        ));
        assert!(matches!(
            KvmLabel::of(speed(3e9, 4e9)),
            KvmLabel::Hardware(_)
        ));
        // Everything emulated alike, as on a virtual host: what matters is that the rings are equal.
        assert!(matches!(
            KvmLabel::of(speed(1.5e8, 2e8)),
            KvmLabel::Hardware(_)
        ));
    }

    #[test]
    fn results_are_read_by_name() {
        let output = format!("{RING3} 400\nnoise\n{RING0} 2.5\n");
        assert_eq!(parse(&output).unwrap(), speed(2.5, 400.0));
        for wrong in [
            "",
            "x",
            "ring0_instructions_per_second nan",
            "ring0_instructions_per_second 0",
            "ring0_instructions_per_second",
        ] {
            assert!(
                matches!(parse(wrong), Err(CalibrateError::Output(RING0))),
                "{wrong}"
            );
        }
    }

    #[test]
    fn this_host_is_of_one_kind() {
        let kvm = match Kvm::open() {
            Ok(kvm) => kvm,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let speed = guest_speed(&kvm).unwrap();
        assert!(speed.ring3_instructions_per_second > 1e6, "{speed:?}");
        assert!(matches!(
            KvmLabel::calibrated(),
            KvmLabel::Hardware(_) | KvmLabel::Software(_)
        ));
    }
}
