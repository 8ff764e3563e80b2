//! What a start costs, beside its floor: the time from just before the process is started to the
//! first instruction of what it starts, as `ringside compare` measures it.
//!
//! Interleaved: each iteration starts ours and the floor, and counts one of them. So both series see
//! the same machine, although Criterion takes them one after the other.
//!
//! Measures the `ringside` executable beside this one's folder: `cargo build --release` first.

use std::env;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringside_benches::contender::{self, Contender, Tools};
use ringside_benches::floor::Floor;
use ringside_benches::interrupt::Interrupt;
use ringside_benches::measure::{MeasureError, measure};
use ringside_benches::workload::START;

fn starts(criterion: &mut Criterion) {
    // target/release/deps/start-… → target/release/ringside
    let this = env::current_exe().expect("a process has an executable");
    let ringside = this
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("ringside"));
    let Some(ringside) = ringside.filter(|file| file.exists()) else {
        eprintln!(
            "skipped: no ringside beside {}; cargo build --release",
            this.display()
        );
        return;
    };
    let tools = Tools {
        kernel: Err("no kernel is asked for".into()),
        ringside,
        floor: Floor::extract(&env::temp_dir()).expect("a folder for temporary files"),
    };
    let interrupt = Interrupt::never().expect("a socket pair");
    let start = |contender: &dyn Contender| -> Result<Duration, MeasureError> {
        let figures = measure(&START, contender, &tools, &interrupt)?;
        let milliseconds = figures.into_iter().flatten().next().unwrap_or_default();
        Ok(Duration::from_secs_f64(milliseconds / 1e3))
    };

    let contenders = contender::all();
    let mut group = criterion.benchmark_group("start");
    for contender in contenders
        .iter()
        .filter(|contender| contender.floor_of().is_none())
    {
        let floors = contenders
            .iter()
            .filter(|floor| floor.floor_of() == Some(contender.name()));
        let series: Vec<&dyn Contender> = [contender]
            .into_iter()
            .chain(floors)
            .map(AsRef::as_ref)
            .collect();
        if let Some(error) = series.iter().find_map(|contender| start(*contender).err()) {
            eprintln!("skipped: {}: {error}", contender.name());
            continue;
        }
        for counted in &series {
            let id = BenchmarkId::from_parameter(counted.name());
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    for iteration in 0..iterations {
                        // In either order, so that none always meets what the other left behind.
                        for place in 0..series.len() {
                            let turned = (place + iteration as usize) % series.len();
                            let contender = &series[turned];
                            let time = start(*contender).expect("it started a moment ago");
                            if contender.name() == counted.name() {
                                total += time;
                            }
                        }
                    }
                    total
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = starts
}
criterion_main!(benches);
