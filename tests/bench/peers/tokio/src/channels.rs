//! Rows about channels.

use crate::measure::{
    check, on_worker, once, repeated, runtime, timed, Figure, Options, Sample, Stopwatch, Workload,
};
use crate::memory::resident_bytes;
use crate::CPU_PER_OP;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::yield_now;

pub fn workloads() -> Vec<Workload> {
    let bytes = Figure { field: "bytes_per_channel", unit: "bytes/channel" };
    vec![
        repeated("mpsc_bounded", 5_000_000, CPU_PER_OP, |rt, o| bounded(rt, o, 1)),
        repeated("mpsc_bounded_mp", 5_000_000, CPU_PER_OP, |rt, o| bounded(rt, o, 4)),
        repeated("mpsc_unbounded", 5_000_000, CPU_PER_OP, unbounded),
        repeated("select_loop", 1_000_000, CPU_PER_OP, select_loop),
        repeated("oneshot_local", 5_000_000, CPU_PER_OP, oneshot_local),
        repeated("oneshot_cross", 1_000_000, CPU_PER_OP, oneshot_cross),
        repeated("ping_pong", 200_000, CPU_PER_OP, ping_pong),
        repeated("broadcast", 1_000_000, CPU_PER_OP, broadcast_row),
        repeated("watch", 1_000_000, CPU_PER_OP, watch_row),
        repeated("watch_pingpong", 500_000, CPU_PER_OP, watch_pingpong),
        once("channel_bytes", 100_000, 0.0, bytes, channel_bytes),
    ]
}

fn sum_below(n: u64) -> u64 {
    n * (n - 1) / 2
}

async fn produce(tx: mpsc::Sender<u64>, n: u64) {
    for i in 0..n {
        tx.send(i).await.unwrap();
    }
}

fn bounded(rt: &Runtime, options: &Options, producers: u64) -> Sample {
    let each = (options.n / producers).max(1);
    on_worker(
        rt,
        timed(async move {
            let (tx, mut rx) = mpsc::channel(128);
            let consumer = tokio::spawn(async move {
                let mut sum = 0;
                while let Some(n) = rx.recv().await {
                    sum += n;
                }
                sum
            });
            for _ in 0..producers {
                tokio::spawn(produce(tx.clone(), each));
            }
            drop(tx);
            check("sum", consumer.await.unwrap(), producers * sum_below(each));
            producers * each
        }),
    )
}

fn unbounded(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let (tx, mut rx) = mpsc::unbounded_channel();
            let consumer = tokio::spawn(async move {
                let mut sum = 0;
                while let Some(n) = rx.recv().await {
                    sum += n;
                }
                sum
            });
            tokio::spawn(async move {
                for i in 0..n {
                    tx.send(i).unwrap();
                }
            });
            check("sum", consumer.await.unwrap(), sum_below(n));
            n
        }),
    )
}

fn select_loop(rt: &Runtime, options: &Options) -> Sample {
    let each = (options.n / 2).max(1);
    let (mut sample, ticks) = on_worker(rt, async move {
        let watch = Stopwatch::start();
        let (tx_a, mut a) = mpsc::channel(128);
        let (tx_b, mut b) = mpsc::channel(128);
        tokio::spawn(produce(tx_a, each));
        tokio::spawn(produce(tx_b, each));
        let mut every = tokio::time::interval(Duration::from_millis(1));
        let mut sum = 0;
        let mut ticks = 0;
        let mut got = 0;
        while got < 2 * each {
            tokio::select! {
                Some(n) = a.recv() => { sum += n; got += 1; }
                Some(n) = b.recv() => { sum += n; got += 1; }
                _ = every.tick() => ticks += 1,
            }
        }
        check("sum", sum, 2 * sum_below(each));
        (watch.stop(2 * each), ticks)
    });
    sample.extra.push(("ticks", ticks as f64));
    sample
}

fn oneshot_local(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let mut sum = 0;
            for i in 0..n {
                let (tx, rx) = oneshot::channel();
                tx.send(i).unwrap();
                sum += rx.await.unwrap();
            }
            check("sum", sum, sum_below(n));
            n
        }),
    )
}

fn oneshot_cross(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let mut sum = 0;
            for i in 0..n {
                let (tx, rx) = oneshot::channel();
                tokio::spawn(async move { tx.send(i).unwrap() });
                sum += rx.await.unwrap();
            }
            check("sum", sum, sum_below(n));
            n
        }),
    )
}

