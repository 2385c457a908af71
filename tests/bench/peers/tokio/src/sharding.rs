//! Rows about two shards that are busy: two runtimes with a thread each, on which a task yields without
//! end, and channels between them.

use crate::measure::{check, repeated, Options, Sample, Stopwatch, Workload};
use crate::CPU_PER_OP;
use std::future::Future;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

pub fn workloads() -> Vec<Workload> {
    vec![
        repeated("submit_to", 200_000, CPU_PER_OP, submit_to),
        repeated("submit_stream", 5_000_000, CPU_PER_OP, submit_stream),
    ]
}

/// Runs `body` as a task of a runtime of its own.
fn on_busy_shard<T: Send + 'static>(body: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    std::thread::spawn(move || {
        let shard = Builder::new_current_thread().build().unwrap();
        shard.block_on(async move {
            let yielding = tokio::spawn(async {
                loop {
                    yield_now().await
                }
            });
            let result = tokio::spawn(body).await.unwrap();
            yielding.abort();
            result
        })
    })
}

fn submit_to(_: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    let (ask, mut asked) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(128);
    let other = on_busy_shard(async move {
        while let Some((n, answer)) = asked.recv().await {
            answer.send(n + 1).unwrap();
        }
    });
    let sample = on_busy_shard(async move {
        let watch = Stopwatch::start();
        for i in 0..n {
            let (answer, answered) = oneshot::channel();
            ask.send((i, answer)).await.unwrap();
            check("answer", answered.await.unwrap(), i + 1);
        }
        watch.stop(n)
    });
    let sample = sample.join().unwrap();
    other.join().unwrap();
    sample
}

fn submit_stream(_: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    let (numbers, mut incoming) = mpsc::channel::<u64>(128);
    let (total, totalled) = oneshot::channel();
    let other = on_busy_shard(async move {
        let mut sum = 0;
        while let Some(n) = incoming.recv().await {
            sum += n;
        }
        total.send(sum).unwrap();
    });
    let sample = on_busy_shard(async move {
        let watch = Stopwatch::start();
        for i in 0..n {
            numbers.send(i).await.unwrap();
        }
        drop(numbers);
        check("sum", totalled.await.unwrap(), n * (n - 1) / 2);
        watch.stop(n)
    });
    let sample = sample.join().unwrap();
    other.join().unwrap();
    sample
}
