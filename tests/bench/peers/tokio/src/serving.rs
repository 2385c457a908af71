//! The servers: a task a connection, an array in its future for a buffer. What cannot be read or written
//! any more ends its task.

use crate::measure::runtime;
use std::future::Future;
use std::io::Read;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const NAMES: [&str; 3] = ["echo", "http_hello", "idle"];

/// Serves on a free port, of which `announce` learns, until standard input ends.
pub fn serve(name: &str, workers: usize, announce: impl FnOnce(u16)) {
    let rt = runtime(workers);
    let listener = rt.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    match name {
        "echo" => rt.spawn(accept(listener, echo)),
        "http_hello" => rt.spawn(accept(listener, http_hello)),
        "idle" => rt.spawn(accept(listener, idle)),
        _ => panic!("no server '{}'", name),
    };
    announce(port);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

async fn accept<F>(listener: TcpListener, session: fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (client, _) = listener.accept().await.expect("it cannot accept any more");
        client.set_nodelay(true).unwrap();
        tokio::spawn(session(client));
    }
}

async fn echo(mut client: TcpStream) {
    let mut buffer = [0; 4096];
    loop {
        let got = client.read(&mut buffer).await.unwrap_or(0);
        if got == 0 || client.write_all(&buffer[..got]).await.is_err() {
            return;
        }
    }
}

async fn idle(mut client: TcpStream) {
    let mut buffer = [0; 64];
    while client.read(&mut buffer).await.unwrap_or(0) > 0 {}
}

async fn http_hello(mut client: TcpStream) {
    let mut buffer = [0; BUFFER_SIZE];
    let mut requests = RequestCounter::default();
    loop {
        let got = client.read(&mut buffer).await.unwrap_or(0);
        if got == 0 {
            return;
        }
        let ended = requests.count(&buffer[..got]);
        if ended > 0 && client.write_all(&ANSWERS[..ended * ANSWER.len()]).await.is_err() {
            return;
        }
    }
}

const BUFFER_SIZE: usize = 4096;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 13\r\n\
    \r\n\
    Hello, world!";

/// A request ends in no fewer than 4 bytes, and at most 3 of these came before the buffer.
const MOST: usize = (BUFFER_SIZE + 3) / 4;

static ANSWERS: [u8; MOST * ANSWER.len()] = {
    let mut all = [0; MOST * ANSWER.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = ANSWER[i % ANSWER.len()];
        i += 1;
    }
    all
};

/// Finds the ends of requests, CR LF CR LF, also where a request comes in several pieces.
#[derive(Default)]
struct RequestCounter {
    matched: u8,
}

impl RequestCounter {
    fn count(&mut self, piece: &[u8]) -> usize {
        let mut ends = 0;
        for byte in piece {
            self.matched = match (byte, self.matched) {
                (b'\r', 2) => 3,
                (b'\r', _) => 1,
                (b'\n', 1) => 2,
                (b'\n', 3) => {
                    ends += 1;
                    0
                }
                _ => 0,
            };
        }
        ends
    }
}
