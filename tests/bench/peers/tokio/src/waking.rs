//! Rows about waking a task that waits.

use crate::measure::{
    add_percentiles, check, on_worker, repeated, Figure, Options, Sample, Stopwatch, Workload,
};
use crate::CPU_PER_OP;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

pub fn workloads() -> Vec<Workload> {
    let p99 = Figure { field: "p99_us", unit: "p99 us" };
    vec![
        repeated("external_wake", 20_000, p99, external_wake),
        repeated("abort_parked", 100_000, CPU_PER_OP, abort_parked),
    ]
}

struct Doorbell {
    rung_at: AtomicU64, // nanoseconds after `start`
    answered: AtomicU64,
    bell: Notify,
}

fn external_wake(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    let start = Instant::now();
    let now = move || start.elapsed().as_nanos() as u64;
    let door = Arc::new(Doorbell {
        rung_at: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        bell: Notify::new(),
    });
    let ringer = {
        let door = door.clone();
        std::thread::spawn(move || {
            // SAFETY: takes plain numbers only.
            assert_eq!(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) }, 0);
            for i in 0..n {
                // At least once: the task must be parked when the bell rings.
                loop {
                    std::thread::sleep(Duration::from_micros(50));
                    if door.answered.load(Ordering::Acquire) == i {
                        break;
                    }
                }
                door.rung_at.store(now(), Ordering::Release);
                door.bell.notify_one();
            }
        })
    };
    let sample = on_worker(rt, async move {
        let watch = Stopwatch::start();
        let mut delays = Vec::with_capacity(n as usize);
        for i in 0..n {
            door.bell.notified().await;
            delays.push(now() as i64 - door.rung_at.load(Ordering::Acquire) as i64);
            door.answered.store(i + 1, Ordering::Release);
        }
        check("wakes", delays.len() as u64, n);
        let mut sample = watch.stop(n);
        add_percentiles(&mut sample, delays);
        sample
    });
    ringer.join().unwrap();
    sample
}

struct Parked {
    started: AtomicU64,
    left: AtomicU64,
    all_gone: Notify,
    never: Notify,
}

struct Counted(Arc<Parked>);

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.all_gone.notify_one();
        }
    }
}

fn abort_parked(rt: &Runtime, options: &Options) -> Sample {
    let half = (options.n / 2).max(1);
    let n = 2 * half;
    on_worker(rt, async move {
        let parked = Arc::new(Parked {
            started: AtomicU64::new(0),
            left: AtomicU64::new(n),
            all_gone: Notify::new(),
            never: Notify::new(),
        });
        let mut handles = Vec::with_capacity(n as usize);
        for _ in 0..half {
            let counted = Counted(parked.clone());
            handles.push(tokio::spawn(async move {
                counted.0.started.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }));
            let counted = Counted(parked.clone());
            handles.push(tokio::spawn(async move {
                counted.0.started.fetch_add(1, Ordering::Relaxed);
                counted.0.never.notified().await;
            }));
        }
        while parked.started.load(Ordering::Relaxed) < n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // the last one parks meanwhile
        let watch = Stopwatch::start();
        for handle in &handles {
            handle.abort();
        }
        parked.all_gone.notified().await;
        check("tasks left", parked.left.load(Ordering::Relaxed), 0);
        watch.stop(n)
    })
}
