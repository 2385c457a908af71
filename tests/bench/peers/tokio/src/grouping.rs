//! Rows about groups of tasks.

use crate::measure::{check, on_worker, repeated, timed, Options, Sample, Workload};
use crate::CPU_PER_OP;
use tokio::runtime::Runtime;
use tokio::task::{yield_now, JoinSet};
use tokio_util::sync::CancellationToken;

pub fn workloads() -> Vec<Workload> {
    vec![
        repeated("join_set", 1_000_000, CPU_PER_OP, join_set),
        repeated("cancel_tree", 1_000_000, CPU_PER_OP, cancel_tree),
    ]
}

const BATCH: u64 = 1000;

fn join_set(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let mut set = JoinSet::new();
            let mut sum = 0;
            let mut next = 0;
            while next < n {
                let end = n.min(next + BATCH);
                for i in next..end {
                    set.spawn(async move { i });
                }
                while let Some(joined) = set.join_next().await {
                    sum += joined.unwrap();
                }
                next = end;
            }
            check("sum", sum, n * (n - 1) / 2);
            n
        }),
    )
}

fn cancel_tree(rt: &Runtime, options: &Options) -> Sample {
    let rounds = (options.n / BATCH).max(1);
    on_worker(
        rt,
        timed(async move {
            let mut waiting = Vec::with_capacity(BATCH as usize);
            for _ in 0..rounds {
                let parent = CancellationToken::new();
                waiting.extend((0..BATCH).map(|_| {
                    let child = parent.child_token();
                    tokio::spawn(async move { child.cancelled().await })
                }));
                yield_now().await; // most of them wait by now
                parent.cancel();
                for handle in waiting.drain(..) {
                    handle.await.unwrap();
                }
            }
            rounds * BATCH
        }),
    )
}
