//! The server of the local socket: it gives a running node's blobs to reading commands, and passes their
//! requests to the node's loop. [`templar_home::socket`] defines the protocol.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use templar_blob::ReadError;
use templar_home::inventory::Stock;
use templar_home::socket::{LocalRequest, Operation, RequestHead, Status, TIMEOUT, with_short_path};
use templar_manifest::Hash;
use templar_store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// The pause after a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// The greatest number of clients at the same time.
const MAX_CLIENTS: usize = 32;

/// The greatest number of requests that wait for the node's loop.
const WAITING_REQUESTS: usize = 4;

/// The answer to a request: the bytes that the command gets, or the reason of a refusal.
pub(crate) type LocalAnswer = Result<Vec<u8>, String>;

/// A request that came through the socket, and the way of its answer.
pub(crate) type LocalAsk = (LocalRequest, oneshot::Sender<LocalAnswer>);

/// Binds the socket of a home, and replaces one that a killed node left behind. The caller holds the home's lock.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    with_short_path(path, |path| UnixListener::bind(path))
}

/// The channel of requests from the socket to the node's loop.
pub(crate) fn requests() -> (mpsc::Sender<LocalAsk>, mpsc::Receiver<LocalAsk>) {
    mpsc::channel(WAITING_REQUESTS)
}

/// Answers clients until it is dropped.
pub(crate) async fn serve(listener: UnixListener, store: Store, asked: mpsc::Sender<LocalAsk>) {
    let mut clients = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // The process may be out of file descriptors. That passes, and asking again at once would only keep
            // a core busy.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        while clients.try_join_next().is_some() {}
        if clients.len() >= MAX_CLIENTS {
            clients.join_next().await;
        }
        let (store, asked) = (store.clone(), asked.clone());
        clients.spawn(async move {
            // A client that goes away ends its own conversation and nothing else.
            let _ = answer(stream, &store, &asked).await;
        });
    }
}

async fn answer(mut stream: UnixStream, store: &Store, asked: &mpsc::Sender<LocalAsk>) -> io::Result<()> {
    let mut head = [0; RequestHead::BYTES];
    while tokio::time::timeout(TIMEOUT, stream.read_exact(&mut head)).await.is_ok_and(|read| read.is_ok()) {
        let Some(request) = RequestHead::decode(&head) else { return Ok(()) };
        let id = request.id;
        let (status, bytes) = match request.operation {
            Operation::Has => {
                let here = store.has(&id).await.unwrap_or(false);
                (if here { Status::Ok } else { Status::NotFound }, Bytes::new())
            }
            Operation::Get => match store.get(&id, request.max_bytes).await {
                Ok(bytes) => (Status::Ok, bytes),
                Err(error) => refusal(error),
            },
            Operation::Verify => match store.verify(&id).await {
                Ok(_) => (Status::Ok, Bytes::new()),
                Err(error) => refusal(error),
            },
            Operation::List => match Stock::of(store).await {
                Ok(stock) => (Status::Ok, serde_json::to_vec(&stock).unwrap_or_default().into()),
                Err(error) => (Status::Failed, error.to_string().into()),
            },
            Operation::Now => answer_of(pass(LocalRequest::Now, asked).await),
            Operation::Register | Operation::Evidence => {
                // `RequestHead::decode` has checked this length.
                let mut bytes = vec![0; request.max_bytes as usize];
                tokio::time::timeout(TIMEOUT, stream.read_exact(&mut bytes)).await??;
                answer_of(hand_over(&request, &bytes, asked).await)
            }
        };
        tokio::time::timeout(TIMEOUT, async {
            stream.write_all(&status.head(bytes.len())).await?;
            stream.write_all(&bytes).await
        })
        .await??;
    }
    Ok(())
}

/// Decodes the request of a command and passes it on.
async fn hand_over(request: &RequestHead, bytes: &[u8], asked: &mpsc::Sender<LocalAsk>) -> LocalAnswer {
    if Hash::of(bytes) != request.id {
        return Err("the bytes of the request do not have its hash".to_owned());
    }
    let request = LocalRequest::decode(request.operation, bytes)
        .map_err(|error| format!("the request does not decode: {error}"))?;
    pass(request, asked).await
}

/// Passes a request to the node's loop and waits for its answer.
async fn pass(request: LocalRequest, asked: &mpsc::Sender<LocalAsk>) -> LocalAnswer {
    let (sender, answer) = oneshot::channel();
    let stops = || "the node stops".to_owned();
    asked.send((request, sender)).await.map_err(|_| stops())?;
    answer.await.unwrap_or_else(|_| Err(stops()))
}

fn answer_of(answer: LocalAnswer) -> (Status, Bytes) {
    match answer {
        Ok(bytes) => (Status::Ok, bytes.into()),
        Err(reason) => (Status::Failed, reason.into()),
    }
}

/// The answer to a request for a blob that cannot be given.
fn refusal(error: ReadError) -> (Status, Bytes) {
    match error {
        ReadError::NotFound { .. } => (Status::NotFound, Bytes::new()),
        ReadError::Torn { .. } => (Status::Torn, Bytes::new()),
        ReadError::TooLarge { size, .. } => (Status::TooLarge, Bytes::copy_from_slice(&size.to_le_bytes())),
        ReadError::Corrupt { reason, .. } => (Status::Corrupt, reason.into()),
        error => (Status::Failed, error.to_string().into()),
    }
}
