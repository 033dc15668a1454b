//! The local socket: how reading commands see the blobs of a home whose store a running node holds.
//!
//! A Unix socket in the home, so that the file system decides who may ask. One request is a line of 41 bytes: an operation
//! (`g` for the bytes, `h` for whether they are there, `v` for whether they verify, `s` for a list of all blobs), a hash, and
//! the most bytes that are wanted (u64, little-endian). `r` asks for a slot and `e` hands in evidence: behind it come so many bytes, which have the
//! hash. The answer is a status byte, a length (u64) and so many bytes. The
//! asking side checks the hash again.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use templar_blob::{BlobSource, ReadError};
use templar_manifest::Hash;
use templar_protocol::{Entry, EvidenceEntry, MAX_ENTRY_BYTES};
use templar_store::Store;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::driver::{Asked, Request};
use crate::inventory::Stock;
use crate::registration::{Application, MAX_APPLICATION_BYTES};
use crate::replica::lock;

const OK: u8 = 0;
const NOT_FOUND: u8 = 1;
const TOO_LARGE: u8 = 2;
const CORRUPT: u8 = 3;
const FAILED: u8 = 4;

/// A client that is silent for so long is gone.
const TIMEOUT: Duration = Duration::from_secs(30);

/// After a connection that could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// The longest list of blobs.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// Clients at the same time.
const MAX_CLIENTS: usize = 32;

