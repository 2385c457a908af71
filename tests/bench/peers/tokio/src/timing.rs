//! Rows about time: timers, time-outs, and who gets the worker when.

use crate::measure::{
    add_percentiles, check, on_worker, once, repeated, runtime, timed, usage, Figure, Options,
    Sample, Stopwatch, Workload,
};
use crate::CPU_PER_OP;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

pub fn workloads() -> Vec<Workload> {
    let p99 = Figure { field: "p99_us", unit: "p99 us" };
    let idle = Figure { field: "cpu_ms_per_s", unit: "CPU ms/s" };
    vec![
        repeated("timers", 200_000, CPU_PER_OP, timers),
        repeated("timeout_churn", 2_000_000, CPU_PER_OP, |rt, o| timeout_churn(rt, o, 1)),
        repeated("timeout_churn_mt", 2_000_000, CPU_PER_OP, |rt, o| timeout_churn(rt, o, 64)),
        once("fairness_yield", 100, 2.0, p99, |o| fairness(o, yield_forever)),
        once("fairness_busy", 100, 2.0, p99, |o| fairness(o, compute_forever)),
        once("idle_cpu", 1, 10.0, idle, idle_cpu),
    ]
}

/// splitmix64: the same numbers in every driver.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Sleeps `d`; gives how much later than asked it went on, in nanoseconds.
async fn lateness(d: Duration) -> i64 {
    let start = Instant::now();
    sleep(d).await;
    start.elapsed().as_nanos() as i64 - d.as_nanos() as i64
}

fn timers(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let watch = Stopwatch::start();
        let mut random = Random(42);
        let tasks: Vec<_> = (0..n)
            .map(|_| tokio::spawn(lateness(Duration::from_millis(1 + random.next() % 1000))))
            .collect();
        let mut late = Vec::with_capacity(n as usize);
        for task in tasks {
            late.push(task.await.unwrap());
        }
        check("early timers", late.iter().filter(|l| **l < 0).count() as u64, 0);
        let mut sample = watch.stop(n);
        add_percentiles(&mut sample, late);
        sample
    })
}

async fn churn(rounds: u64) -> u64 {
    let mut done = 0;
    for _ in 0..rounds {
        done += timeout(Duration::from_secs(10), yield_now()).await.is_ok() as u64;
    }
    done
}

fn timeout_churn(rt: &Runtime, options: &Options, tasks: u64) -> Sample {
    let each = (options.n / tasks).max(1);
    on_worker(
        rt,
        timed(async move {
            let mut done = 0;
            if tasks == 1 {
                done = churn(each).await;
            } else {
                let handles: Vec<_> = (0..tasks).map(|_| tokio::spawn(churn(each))).collect();
                for handle in handles {
                    done += handle.await.unwrap();
                }
            }
            check("bodies that ended in time", done, tasks * each);
            done
        }),
    )
}

#[derive(Default)]
struct Hog {
    stop: AtomicBool,
    yields: AtomicU64,
}

async fn yield_forever(hog: Arc<Hog>) {
    while !hog.stop.load(Ordering::Relaxed) {
        yield_now().await;
        hog.yields.fetch_add(1, Ordering::Relaxed);
    }
}

async fn compute_forever(hog: Arc<Hog>) {
    while !hog.stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {}
        yield_now().await;
        hog.yields.fetch_add(1, Ordering::Relaxed);
    }
}

async fn sleep_in_a_loop(until: Instant) -> Vec<i64> {
    let mut late = Vec::new();
    while Instant::now() < until {
        late.push(lateness(Duration::from_millis(1)).await);
    }
    late
}

fn fairness<F>(options: &Options, hog_task: fn(Arc<Hog>) -> F) -> Sample
where
    F: Future<Output = ()> + Send + 'static,
{
    let rt = runtime(options.workers);
    let (n, seconds) = (options.n, options.seconds);
    on_worker(&rt, async move {
        let watch = Stopwatch::start();
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let hog = Arc::new(Hog::default());
        let hogging = tokio::spawn(hog_task(hog.clone()));
        let sleepers: Vec<_> = (0..n).map(|_| tokio::spawn(sleep_in_a_loop(until))).collect();
        let mut late = Vec::new();
        for sleeper in sleepers {
            late.extend(sleeper.await.unwrap());
        }
        hog.stop.store(true, Ordering::Relaxed);
        hogging.await.unwrap();
        check("early sleeps", late.iter().filter(|l| **l < 0).count() as u64, 0);
        let mut sample = watch.stop(late.len() as u64);
        sample.extra.push(("yields_per_s", hog.yields.load(Ordering::Relaxed) as f64 / seconds));
        add_percentiles(&mut sample, late);
        sample
    })
}

fn idle_cpu(options: &Options) -> Sample {
    let rt = runtime(options.workers);
    let duration = Duration::from_secs_f64(options.seconds);
    rt.block_on(rt.spawn(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        tokio::spawn(async move {
            let _ = listener.accept().await;
        });
        tokio::spawn(async {
            loop {
                sleep(Duration::from_secs(1)).await;
            }
        });
    }))
    .unwrap();
    std::thread::sleep(Duration::from_millis(100)); // the workers have gone to sleep
    let switches = || {
        let usage = usage();
        (usage.ru_nvcsw + usage.ru_nivcsw) as f64
    };
    let before = switches();
    let watch = Stopwatch::start();
    std::thread::sleep(duration);
    let mut sample = watch.stop(1);
    let after = switches();
    sample.extra.push(("cpu_ms_per_s", sample.cpu_seconds * 1000.0 / sample.seconds));
    sample.extra.push(("switches_per_s", (after - before) / sample.seconds));
    sample
}
