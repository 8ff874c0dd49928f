//! Many clients, some of which are killed, do not read, or stay half open.

use futures::{StreamExt, pin_mut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::*;

/// As many as pgbench would have, and how many of them are half open.
const CLIENTS: usize = 50;
const HALF_OPEN: usize = 10;
/// How often the others come, before memory is looked at first and after that.
const WARMING: usize = 5;
const ROUNDS: usize = 20;
/// What freed memory that the allocator keeps may amount to.
const SPREAD_BYTES: usize = 48 << 20;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: 50 clients for some minutes"]
async fn memory_and_descriptors_stay_flat_whatever_clients_do() {
    if !Path::new("/proc/self/statm").exists() {
        eprintln!("skipped: there is no /proc to read memory and descriptors from");
        return;
    }
    let limits = "max_statements = 8\nmax_connections = 120\nlogin_timeout = \"20s\"\nstalled_timeout = \"1s\"";
    let served = Arc::new(serve(limits, "").await);
    come(&served, WARMING).await;
    let (bytes, descriptors) = settled(&served).await;
    come(&served, ROUNDS).await;
    let (bytes_then, descriptors_then) = settled(&served).await;
    println!(
        "{bytes} and then {bytes_then} bytes, {descriptors} and then {descriptors_then} descriptors"
    );
    // They did what they came for.
    let comes = ((CLIENTS - HALF_OPEN) * (WARMING + ROUNDS)) as u64;
    for (result, least) in [
        ("ok", comes / 2 * 5),
        ("cancelled", comes / 8),
        ("ended", comes / 8),
    ] {
        let count = served.metric(&format!("statements_total{{result=\"{result}\"}}"));
        println!("{result} {count}");
        assert!(count >= least, "{result}: {count} of {least}");
    }
    assert_eq!(descriptors_then, descriptors);
    assert!(
        bytes_then < bytes + SPREAD_BYTES,
        "{bytes} and then {bytes_then} bytes"
    );
}

/// All clients at a time, those that log in so many times each.
async fn come(served: &Arc<Served>, times: usize) {
    let (busy, others) = watch::channel(());
    let half_open = (0..HALF_OPEN).map(|_| {
        let (served, mut others) = (Arc::clone(served), others.clone());
        tokio::spawn(async move {
            while others.has_changed().is_ok() {
                half_open(&served, &mut others).await;
            }
        })
    });
    let half_open: Vec<_> = half_open.collect();
    let clients = (HALF_OPEN..CLIENTS).map(|n| {
        let served = Arc::clone(served);
        tokio::spawn(async move {
            for time in 0..times {
                misbehave(&served, n + time).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    drop(busy);
    for client in half_open {
        client.await.unwrap();
    }
}

/// Never logs in, and goes only when it is told to, or all others have gone.
async fn half_open(served: &Served, others: &mut watch::Receiver<()>) {
    let mut tcp = TcpStream::connect(served.port.address()).await.unwrap();
    tcp.write_all(&[0, 0, 0, 50, 0]).await.unwrap();
    let mut said = vec![];
    tokio::select! {
        _ = tcp.read_to_end(&mut said) => {}
        _ = others.changed() => {}
    }
}

/// What a client does, by its number.
async fn misbehave(served: &Served, n: usize) {
    let endless = "SELECT value, repeat('x', 1000) FROM generate_series(1, 1000000000)";
    match n % 4 {
        // It reads no more, and half of them go in mid-result.
        0 => {
            let ada = served.ada().await;
            let rows = ada.query_raw(endless, std::iter::empty::<i32>()).await;
            // There may be no place for it.
            let Ok(rows) = rows else { return };
            pin_mut!(rows);
            let _ = rows.next().await;
            if n.is_multiple_of(8) {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
        // It cancels.
        1 => {
            let ada = served.ada().await;
            let cancel = ada.cancel_token();
            // More than once: a request that comes before its statement cancels nothing.
            let cancelling = async {
                loop {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let _ = cancel.cancel_query(NoTls).await;
                }
            };
            tokio::select! {
                answer = ada.rows(endless) => drop(answer.unwrap_err()),
                () = cancelling => {}
            }
        }
        // It asks, prepares, opens cursors.
        _ => {
            let ada = served.ada().await;
            for _ in 0..5 {
                assert_eq!(ada.value("SELECT count(*) FROM orders").await, "190");
                ada.query("SELECT * FROM typed WHERE id > $1", &[&1_i64])
                    .await
                    .unwrap();
                ada.rows(
                    "BEGIN; DECLARE c CURSOR FOR SELECT * FROM orders; FETCH 3 FROM c; COMMIT",
                )
                .await
                .unwrap();
            }
        }
    }
}

/// Memory in bytes and the number of descriptors, when all places are free again.
async fn settled(served: &Served) -> (usize, usize) {
    let shared = &served.port.shared;
    until("all statements have ended", async || {
        shared.places.available_permits() == 8
    })
    .await;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut count = descriptors();
    until("connections are closed", async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = std::mem::replace(&mut count, descriptors());
        before == count
    })
    .await;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    (pages * 4096, count)
}
