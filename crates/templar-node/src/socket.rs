//! The local socket: how reading commands see the blobs of a home whose store a running node holds.
//!
//! A Unix socket in the home, so that the file system decides who may ask. One request is a line of 41 bytes: an operation
//! (`g` for the bytes, `h` for whether they are there), a hash, and the most bytes that are wanted (u64, little-endian).
//! The answer is a status byte, a length (u64) and so many bytes. The asking side checks the hash again.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use templar_manifest::Hash;
use templar_store::{BlobSource, ReadError, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

const OK: u8 = 0;
const NOT_FOUND: u8 = 1;
const TOO_LARGE: u8 = 2;
const CORRUPT: u8 = 3;
const FAILED: u8 = 4;

/// A client that is silent for so long is gone.
const TIMEOUT: Duration = Duration::from_secs(30);

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
pub async fn serve(listener: UnixListener, store: Store) {
    let mut clients = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while clients.try_join_next().is_some() {}
        if clients.len() >= MAX_CLIENTS {
            clients.join_next().await;
        }
        let store = store.clone();
        clients.spawn(async move {
            // A client that goes away ends its own conversation and nothing else.
            let _ = answer(stream, &store).await;
        });
    }
}

async fn answer(mut stream: tokio::net::UnixStream, store: &Store) -> io::Result<()> {
    let mut request = [0; 41];
    while tokio::time::timeout(TIMEOUT, stream.read_exact(&mut request)).await.is_ok_and(|read| read.is_ok()) {
        let id = Hash::from_bytes(request[1..33].try_into().unwrap_or_default());
        let max_bytes = u64::from_le_bytes(request[33..].try_into().unwrap_or_default());
        let (status, bytes) = match request[0] {
            b'h' => (if store.has(&id).await.unwrap_or(false) { OK } else { NOT_FOUND }, Bytes::new()),
            b'g' => match store.get(&id, max_bytes).await {
                Ok(bytes) => (OK, bytes),
                Err(ReadError::NotFound { .. }) => (NOT_FOUND, Bytes::new()),
                Err(ReadError::TooLarge { size, .. }) => (TOO_LARGE, Bytes::copy_from_slice(&size.to_le_bytes())),
                Err(ReadError::Corrupt { reason, .. }) => (CORRUPT, reason.into()),
                Err(error) => (FAILED, error.to_string().into()),
            },
            _ => return Ok(()),
        };
        stream.write_all(&[status]).await?;
        stream.write_all(&(bytes.len() as u64).to_le_bytes()).await?;
        stream.write_all(&bytes).await?;
    }
    Ok(())
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
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { path: path.to_owned(), stream: Mutex::new(stream) })
    }

    fn ask(&self, operation: u8, id: &Hash, max_bytes: u64) -> io::Result<(u8, Vec<u8>)> {
        let mut stream = self.stream.lock().map_err(|_| io::Error::other("the socket is in an unknown state"))?;
        let mut request = Vec::with_capacity(41);
        request.push(operation);
        request.extend_from_slice(id.as_bytes());
        request.extend_from_slice(&max_bytes.to_le_bytes());
        stream.write_all(&request)?;
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let length = u64::from_le_bytes(header[1..].try_into().unwrap_or_default());
        if length > max_bytes.max(4096) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the node sends more than it was asked for"));
        }
        let mut bytes = Vec::new();
        (&mut *stream).take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((header[0], bytes))
    }
}

impl BlobSource for SocketBlobs {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let failed = |source| ReadError::Io { id: *id, source };
        let (status, bytes) = self.ask(b'g', id, max_bytes).map_err(failed)?;
        match status {
            OK if Hash::of(&bytes) == *id => Ok(bytes.into()),
            OK => Err(ReadError::Corrupt { id: *id, reason: "the node sent other bytes".to_owned() }),
            NOT_FOUND => Err(ReadError::NotFound { id: *id }),
            TOO_LARGE => {
                let size = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
                Err(ReadError::TooLarge { id: *id, size, max_bytes })
            }
            CORRUPT => Err(ReadError::Corrupt { id: *id, reason: String::from_utf8_lossy(&bytes).into_owned() }),
            _ => Err(failed(io::Error::other(format!(
                "the node at {} answers: {}",
                self.path.display(),
                String::from_utf8_lossy(&bytes)
            )))),
        }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.ask(b'h', id, 0).is_ok_and(|(status, _)| status == OK)
    }
}
