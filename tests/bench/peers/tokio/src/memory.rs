//! Rows about bytes.

use crate::measure::{
    check, on_worker, once, runtime, Figure, Options, Sample, Stopwatch, Workload,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

pub fn workloads() -> Vec<Workload> {
    let bytes = Figure { field: "bytes_per_task", unit: "bytes/task" };
    vec![once("memory_per_task", 1_000_000, 0.0, bytes, memory_per_task)]
}

pub fn resident_bytes() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: i64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[derive(Default)]
struct Shared {
    started: AtomicU64,
    never: Notify,
}

/// A block and not an `async fn`, whose future would hold the argument twice.
fn spawn_waiter(shared: Arc<Shared>) {
    tokio::spawn(async move {
        shared.started.fetch_add(1, Ordering::Relaxed);
        shared.never.notified().await;
    });
}

async fn all_started(shared: &Shared, count: u64) {
    while shared.started.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn memory_per_task(options: &Options) -> Sample {
    let rt = runtime(options.workers);
    let n = options.n;
    let shared = Arc::new(Shared::default());
    let held = shared.clone();
    let mut sample = on_worker(&rt, async move {
        spawn_waiter(held.clone());
        all_started(&held, 1).await;
        let before = resident_bytes();
        let watch = Stopwatch::start();
        for _ in 0..n {
            spawn_waiter(held.clone());
        }
        all_started(&held, n + 1).await;
        let mut sample = watch.stop(n);
        sample.extra.push(("bytes_per_task", (resident_bytes() - before) as f64 / n as f64));
        sample
    });
    check("references", Arc::strong_count(&shared) as u64, n + 2);
    let start = Instant::now();
    drop(rt);
    sample.extra.push(("drop_s", start.elapsed().as_secs_f64()));
    check("references after the drop", Arc::strong_count(&shared) as u64, 1);
    sample
}
