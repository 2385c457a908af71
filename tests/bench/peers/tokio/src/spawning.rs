//! Rows about making tasks and awaiting them.

use crate::measure::{check, on_worker, repeated, timed, Options, Sample, Workload};
use crate::CPU_PER_OP;
use std::future::Future;
use std::pin::Pin;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::{spawn_blocking, yield_now, JoinHandle};

pub fn workloads() -> Vec<Workload> {
    vec![
        repeated("spawn_join", 1_000_000, CPU_PER_OP, spawn_join),
        repeated("spawn_remote", 200_000, CPU_PER_OP, spawn_remote),
        repeated("chained_spawn", 1_000_000, CPU_PER_OP, chained_spawn),
        repeated("yield_many", 1_000_000, CPU_PER_OP, yield_many),
        repeated("skynet", 1_000_000, CPU_PER_OP, skynet),
        repeated("fib", 317_810, CPU_PER_OP, fib),
        repeated("spawn_blocking_seq", 100_000, CPU_PER_OP, spawn_blocking_seq),
        repeated("spawn_blocking_conc", 10_000, CPU_PER_OP, spawn_blocking_conc),
    ]
}

fn sum_below(n: u64) -> u64 {
    n * (n - 1) / 2
}

fn spawn_join(rt: &Runtime, options: &Options) -> Sample {
    const BATCH: u64 = 1000;
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let mut handles = Vec::with_capacity(BATCH as usize);
            let mut sum = 0;
            let mut next = 0;
            while next < n {
                let end = n.min(next + BATCH);
                handles.extend((next..end).map(|i| tokio::spawn(async move { i })));
                for handle in handles.drain(..) {
                    sum += handle.await.unwrap();
                }
                next = end;
            }
            check("sum", sum, sum_below(n));
            n
        }),
    )
}

fn spawn_remote(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    rt.block_on(timed(async move {
        let handles: Vec<_> = (0..n).map(|i| tokio::spawn(async move { i })).collect();
        let mut sum = 0;
        for handle in handles {
            sum += handle.await.unwrap();
        }
        check("sum", sum, sum_below(n));
        n
    }))
}

fn chain_link(left: u64, done: oneshot::Sender<u64>) {
    tokio::spawn(async move {
        if left == 1 {
            done.send(left).unwrap();
        } else {
            chain_link(left - 1, done);
        }
    });
}

fn chained_spawn(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let (done, finished) = oneshot::channel();
            chain_link(n, done);
            check("last link", finished.await.unwrap(), 1);
            n
        }),
    )
}

fn yield_many(rt: &Runtime, options: &Options) -> Sample {
    const TASKS: u64 = 200;
    let each = (options.n / TASKS).max(1);
    on_worker(
        rt,
        timed(async move {
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    tokio::spawn(async move {
                        let mut yields = 0;
                        for _ in 0..each {
                            yield_now().await;
                            yields += 1;
                        }
                        yields
                    })
                })
                .collect();
            let mut yields = 0;
            for task in tasks {
                yields += task.await.unwrap();
            }
            check("yields", yields, TASKS * each);
            yields
        }),
    )
}

fn skynet_node(first: u64, leaves: u64) -> JoinHandle<u64> {
    tokio::spawn(async move {
        if leaves == 1 {
            return first;
        }
        let part = leaves / 10;
        let children: Vec<_> = (0..10).map(|i| skynet_node(first + i * part, part)).collect();
        let mut sum = 0;
        for child in children {
            sum += child.await.unwrap();
        }
        sum
    })
}

fn skynet(rt: &Runtime, options: &Options) -> Sample {
    // The largest full tree with at most n leaves.
    let mut leaves = 1;
    while leaves * 10 <= options.n {
        leaves *= 10;
    }
    on_worker(
        rt,
        timed(async move {
            check("sum", skynet_node(0, leaves).await.unwrap(), sum_below(leaves));
            leaves
        }),
    )
}

async fn fib_of(k: u32) -> u64 {
    if k < 2 {
        return u64::from(k);
    }
    let spawned = fib_spawn(k - 1);
    let inline = fib_inline(k - 2).await;
    spawned.await.unwrap() + inline
}

fn fib_spawn(k: u32) -> JoinHandle<u64> {
    tokio::spawn(fib_of(k))
}

// Only what is awaited inline has to be boxed, for it is recursive.
fn fib_inline(k: u32) -> Pin<Box<dyn Future<Output = u64> + Send>> {
    Box::pin(fib_of(k))
}

fn fib(rt: &Runtime, options: &Options) -> Sample {
    // fib(k) spawns fib(k + 1) - 1 tasks; the largest k with at most n of them.
    let (mut k, mut this, mut next) = (1, 1u64, 1u64); // this = fib(k), next = fib(k + 1)
    while this + next - 1 <= options.n {
        let sum = this + next;
        this = next;
        next = sum;
        k += 1;
    }
    on_worker(
        rt,
        timed(async move {
            check("fib", fib_inline(k).await, this);
            next - 1
        }),
    )
}

fn spawn_blocking_seq(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let mut sum = 0;
            for i in 0..n {
                sum += spawn_blocking(move || i).await.unwrap();
            }
            check("sum", sum, sum_below(n));
            n
        }),
    )
}

fn spawn_blocking_conc(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let handles: Vec<_> = (0..n).map(|i| spawn_blocking(move || i)).collect();
            let mut sum = 0;
            for handle in handles {
                sum += handle.await.unwrap();
            }
            check("sum", sum, sum_below(n));
            n
        }),
    )
}
