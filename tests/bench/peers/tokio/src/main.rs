//! The benchmark's Tokio driver: `tokio-bench WORKLOAD [--workers N] [--n N] [--reps R]
//! [--seconds S]` prints one JSON line, `tokio-bench --list` all workloads: name, n, seconds, once or
//! repeated. `tokio-bench serve NAME [--workers N]` serves until standard input ends, `tokio-bench serve
//! --list` prints what.
//!
//! Written for Rust 1.63, so that Debian's own cargo builds it.

mod composing;
mod locking;
mod channels;
mod grouping;
mod measure;
mod memory;
mod serving;
mod sharding;
mod spawning;
mod timing;
mod waking;

use measure::{Body, Figure, Options, Workload};

const VERSION: &str = "1.24.2";

fn registry() -> Vec<Workload> {
    let mut all = Vec::new();
    all.extend(spawning::workloads());
    all.extend(waking::workloads());
    all.extend(locking::workloads());
    all.extend(grouping::workloads());
    all.extend(timing::workloads());
    all.extend(composing::workloads());
    all.extend(memory::workloads());
    all.extend(channels::workloads());
    all.extend(sharding::workloads());
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
    if name == "serve" {
        return serve(args.collect());
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

fn serve(args: Vec<String>) {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (name, workers) = match args[..] {
        ["--list"] => return serving::NAMES.iter().for_each(|name| println!("{}", name)),
        [name] => (name, Some(2)),
        [name, "--workers", count] => (name, count.parse().ok().filter(|n: &usize| *n > 0)),
        _ => usage("serve takes a name and --workers N, or --list"),
    };
    if !serving::NAMES.contains(&name) {
        usage(&format!("no server '{}'; serve --list shows them", name));
    }
    let workers = workers.unwrap_or_else(|| usage("--workers needs a number above 0"));
    serving::serve(name, workers, |port| {
        println!(
            "{{\"peer\":\"tokio\",\"version\":\"{}\",\"serves\":\"{}\",\"workers\":{},\"port\":{},\"pid\":{}}}",
            VERSION,
            name,
            workers,
            port,
            std::process::id()
        )
    });
}

fn usage(problem: &str) -> ! {
    eprintln!("tokio-bench: {}", problem);
    eprintln!(
        "usage: tokio-bench WORKLOAD [--workers N] [--n N] [--reps R] [--seconds S] | --list\n       \
         tokio-bench serve NAME [--workers N] | serve --list"
    );
    std::process::exit(2);
}

/// What most rows are judged by.
pub const CPU_PER_OP: Figure = Figure { field: "cpu_ns_per_op", unit: "CPU ns/op" };
