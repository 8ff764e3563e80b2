//! Where a result was measured. No figure of ours goes anywhere without this label: most of what a
//! virtual machine costs depends on whether a processor or a program plays its ring 0.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::thread;

use ringside_container::cgroup::{Layout, Mode};
use serde::{Deserialize, Serialize};

use crate::peers;

/// What a result was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostLabel {
    /// Kernel name and release, as `uname -sr` prints them.
    pub kernel: String,
    /// The processor's own name for itself, from `/proc/cpuinfo`.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// What stands behind `/dev/kvm`.
    pub kvm: KvmLabel,
    /// How the control groups are mounted.
    pub cgroups: CgroupLayout,
    /// What `ringside` and every peer that was found say of their version, by name.
    pub versions: BTreeMap<String, String>,
}

/// What stands behind `/dev/kvm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KvmLabel {
    /// VT-x or AMD-V: every ring of the guest runs on the processor.
    Hardware(GuestSpeed),
    /// Software KVM: ring 3 runs on the processor, ring 0 is emulated.
    Software(GuestSpeed),
    /// It was not calibrated.
    Uncalibrated,
    /// No virtual machine can run here.
    None {
        /// Why, and what would help.
        reason: String,
    },
}

/// How fast a bare guest runs, measured over a few milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuestSpeed {
    /// Instructions a second in ring 0.
    pub ring0_instructions_per_second: f64,
    /// Instructions a second in ring 3.
    pub ring3_instructions_per_second: f64,
}

/// How the control groups are mounted (man 7 cgroups).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupLayout {
    /// One unified tree.
    V2,
    /// Controllers in trees of their own, and a unified tree beside them.
    Hybrid,
    /// Controllers in trees of their own only.
    V1,
    /// Not mounted, or not to be seen.
    None,
}

impl HostLabel {
    /// Reads the label of this host; `kvm` comes from a calibration.
    ///
    /// What cannot be read is called `unknown`: a label is no reason to lose a measurement.
    pub fn read(kvm: KvmLabel) -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let ours = format!("ringside {}", env!("CARGO_PKG_VERSION"));
        let mut versions = BTreeMap::from([("ringside".to_owned(), ours)]);
        for (peer, found) in peers::find_all() {
            if let Ok(installed) = found {
                versions.insert(peer.name.to_owned(), installed.version);
            }
        }
        HostLabel {
            kernel: kernel().unwrap_or_else(unknown),
            cpu: cpu_name(&cpuinfo).unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kvm,
            cgroups: CgroupLayout::of_this_host(),
            versions,
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn kernel() -> Option<String> {
    let kind = fs::read_to_string("/proc/sys/kernel/ostype").ok()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!("{} {}", kind.trim(), release.trim()))
}

fn cpu_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

impl CgroupLayout {
    /// What this process sees.
    fn of_this_host() -> Self {
        match Layout::detect().map(|layout| layout.mode()) {
            Ok(Mode::V2) => CgroupLayout::V2,
            Ok(Mode::Hybrid) => CgroupLayout::Hybrid,
            Ok(Mode::V1) => CgroupLayout::V1,
            Ok(Mode::None) | Err(_) => CgroupLayout::None,
        }
    }

    /// One word for it, the same as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            CgroupLayout::V2 => "v2",
            CgroupLayout::Hybrid => "hybrid",
            CgroupLayout::V1 => "v1",
            CgroupLayout::None => "none",
        }
    }
}

impl fmt::Display for KvmLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, speed) = match self {
            KvmLabel::Hardware(speed) => ("hardware", speed),
            KvmLabel::Software(speed) => ("software, ring 0 emulated", speed),
            KvmLabel::Uncalibrated => return f.write_str("not calibrated"),
            KvmLabel::None { reason } => return write!(f, "none ({reason})"),
        };
        let million = |speed: f64| speed / 1e6;
        write!(
            f,
            "{kind} (million instructions a second: ring 0 {:.1}, ring 3 {:.0})",
            million(speed.ring0_instructions_per_second),
            million(speed.ring3_instructions_per_second),
        )
    }
}

impl fmt::Display for HostLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "host     {}, {} cores, {}",
            self.cpu, self.cores, self.kernel
        )?;
        writeln!(f, "kvm      {}", self.kvm)?;
        writeln!(f, "cgroups  {}", self.cgroups.name())?;
        let versions: Vec<&str> = self.versions.values().map(String::as_str).collect();
        write!(f, "versions {}", versions.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_named_as_it_names_itself() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU: the second @ 3 GHz\nflags\t: fpu\n";
        assert_eq!(cpu_name(cpuinfo).unwrap(), "Some CPU: the second @ 3 GHz");
        assert_eq!(cpu_name(""), None);
    }

    #[test]
    fn this_host_has_a_label() {
        let label = HostLabel::read(KvmLabel::Uncalibrated);
        assert!(label.kernel.starts_with("Linux "), "{}", label.kernel);
        assert!(label.cores >= 1);
        let text = serde_json::to_string(&label).unwrap();
        assert_eq!(serde_json::from_str::<HostLabel>(&text).unwrap(), label);
    }
}
