//! Rows about locks, permits and notifications between tasks.

use crate::measure::{check, on_worker, repeated, Options, Sample, Stopwatch, Workload};
use crate::CPU_PER_OP;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Notify, RwLock, Semaphore};
use tokio::task::yield_now;

pub fn workloads() -> Vec<Workload> {
    vec![
        repeated("mutex_uncontended", 10_000_000, CPU_PER_OP, mutex_uncontended),
        repeated("mutex_contended", 1_280_000, CPU_PER_OP, mutex_contended),
        repeated("mutex_contended_yield", 320_000, CPU_PER_OP, mutex_contended_yield),
        repeated("rwlock", 1_280_000, CPU_PER_OP, rwlock),
        repeated("semaphore", 1_280_000, CPU_PER_OP, semaphore),
        repeated("semaphore_yield", 640_000, CPU_PER_OP, semaphore_yield),
        repeated("notify", 1_000_000, CPU_PER_OP, notify),
    ]
}

const TASKS: u64 = 64;

/// Spawns `TASKS` of them, `make(number, operations of each)`, and awaits all. Gives the operations.
async fn run_all<F>(n: u64, make: impl Fn(u64, u64) -> F) -> u64
where
    F: Future<Output = ()> + Send + 'static,
{
    let each = (n / TASKS).max(1);
    let handles: Vec<_> = (0..TASKS).map(|i| tokio::spawn(make(i, each))).collect();
    for handle in handles {
        handle.await.unwrap();
    }
    TASKS * each
}

fn mutex_uncontended(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let counter = Mutex::new(0u64);
        let watch = Stopwatch::start();
        for _ in 0..n {
            *counter.lock().await += 1;
        }
        check("count", *counter.lock().await, n);
        watch.stop(n)
    })
}

fn mutex_contended(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let counter = Arc::new(Mutex::new(0u64));
        let watch = Stopwatch::start();
        let ops = run_all(n, |_, each| {
            let counter = counter.clone();
            async move {
                for _ in 0..each {
                    *counter.lock().await += 1;
                }
            }
        })
        .await;
        check("count", *counter.lock().await, ops);
        watch.stop(ops)
    })
}

fn mutex_contended_yield(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let counter = Arc::new(Mutex::new(0u64));
        let watch = Stopwatch::start();
        let ops = run_all(n, |_, each| {
            let counter = counter.clone();
            async move {
                for _ in 0..each {
                    let mut value = counter.lock().await;
                    *value += 1;
                    yield_now().await;
                }
            }
        })
        .await;
        check("count", *counter.lock().await, ops);
        watch.stop(ops)
    })
}

fn writes(number: u64, i: u64) -> bool {
    (i + number) % 64 == 0
}

fn rwlock(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let counter = Arc::new(RwLock::new(0u64));
        let watch = Stopwatch::start();
        let ops = run_all(n, |number, each| {
            let counter = counter.clone();
            async move {
                let mut seen = 0;
                for i in 0..each {
                    if writes(number, i) {
                        *counter.write().await += 1;
                    } else {
                        seen = seen.max(*counter.read().await);
                    }
                }
                check("more than ever", (seen > TASKS * each) as u64, 0);
            }
        })
        .await;
        let sample = watch.stop(ops);
        let written =
            (0..TASKS).map(|t| (0..ops / TASKS).filter(|i| writes(t, *i)).count() as u64).sum();
        check("written", *counter.read().await, written);
        sample
    })
}

fn semaphore(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let permits = Arc::new(Semaphore::new(10));
        let watch = Stopwatch::start();
        let ops = run_all(n, |_, each| {
            let permits = permits.clone();
            async move {
                for _ in 0..each {
                    let _permit = permits.acquire().await.unwrap();
                }
            }
        })
        .await;
        check("permits", permits.available_permits() as u64, 10);
        watch.stop(ops)
    })
}

fn semaphore_yield(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let permits = Arc::new(Semaphore::new(10));
        let watch = Stopwatch::start();
        let ops = run_all(n, |_, each| {
            let permits = permits.clone();
            async move {
                for _ in 0..each {
                    let _permit = permits.acquire().await.unwrap();
                    yield_now().await;
                }
            }
        })
        .await;
        check("permits", permits.available_permits() as u64, 10);
        watch.stop(ops)
    })
}

fn notify(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(rt, async move {
        let question = Arc::new(Notify::new());
        let reply = Arc::new(Notify::new());
        let watch = Stopwatch::start();
        let answers = {
            let (question, reply) = (question.clone(), reply.clone());
            tokio::spawn(async move {
                for _ in 0..n {
                    question.notified().await;
                    reply.notify_one();
                }
            })
        };
        let asks = tokio::spawn(async move {
            let mut answered = 0;
            for _ in 0..n {
                question.notify_one();
                reply.notified().await;
                answered += 1;
            }
            answered
        });
        check("answers", asks.await.unwrap(), n);
        answers.await.unwrap();
        watch.stop(n)
    })
}
