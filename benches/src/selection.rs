//! Who takes part and in what, from the names on a command line.

use crate::contender::Contender;
use crate::workload::Workload;

/// A name that nothing has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{name}`; there is {}", known.join(", "))]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: Vec<&'static str>,
}

/// The workloads called `names`, in the order of `all`; without names, those that run by default. A
/// twin comes along with the workload that it is compared with.
///
/// # Errors
///
/// [`UnknownName`], which lists the names that there are.
pub fn workloads(names: &[String], all: &[Workload]) -> Result<Vec<Workload>, UnknownName> {
    let known: Vec<&'static str> = all.iter().map(|workload| workload.name).collect();
    check(names, "workload", &known)?;
    let named = |name: &str| names.iter().any(|wanted| wanted == name);
    let chosen = |workload: &&Workload| match names {
        [] => workload.by_default,
        _ => {
            let mut twins = all.iter().filter(|other| other.twin == Some(workload.name));
            named(workload.name) || twins.any(|other| named(other.name))
        }
    };
    Ok(all.iter().filter(chosen).copied().collect())
}

/// The contenders called `names`, in the order of `all`; without names, all of them. A floor comes
/// along with the contender that it is the floor of.
///
/// # Errors
///
/// [`UnknownName`], which lists the names that there are.
pub fn contenders(
    names: &[String],
    all: Vec<Box<dyn Contender>>,
) -> Result<Vec<Box<dyn Contender>>, UnknownName> {
    let known: Vec<&'static str> = all.iter().map(|contender| contender.name()).collect();
    check(names, "contender", &known)?;
    let named = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    Ok(all
        .into_iter()
        .filter(|contender| named(contender.name()) || contender.floor_of().is_some_and(named))
        .collect())
}

fn check(names: &[String], what: &'static str, known: &[&'static str]) -> Result<(), UnknownName> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(UnknownName {
            what,
            name: name.clone(),
            known: known.to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender;
    use crate::workload::WORKLOADS;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn workload_names(chosen: &[&str]) -> Vec<&'static str> {
        let chosen = workloads(&names(chosen), &WORKLOADS).unwrap();
        chosen.iter().map(|workload| workload.name).collect()
    }

    fn contender_names(chosen: &[&str]) -> Vec<&'static str> {
        let chosen = contenders(&names(chosen), contender::all()).unwrap();
        chosen.iter().map(|contender| contender.name()).collect()
    }

    #[test]
    fn without_names_the_usual_ones_take_part() {
        let usual = ["start", "primes", "memory", "faults", "call", "footprint"];
        assert_eq!(workload_names(&[]), usual);
        let all = ["native", "container", "vm", "floor-container", "floor-vm"];
        assert_eq!(contender_names(&[]), all);
    }

    #[test]
    fn names_choose_and_the_order_stays() {
        assert_eq!(workload_names(&["call", "start"]), ["start", "call"]);
        assert_eq!(
            contender_names(&["floor-vm", "native"]),
            ["native", "floor-vm"]
        );
    }

    #[test]
    fn what_makes_a_figure_readable_comes_along() {
        assert_eq!(
            workload_names(&["sysbench-cpu"]),
            ["primes", "sysbench-cpu"]
        );
        assert_eq!(contender_names(&["vm"]), ["vm", "floor-vm"]);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = workloads(&names(&["start", "prime"]), &WORKLOADS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown workload `prime`; there is start, primes, memory, faults, call, footprint, boot, sysbench-cpu, sysbench-memory, sysbench-threads, sysbench-mutex, sysbench-fileio"
        );
        let error = contenders(&names(&[""]), contender::all())
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown contender ``; there is native, container, vm, floor-container, floor-vm"
        );
    }
}
