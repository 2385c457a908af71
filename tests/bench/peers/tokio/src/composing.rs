//! Rows about several things at a time inside one task: select and join.

use crate::measure::{check, on_worker, repeated, timed, Options, Sample, Workload};
use crate::CPU_PER_OP;
use futures::future::join_all;
use std::future::Future;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub fn workloads() -> Vec<Workload> {
    vec![
        repeated("select_ready", 1_000_000, CPU_PER_OP, select_ready),
        repeated("join_ready", 1_000_000, CPU_PER_OP, |rt, o| join(rt, o, number)),
        repeated("join_yielding", 1_000_000, CPU_PER_OP, |rt, o| join(rt, o, number_after_yield)),
    ]
}

fn select_ready(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let never = CancellationToken::new();
            let mut won = 0;
            for _ in 0..n {
                won += tokio::select! {
                    _ = yield_now() => 1,
                    _ = sleep(Duration::from_secs(10)) => 0,
                    _ = never.cancelled() => 0,
                };
            }
            check("yields that won", won, n);
            n
        }),
    )
}

async fn number(i: u64) -> u64 {
    i
}

async fn number_after_yield(i: u64) -> u64 {
    yield_now().await;
    i
}

/// Joins 1000 at a time, until they are n.
fn join<F>(rt: &Runtime, options: &Options, child: fn(u64) -> F) -> Sample
where
    F: Future<Output = u64> + Send + 'static,
{
    let width = options.n.min(1000);
    let rounds = options.n / width;
    on_worker(
        rt,
        timed(async move {
            for _ in 0..rounds {
                let values = join_all((0..width).map(child)).await;
                check("sum of the children's numbers", values.iter().sum(), width * (width - 1) / 2);
            }
            rounds * width
        }),
    )
}