fn ping_pong(rt: &Runtime, options: &Options) -> Sample {
    const PAIRS: u64 = 1000;
    let rounds = (options.n / PAIRS).max(1);
    on_worker(
        rt,
        timed(async move {
            let mut handles = Vec::with_capacity(PAIRS as usize);
            for _ in 0..rounds {
                for i in 0..PAIRS {
                    handles.push(tokio::spawn(async move {
                        let (there, rx) = oneshot::channel::<u64>();
                        let (tx, back) = oneshot::channel::<u64>();
                        tokio::spawn(async move { tx.send(rx.await.unwrap() + 1).unwrap() });
                        there.send(i).unwrap();
                        back.await.unwrap()
                    }));
                }
                let mut sum = 0;
                for h in handles.drain(..) {
                    sum += h.await.unwrap();
                }
                check("sum", sum, sum_below(PAIRS) + PAIRS);
            }
            rounds * PAIRS
        }),
    )
}

fn broadcast_row(rt: &Runtime, options: &Options) -> Sample {
    const BURST: u64 = 512;
    const RECEIVERS: usize = 4;
    let bursts = (options.n / BURST).max(1);
    on_worker(
        rt,
        timed(async move {
            let (tx, rx) = broadcast::channel(1024);
            let (done, mut acknowledged) = mpsc::channel(RECEIVERS);
            let handles: Vec<_> = (0..RECEIVERS)
                .map(|_| {
                    let mut rx = tx.subscribe();
                    let done = done.clone();
                    tokio::spawn(async move {
                        let mut sum = 0;
                        let mut count = 0;
                        while let Ok(n) = rx.recv().await {
                            sum += n;
                            count += 1;
                            if count % BURST == 0 {
                                done.send(count).await.unwrap();
                            }
                        }
                        sum
                    })
                })
                .collect();
            drop(rx);
            for i in 0..bursts * BURST {
                tx.send(i).unwrap();
                if (i + 1) % BURST == 0 {
                    for _ in 0..RECEIVERS {
                        check("acknowledged", acknowledged.recv().await.unwrap(), i + 1);
                    }
                }
            }
            drop(tx);
            for h in handles {
                check("sum", h.await.unwrap(), sum_below(bursts * BURST));
            }
            bursts * BURST
        }),
    )
}

fn watch_row(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let (tx, rx) = watch::channel(0u64);
            let handles: Vec<_> = (0..4)
                .map(|_| {
                    let mut rx = rx.clone();
                    tokio::spawn(async move {
                        loop {
                            if rx.changed().await.is_err() || *rx.borrow() == n {
                                return *rx.borrow();
                            }
                        }
                    })
                })
                .collect();
            for i in 1..=n {
                tx.send(i).unwrap();
                if i % 64 == 0 {
                    yield_now().await;
                }
            }
            for h in handles {
                check("last", h.await.unwrap(), n);
            }
            n
        }),
    )
}

fn watch_pingpong(rt: &Runtime, options: &Options) -> Sample {
    let n = options.n;
    on_worker(
        rt,
        timed(async move {
            let (tx, mut there) = watch::channel(0u64);
            let (answer, mut rx) = watch::channel(0u64);
            let other = tokio::spawn(async move {
                while there.changed().await.is_ok() {
                    let n = *there.borrow();
                    let _ = answer.send(n);
                }
            });
            for i in 1..=n {
                tx.send(i).unwrap();
                rx.changed().await.unwrap();
                check("answer", *rx.borrow(), i);
            }
            drop(tx);
            other.await.unwrap();
            n
        }),
    )
}

fn bytes_each<T>(n: u64, make: impl Fn() -> T) -> f64 {
    let mut all = Vec::with_capacity(n as usize);
    let before = resident_bytes();
    for _ in 0..n {
        all.push(make());
    }
    (resident_bytes() - before) as f64 / n as f64
}

fn channel_bytes(options: &Options) -> Sample {
    let n = options.n;
    let rt = runtime(options.workers);
    on_worker(&rt, async move {
        let watch = Stopwatch::start();
        let bounded = bytes_each(n, || mpsc::channel::<u64>(128));
        let unbounded = bytes_each(n, || mpsc::unbounded_channel::<u64>());
        let mut sample = watch.stop(2 * n);
        sample.extra.push(("bytes_per_channel", bounded));
        sample.extra.push(("bytes_per_unbounded", unbounded));
        sample.extra.push(("sizeof_sender", std::mem::size_of::<mpsc::Sender<u64>>() as f64));
        sample.extra.push(("sizeof_receiver", std::mem::size_of::<mpsc::Receiver<u64>>() as f64));
        sample
    })
}
