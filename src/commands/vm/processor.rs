//! Which processor a Linux guest finds.

use crate::commands::Failure;
use ringside_vmm::vcpu::features::Feature;
use ringside_vmm::vcpu::template::Template;

/// A template, and features by name.
#[derive(clap::Args)]
#[group(skip)]
pub struct ProcessorArgs {
    /// The processor that a Linux guest finds: host, emulated-ring0 or x86-64-v2
    #[arg(long, value_name = "TEMPLATE")]
    cpu_template: Option<String>,
    /// Hide more features from a Linux guest, by their names in /proc/cpuinfo
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    mask: Vec<String>,
}

impl ProcessorArgs {
    /// Whether anything is asked for.
    pub fn is_used(&self) -> bool {
        self.cpu_template.is_some() || !self.mask.is_empty()
    }

    /// The features that the guest is not to have; without a template, those of `usual`.
    pub fn masked(&self, usual: Template) -> Result<Vec<Feature>, Failure> {
        let named = self.cpu_template.as_deref().map(Template::named);
        let template = named.transpose().map_err(Failure::usage)?;
        let mut masked = template.unwrap_or(usual).masked();
        for name in &self.mask {
            masked.push(Feature::named(name).map_err(Failure::usage)?);
        }
        Ok(masked)
    }
}
