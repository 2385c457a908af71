//! Clocks, repetitions, medians and the JSON line: what all workloads share.

use std::future::Future;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

pub struct Options {
    pub workers: usize,
    pub n: u64,
    pub reps: usize,
    pub seconds: f64,
}

/// One repetition: `ops` operations, what they took, and what else the row measures.
pub struct Sample {
    pub ops: u64,
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub extra: Vec<(&'static str, f64)>,
}

/// The field a row is judged by, lower is better.
#[derive(Clone, Copy)]
pub struct Figure {
    pub field: &'static str,
    pub unit: &'static str,
}

pub enum Body {
    /// One warm-up, then the repetitions, all on one runtime.
    Repeated(fn(&Runtime, &Options) -> Sample),
    /// A single run, which builds the runtime itself.
    Once(fn(&Options) -> Sample),
}

pub struct Workload {
    pub name: &'static str,
    pub n: u64,
    pub seconds: f64,
    pub figure: Figure,
    pub body: Body,
}

pub fn repeated(
    name: &'static str,
    n: u64,
    figure: Figure,
    body: fn(&Runtime, &Options) -> Sample,
) -> Workload {
    Workload { name, n, seconds: 0.0, figure, body: Body::Repeated(body) }
}

pub fn once(
    name: &'static str,
    n: u64,
    seconds: f64,
    figure: Figure,
    body: fn(&Options) -> Sample,
) -> Workload {
    Workload { name, n, seconds, figure, body: Body::Once(body) }
}

pub fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().unwrap()
}

pub fn process_cpu() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the result.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) }, 0);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

pub fn usage() -> libc::rusage {
    // SAFETY: all-zero bits are a valid rusage, and it is a valid place for the result.
    unsafe {
        let mut usage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    }
}

/// The most that was ever resident. (`ru_maxrss` would count what ran before exec, too.)
fn peak_rss_kb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch { cpu: process_cpu(), wall: Instant::now() }
    }

    pub fn stop(self, ops: u64) -> Sample {
        let seconds = self.wall.elapsed().as_secs_f64();
        let cpu_seconds = (process_cpu() - self.cpu).as_secs_f64();
        Sample { ops, seconds, cpu_seconds, extra: Vec::new() }
    }
}

/// Awaits `body`, which gives the number of its operations, under the clock.
pub async fn timed<F: Future<Output = u64>>(body: F) -> Sample {
    let watch = Stopwatch::start();
    let ops = body.await;
    watch.stop(ops)
}

/// Runs `task` as a spawned task: `block_on`'s own future would not be on a worker.
pub fn on_worker<F>(rt: &Runtime, task: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    rt.block_on(rt.spawn(task)).unwrap()
}

pub fn check(what: &str, got: u64, wanted: u64) {
    if got != wanted {
        eprintln!("wrong result: {} is {}, not {}", what, got, wanted);
        std::process::exit(1);
    }
}

/// Adds the p50, p99 and p99.9 of `values` (nanoseconds) as `p50_us`, `p99_us`, `p999_us`.
pub fn add_percentiles(sample: &mut Sample, mut values: Vec<i64>) {
    values.sort_unstable();
    let at = |q: f64| values[((values.len() - 1) as f64 * q).round() as usize] as f64 / 1000.0;
    sample.extra.push(("p50_us", at(0.5)));
    sample.extra.push(("p99_us", at(0.99)));
    sample.extra.push(("p999_us", at(0.999)));
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let half = values.len() / 2;
    if values.len() % 2 == 1 {
        values[half]
    } else {
        (values[half - 1] + values[half]) / 2.0
    }
}

pub struct Report {
    name: &'static str,
    workers: usize,
    ops: u64,
    fields: Vec<(&'static str, f64)>,
    figure: Figure,
}

pub fn run(workload: &Workload, options: &Options) -> Report {
    let samples: Vec<Sample> = match workload.body {
        Body::Once(body) => vec![body(options)],
        Body::Repeated(body) => {
            let rt = runtime(options.workers);
            body(&rt, options);
            (0..options.reps).map(|_| body(&rt, options)).collect()
        }
    };
    let ops = samples[0].ops;
    let seconds = median(samples.iter().map(|s| s.seconds).collect());
    let cpu_seconds = median(samples.iter().map(|s| s.cpu_seconds).collect());
    let mut fields = vec![
        ("seconds", seconds),
        ("cpu_seconds", cpu_seconds),
        ("ns_per_op", seconds * 1e9 / ops as f64),
        ("cpu_ns_per_op", cpu_seconds * 1e9 / ops as f64),
        ("peak_rss_kb", peak_rss_kb()),
    ];
    for (i, (field, _)) in samples[0].extra.iter().enumerate() {
        fields.push((field, median(samples.iter().map(|s| s.extra[i].1).collect())));
    }
    Report { name: workload.name, workers: options.workers, ops, fields, figure: workload.figure }
}

impl Report {
    pub fn line(&self, peer: &str, version: &str) -> String {
        let mut out = format!(
            "{{\"peer\":\"{}\",\"version\":\"{}\",\"workload\":\"{}\",\"n\":{},\"workers\":{}",
            peer, version, self.name, self.ops, self.workers
        );
        for (field, value) in &self.fields {
            out += &format!(",\"{}\":{}", field, value);
        }
        let figure = self.fields.iter().find(|(field, _)| *field == self.figure.field).unwrap().1;
        out + &format!(",\"figure\":{},\"unit\":\"{}\"}}", figure, self.figure.unit)
    }
}
