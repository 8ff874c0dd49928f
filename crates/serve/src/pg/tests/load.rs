//! Many clients, some of which are killed, do not read, or stay half open.

use futures::{StreamExt, pin_mut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// As many as pgbench would have.
const CLIENTS: usize = 50;
const ROUNDS: usize = 100;
/// What freed memory that the allocator keeps may amount to.
const SPREAD_BYTES: usize = 48 << 20;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: 50 clients for some minutes"]
async fn memory_and_descriptors_stay_flat_whatever_clients_do() {
    if !Path::new("/proc/self/statm").exists() {
        eprintln!("skipped: there is no /proc to read memory and descriptors from");
        return;
    }
    let limits = "max_statements = 8\nmax_connections = 80\nlogin_timeout = \"2s\"\nstalled_timeout = \"1s\"";
    let served = Arc::new(serve(limits, "").await);
    let mut after_warming = None;
    for round in 0..ROUNDS {
        let clients = (0..CLIENTS).map(|n| {
            let served = Arc::clone(&served);
            tokio::spawn(async move { misbehave(&served, n).await })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        if round == ROUNDS / 4 {
            after_warming = Some(settled(&served).await);
        }
    }
    let (bytes, descriptors) = after_warming.unwrap();
    let (bytes_then, descriptors_then) = settled(&served).await;
    println!(
        "{bytes} and then {bytes_then} bytes, {descriptors} and then {descriptors_then} descriptors"
    );
    assert_eq!(descriptors_then, descriptors);
    assert!(
        bytes_then < bytes + SPREAD_BYTES,
        "{bytes} and then {bytes_then} bytes"
    );
}

/// What a client does, by its number.
async fn misbehave(served: &Served, n: usize) {
    let endless = "SELECT value, repeat('x', 1000) FROM generate_series(1, 1000000000)";
    match n % 5 {
        // It never logs in, and goes only when it is told to.
        0 => {
            let mut tcp = TcpStream::connect(served.port.address()).await.unwrap();
            tcp.write_all(&[0, 0, 0, 50, 0]).await.unwrap();
            let _ = tcp.read_to_end(&mut vec![]).await;
        }
        // It reads no more, and half of them go in mid-result.
        1 => {
            let ada = served.ada().await;
            let rows = ada.query_raw(endless, std::iter::empty::<i32>()).await;
            // There may be no place for it.
            let Ok(rows) = rows else { return };
            pin_mut!(rows);
            let _ = rows.next().await;
            if n % 2 == 0 {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
        // It cancels.
        2 => {
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