/// Binds the socket of a home, replacing what a killed node left behind. The caller holds the home's lock.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Answers clients until it is dropped.
pub(crate) async fn serve(listener: UnixListener, store: Store, asked: mpsc::Sender<Asked>) {
    let mut clients = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, say: that passes, and asking at once would only keep a core busy.
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

async fn answer(mut stream: tokio::net::UnixStream, store: &Store, asked: &mpsc::Sender<Asked>) -> io::Result<()> {
    let mut request = [0; 41];
    while tokio::time::timeout(TIMEOUT, stream.read_exact(&mut request)).await.is_ok_and(|read| read.is_ok()) {
        let id = Hash::from_bytes(request[1..33].try_into().unwrap_or_default());
        let max_bytes = u64::from_le_bytes(request[33..].try_into().unwrap_or_default());
        let (status, bytes) = match request[0] {
            b'h' => (if store.has(&id).await.unwrap_or(false) { OK } else { NOT_FOUND }, Bytes::new()),
            b'g' => match store.get(&id, max_bytes).await {
                Ok(bytes) => (OK, bytes),
                Err(error) => refusal(error),
            },
            b'v' => match store.verify(&id).await {
                Ok(_) => (OK, Bytes::new()),
                Err(error) => refusal(error),
            },
            b's' => match Stock::of(store).await {
                Ok(stock) => (OK, serde_json::to_vec(&stock).unwrap_or_default().into()),
                Err(error) => (FAILED, error.to_string().into()),
            },
            b'r' if max_bytes <= MAX_APPLICATION_BYTES as u64 => {
                let mut bytes = vec![0; max_bytes as usize];
                tokio::time::timeout(TIMEOUT, stream.read_exact(&mut bytes)).await??;
                hand_over(&bytes, &id, asked, |bytes| {
                    let application: Application = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
                    Ok(Request::Slot(application))
                })
                .await
            }
            b'e' if max_bytes <= MAX_ENTRY_BYTES as u64 => {
                let mut bytes = vec![0; max_bytes as usize];
                tokio::time::timeout(TIMEOUT, stream.read_exact(&mut bytes)).await??;
                hand_over(&bytes, &id, asked, |bytes| match Entry::decode(bytes) {
                    Ok(Entry::Evidence(shown)) => Ok(Request::Evidence(Box::new(shown.contradiction))),
                    Ok(_) => Err("it is no evidence".to_owned()),
                    Err(error) => Err(error.to_string()),
                })
                .await
            }
            _ => return Ok(()),
        };
        let mut header = [status; 9];
        header[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        tokio::time::timeout(TIMEOUT, async {
            stream.write_all(&header).await?;
            stream.write_all(&bytes).await
        })
        .await??;
    }
    Ok(())
}

/// Hands what a command asks for to the node's loop and waits for what it says.
async fn hand_over(
    bytes: &[u8],
    id: &Hash,
    asked: &mpsc::Sender<Asked>,
    decode: impl FnOnce(&[u8]) -> Result<Request, String>,
) -> (u8, Bytes) {
    let refused = |reason: String| (FAILED, Bytes::from(reason));
    if Hash::of(bytes) != *id {
        return refused("what is asked for does not have the hash that was said".to_owned());
    }
    let request = match decode(bytes) {
        Ok(request) => request,
        Err(error) => return refused(format!("what is asked for does not decode: {error}")),
    };
    let (sender, answer) = oneshot::channel();
    let stops = || "the node stops".to_owned();
    if asked.send((request, sender)).await.is_err() {
        return refused(stops());
    }
    match answer.await.unwrap_or_else(|_| Err(stops())) {
        Ok(()) => (OK, Bytes::new()),
        Err(reason) => refused(reason),
    }
}

/// Why a blob is not given.
fn refusal(error: ReadError) -> (u8, Bytes) {
    match error {
        ReadError::NotFound { .. } => (NOT_FOUND, Bytes::new()),
        ReadError::TooLarge { size, .. } => (TOO_LARGE, Bytes::copy_from_slice(&size.to_le_bytes())),
        ReadError::Corrupt { reason, .. } => (CORRUPT, reason.into()),
        error => (FAILED, error.to_string().into()),
    }
}

/// The blobs of a home, through the node that runs in it.
#[derive(Debug)]
pub struct SocketBlobs {
    path: PathBuf,
    stream: Mutex<UnixStream>,
}

impl SocketBlobs {
    /// Asks the node that listens at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), stream: Mutex::new(open(path)?) })
    }

    fn ask(&self, operation: u8, id: &Hash, max_bytes: u64) -> io::Result<(u8, Vec<u8>)> {
        let mut stream = lock(&self.stream);
        let mut request = [operation; 41];
        request[1..33].copy_from_slice(id.as_bytes());
        request[33..].copy_from_slice(&max_bytes.to_le_bytes());
        converse(&mut stream, &request, max_bytes).or_else(|_| {
            // A node hangs up on who was silent for long, as a reader is that computes between two blobs; and after half an
            // answer a connection is of no use.
            *stream = open(&self.path)?;
            converse(&mut stream, &request, max_bytes)
        })
    }

    /// What the store holds, as the node lists it.
    pub fn stock(&self) -> io::Result<Stock> {
        match self.ask(b's', &Hash::default(), MAX_LIST_BYTES)? {
            (OK, list) => serde_json::from_slice(&list).map_err(io::Error::other),
            (_, reason) => Err(io::Error::other(String::from_utf8_lossy(&reason).into_owned())),
        }
    }

    /// Asks the node for a slot. The inner error is why it does not take the application.
    pub fn register(&self, application: &Application) -> io::Result<Result<(), String>> {
        self.request(b'r', &serde_json::to_vec(application).map_err(io::Error::other)?)
    }

    /// Hands evidence to the node. The inner error is why it does not take it.
    pub fn show(&self, evidence: EvidenceEntry) -> io::Result<Result<(), String>> {
        self.request(b'e', &Entry::Evidence(Box::new(evidence)).encode())
    }

    fn request(&self, operation: u8, bytes: &[u8]) -> io::Result<Result<(), String>> {
        let mut request = [operation; 41];
        request[1..33].copy_from_slice(Hash::of(bytes).as_bytes());
        request[33..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        // A connection of its own: the shared one may have been hung up on, and this is not asked twice.
        let mut stream = open(&self.path)?;
        stream.write_all(&request)?;
        stream.write_all(bytes)?;
        match answer_of(&mut stream, 0)? {
            (OK, _) => Ok(Ok(())),
            (_, reason) => Ok(Err(String::from_utf8_lossy(&reason).into_owned())),
        }
    }

    /// Has the node read a blob and hash it.
    pub fn verify(&self, id: &Hash) -> Result<(), ReadError> {
        let (status, bytes) = self.ask(b'v', id, 0).map_err(|source| ReadError::Io { id: *id, source })?;
        if status == OK { Ok(()) } else { Err(self.refused(id, 0, status, bytes)) }
    }

    /// What a status says that is not [`OK`].
    fn refused(&self, id: &Hash, max_bytes: u64, status: u8, bytes: Vec<u8>) -> ReadError {
        match status {
            NOT_FOUND => ReadError::NotFound { id: *id },
            TOO_LARGE => {
                let size = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
                ReadError::TooLarge { id: *id, size, max_bytes }
            }
            CORRUPT => ReadError::Corrupt { id: *id, reason: String::from_utf8_lossy(&bytes).into_owned() },
            _ => {
                let (path, answer) = (self.path.display(), String::from_utf8_lossy(&bytes));
                let source = io::Error::other(format!("the node at {path} answers: {answer}"));
                ReadError::Io { id: *id, source }
            }
        }
    }
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// One request and its answer: a status and bytes.
fn converse(stream: &mut UnixStream, request: &[u8; 41], max_bytes: u64) -> io::Result<(u8, Vec<u8>)> {
    stream.write_all(request)?;
    answer_of(stream, max_bytes)
}

/// An answer: a status and bytes.
fn answer_of(stream: &mut UnixStream, max_bytes: u64) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    let length = u64::from_le_bytes(header[1..].try_into().unwrap_or_default());
    if length > max_bytes.max(4096) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the node sends more than it was asked for"));
    }
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((header[0], bytes))
}

impl BlobSource for SocketBlobs {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let asked = self.ask(b'g', id, max_bytes).map_err(|source| ReadError::Io { id: *id, source })?;
        match asked {
            (OK, bytes) if Hash::of(&bytes) == *id => Ok(bytes.into()),
            (OK, _) => Err(ReadError::Corrupt { id: *id, reason: "the node sent other bytes".to_owned() }),
            (status, bytes) => Err(self.refused(id, max_bytes, status, bytes)),
        }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.ask(b'h', id, 0).is_ok_and(|(status, _)| status == OK)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_reader_that_was_hung_up_on_asks_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let blob = b"a blob".as_slice();
        // Answers one request on each connection: the first of them whole, the second by half.
        let node = std::thread::spawn(move || {
            for sent in [blob.len(), blob.len() / 2, blob.len()] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 41]).unwrap();
                stream.write_all(&[OK]).unwrap();
                stream.write_all(&(blob.len() as u64).to_le_bytes()).unwrap();
                stream.write_all(&blob[..sent]).unwrap();
            }
        });
        let blobs = SocketBlobs::connect(&path).unwrap();
        assert_eq!(blobs.read(&Hash::of(blob), 100).unwrap(), blob);
        // The connection is gone, and so is the next one in the middle: that is an error, and the one after it serves.
        assert!(matches!(blobs.read(&Hash::of(blob), 100), Err(ReadError::Io { .. })));
        assert_eq!(blobs.read(&Hash::of(blob), 100).unwrap(), blob);
        node.join().unwrap();
        assert!(matches!(blobs.read(&Hash::of(blob), 100), Err(ReadError::Io { .. })), "nobody listens");
    }
}
