//! Named processors for Linux guests: what KVM offers, without some features.
//!
//! A template is a list of names, no table of leaves: a machine of one template finds the same set of
//! features on every host that has them all, and whoever reads the list knows what it takes away.

use super::features::{FEATURES, Feature};
use thiserror::Error;

/// A processor by what it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// What it is called.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// Linux's names of the features that it lacks.
    pub lacks: &'static [&'static str],
}

/// All that KVM offers.
pub const HOST: Template = Template {
    name: "host",
    about: "all that KVM offers",
    lacks: &[],
};

/// For hosts whose KVM emulates ring 0: without the features for which a kernel uses instructions that
/// such an emulator does not know (`xgetbv`, `stac`, `popcnt`, `cmpxchg16b`, …), or that it does slowly
/// (string instructions by bytes). A kernel cannot be kept from all of them: such a KVM adds some
/// features of the host's again.
pub const EMULATED_RING0: Template = Template {
    name: "emulated-ring0",
    about: "without what a kernel uses and an emulator of ring 0 lacks",
    lacks: &[
        "monitor",
        "cx16",
        "pcid",
        "popcnt",
        "xsave",
        "fsgsbase",
        "erms",
        "invpcid",
        "smap",
        "clwb",
        "umip",
        "pku",
        "user_shstk",
        "la57",
        "rdpid",
        "fsrm",
        "ibt",
        "pdpe1gb",
        "rdtscp",
    ],
};

/// The second level of the x86-64 psABI, which processors have had since 2009: a guest that is seen with
/// it can be told from no older host's.
pub const X86_64_V2: Template = Template {
    name: "x86-64-v2",
    about: "the x86-64 psABI's second level: no AVX and nothing that came with it",
    lacks: &[
        "fma", "movbe", "xsave", "avx", "f16c", "bmi1", "avx2", "bmi2", "avx512f", "pku", "abm",
    ],
};

/// Every template.
pub const TEMPLATES: [Template; 3] = [HOST, EMULATED_RING0, X86_64_V2];

/// No such template.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("there is no processor template `{name}`; there are {}", TEMPLATES.map(|template| template.name).join(", "))]
pub struct UnknownTemplate {
    name: String,
}

impl Template {
    /// By its name.
    ///
    /// # Errors
    /// [`UnknownTemplate`], which names all that there are.
    pub fn named(name: &str) -> Result<Template, UnknownTemplate> {
        let found = TEMPLATES.into_iter().find(|template| template.name == name);
        found.ok_or_else(|| UnknownTemplate {
            name: name.to_owned(),
        })
    }

    /// The features to mask.
    pub fn masked(&self) -> Vec<Feature> {
        let lacks = |feature: &Feature| self.lacks.contains(&feature.name);
        FEATURES.into_iter().filter(lacks).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_name_features_that_there_are() {
        for template in TEMPLATES {
            assert_eq!(template.masked().len(), template.lacks.len());
            assert_eq!(Template::named(template.name), Ok(template));
        }
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let error = Template::named("x86-64-v9").unwrap_err().to_string();
        assert!(
            error.ends_with("there are host, emulated-ring0, x86-64-v2"),
            "{error}"
        );
    }
}
