//! The benchmark's Tokio driver: `tokio-bench WORKLOAD [--workers N] [--n N] [--reps R]
//! [--seconds S]` prints one JSON line, `tokio-bench --list` all workloads: name, n, seconds, once or
//! repeated.
//!
//! Written for Rust 1.63, so that Debian's own cargo builds it.

mod measure;
mod memory;
mod spawning;
mod timing;
mod waking;

use measure::{Body, Figure, Options, Workload};

const VERSION: &str = "1.24.2";

fn registry() -> Vec<Workload> {
    let mut all = Vec::new();
    all.extend(spawning::workloads());
    all.extend(waking::workloads());
    all.extend(timing::workloads());
    all.extend(memory::workloads());
    all
}

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| usage("name a workload, or --list"));
    if name == "--list" {
        for w in registry() {
            let times = if let Body::Once(_) = w.body { "once" } else { "repeated" };
            println!("{} {} {} {}", w.name, w.n, w.seconds, times);
        }
        return;
    }
    let workload = registry()
        .into_iter()
        .find(|w| w.name == name)
        .unwrap_or_else(|| usage(&format!("no workload '{}'; --list shows them", name)));
    let mut options = Options { workers: 2, n: workload.n, reps: 5, seconds: workload.seconds };
    while let Some(key) = args.next() {
        let value = args.next().unwrap_or_else(|| usage(&format!("{} needs a value", key)));
        let bad = || -> ! { usage(&format!("{} needs a number above 0, not '{}'", key, value)) };
        let whole = || value.parse::<u64>().ok().filter(|v| *v > 0).unwrap_or_else(|| bad());
        match key.as_str() {
            "--workers" => options.workers = whole() as usize,
            "--n" => options.n = whole(),
            "--reps" => options.reps = whole() as usize,
            "--seconds" => {
                options.seconds =
                    value.parse::<f64>().ok().filter(|v| *v > 0.0).unwrap_or_else(|| bad())
            }
            _ => usage(&format!("no option '{}'", key)),
        }
    }
    println!("{}", measure::run(&workload, &options).line("tokio", VERSION));
}

fn usage(problem: &str) -> ! {
    eprintln!("tokio-bench: {}", problem);
    eprintln!(
        "usage: tokio-bench WORKLOAD [--workers N] [--n N] [--reps R] [--seconds S] | --list"
    );
    std::process::exit(2);
}

/// What most rows are judged by.
pub const CPU_PER_OP: Figure = Figure { field: "cpu_ns_per_op", unit: "CPU ns/op" };
