//! The local socket's protocol: how reading commands see the blobs of a home whose store a running node holds.
//!
//! It is a Unix socket in the home's directory, so the file system decides which users may connect. A request
//! is 41 bytes: an [`Operation`], a hash (32 bytes), and the greatest wanted length in bytes (u64,
//! little-endian). With [`Operation::Register`] and [`Operation::Evidence`] that many bytes follow, and the
//! hash is theirs. [`Operation::Now`] asks about the node itself, so its hash means nothing. The answer is a [`Status`]
//! byte, a length (u64, little-endian) and that many bytes. The client checks the hash of a blob again. The server is
//! `local_socket.rs` in `templar-node`.
//!
//! Systems bound the path of a socket at about a hundred bytes. [`with_short_path`] reaches a socket in a home with a
//! longer path.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use templar_blob::{BlobSource, ReadError};
use templar_manifest::{Contradiction, Hash};
use templar_protocol::{Entry, EvidenceEntry, MAX_ENTRY_BYTES};

use crate::inventory::Stock;
use crate::now::NodeNow;
use crate::registration::{Application, MAX_APPLICATION_BYTES};

/// A side that is silent for this long counts as gone.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest path of a socket that is used as it is, in bytes. Linux takes 107.
#[cfg(target_os = "linux")]
const MAX_PATH_BYTES: usize = 100;

/// The longest list of blobs, in bytes.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// The longest answer about the present moment, in bytes.
const MAX_NOW_BYTES: u64 = 4 << 10;

/// The operation of a request. The discriminant is its byte on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Asks for the bytes of a blob.
    Get = b'g',
    /// Asks whether the store has a blob.
    Has = b'h',
    /// Asks whether a blob still has its hash.
    Verify = b'v',
    /// Asks for a list of all blobs, a [`Stock`] as JSON.
    List = b's',
    /// Asks for a slot in the run, with the [`Application`] that follows as JSON.
    Register = b'r',
    /// Hands in the evidence that follows as an entry, for validators to show.
    Evidence = b'e',
    /// Asks how things stand at this moment, a [`NodeNow`] as JSON.
    Now = b'n',
}

/// How a request ended; the discriminant is its byte on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The request succeeded; its result follows.
    Ok = 0,
    /// The store does not have the blob.
    NotFound = 1,
    /// The blob is longer than the greatest wanted length. Its length follows (u64, little-endian).
    TooLarge = 2,
    /// The blob does not have its hash; the reason follows as text.
    Corrupt = 3,
    /// Anything else; the reason follows as text.
    Failed = 4,
    /// The blob was found corrupt before, and a part of it is gone.
    Torn = 5,
}

impl Status {
    /// The status of a byte. An unknown byte is a failure.
    fn of(byte: u8) -> Self {
        [Self::Ok, Self::NotFound, Self::TooLarge, Self::Corrupt, Self::Torn]
            .into_iter()
            .find(|status| *status as u8 == byte)
            .unwrap_or(Self::Failed)
    }

    /// The nine bytes before an answer of `bytes` bytes.
    pub fn head(self, bytes: usize) -> [u8; 9] {
        let mut head = [self as u8; 9];
        head[1..].copy_from_slice(&(bytes as u64).to_le_bytes());
        head
    }
}

/// The fixed part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// The operation that is asked for.
    pub operation: Operation,
    /// The hash of the blob, or of the bytes that follow.
    pub id: Hash,
    /// The greatest wanted length, or the number of bytes that follow.
    pub max_bytes: u64,
}

impl RequestHead {
    /// The length of a request on the socket.
    pub const BYTES: usize = 41;

    /// The bytes of the request on the socket.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [self.operation as u8; Self::BYTES];
        bytes[1..33].copy_from_slice(self.id.as_bytes());
        bytes[33..].copy_from_slice(&self.max_bytes.to_le_bytes());
        bytes
    }

    /// Decodes a request. `None` if the operation is unknown, or more bytes are to follow than any request has.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        use Operation::{Evidence, Get, Has, List, Now, Register, Verify};
        let operations = [Get, Has, Verify, List, Register, Evidence, Now];
        let operation = operations.into_iter().find(|operation| *operation as u8 == bytes[0])?;
        let id = Hash::from_bytes(bytes[1..33].try_into().ok()?);
        let max_bytes = u64::from_le_bytes(bytes[33..].try_into().ok()?);
        let most = match operation {
            Register => MAX_APPLICATION_BYTES as u64,
            Evidence => MAX_ENTRY_BYTES as u64,
            Get | Has | Verify | List | Now => u64::MAX,
        };
        (max_bytes <= most).then_some(Self { operation, id, max_bytes })
    }
}

/// A request of a command to the node's loop.
#[derive(Debug)]
pub enum LocalRequest {
    /// The home wants a slot in the run.
    Slot(Application),
    /// Validators are to show this contradiction.
    Evidence(Box<Contradiction>),
    /// A person wants to know how things stand at this moment. The answer is a [`NodeNow`] as JSON.
    Now,
}

impl LocalRequest {
    /// Decodes the bytes that follow a request.
    ///
    /// # Errors
    /// The bytes are not what `operation` says; the reason is for people.
    pub fn decode(operation: Operation, bytes: &[u8]) -> Result<Self, String> {
        match operation {
            Operation::Register => serde_json::from_slice(bytes).map(Self::Slot).map_err(|error| error.to_string()),
            _ => match Entry::decode(bytes) {
                Ok(Entry::Evidence(shown)) => Ok(Self::Evidence(Box::new(shown.contradiction))),
                Ok(_) => Err("the entry is no evidence".to_owned()),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

/// The client: blobs of a home, read through the node that runs in it.
#[derive(Debug)]
pub struct SocketBlobs {
    path: PathBuf,
    stream: Mutex<UnixStream>,
}

impl SocketBlobs {
    /// Connects to the node that listens at `path`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), stream: Mutex::new(open(path)?) })
    }

    fn ask(&self, operation: Operation, id: &Hash, max_bytes: u64) -> io::Result<(Status, Vec<u8>)> {
        let mut stream = self.stream.lock();
        let request = RequestHead { operation, id: *id, max_bytes };
        converse(&mut stream, &request).or_else(|_| {
            // A node hangs up on a client that was silent for long, such as one that computes between two
            // blobs. And after half an answer the old connection is of no use.
            *stream = open(&self.path)?;
            converse(&mut stream, &request)
        })
    }

    /// Asks for the list of the store's blobs.
    pub fn stock(&self) -> io::Result<Stock> {
        match self.ask(Operation::List, &Hash::default(), MAX_LIST_BYTES)? {
            (Status::Ok, list) => serde_json::from_slice(&list).map_err(io::Error::other),
            (_, reason) => Err(io::Error::other(String::from_utf8_lossy(&reason).into_owned())),
        }
    }

    /// Asks the node how things stand at this moment.
    pub fn now(&self) -> io::Result<NodeNow> {
        match self.ask(Operation::Now, &Hash::default(), MAX_NOW_BYTES)? {
            (Status::Ok, now) => serde_json::from_slice(&now).map_err(io::Error::other),
            (_, reason) => Err(io::Error::other(String::from_utf8_lossy(&reason).into_owned())),
        }
    }

    /// Asks the node for a slot. The inner error is the node's reason to refuse the application.
    pub fn register(&self, application: &Application) -> io::Result<Result<(), String>> {
        self.request(Operation::Register, &serde_json::to_vec(application).map_err(io::Error::other)?)
    }

    /// Hands evidence to the node. The inner error is the node's reason to refuse it.
    pub fn show(&self, evidence: EvidenceEntry) -> io::Result<Result<(), String>> {
        self.request(Operation::Evidence, &Entry::Evidence(Box::new(evidence)).encode())
    }

    fn request(&self, operation: Operation, bytes: &[u8]) -> io::Result<Result<(), String>> {
        let request = RequestHead { operation, id: Hash::of(bytes), max_bytes: bytes.len() as u64 };
        // This uses a connection of its own: the node may have closed the shared one, and this request must not
        // be sent twice.
        let mut stream = open(&self.path)?;
        stream.write_all(&request.encode())?;
        stream.write_all(bytes)?;
        match answer_of(&mut stream, 0)? {
            (Status::Ok, _) => Ok(Ok(())),
            (_, reason) => Ok(Err(String::from_utf8_lossy(&reason).into_owned())),
        }
    }

    /// Has the node read a whole blob and hash it.
    pub fn verify(&self, id: &Hash) -> Result<(), ReadError> {
        let (status, bytes) = self.ask(Operation::Verify, id, 0).map_err(|source| ReadError::Io { id: *id, source })?;
        if status == Status::Ok { Ok(()) } else { Err(self.refused(id, 0, status, bytes)) }
    }

    /// The error that a status other than [`Status::Ok`] means.
    fn refused(&self, id: &Hash, max_bytes: u64, status: Status, bytes: Vec<u8>) -> ReadError {
        match status {
            Status::NotFound => ReadError::NotFound { id: *id },
            Status::Torn => ReadError::Torn { id: *id },
            Status::TooLarge => {
                let size = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
                ReadError::TooLarge { id: *id, size, max_bytes }
            }
            Status::Corrupt => ReadError::Corrupt { id: *id, reason: String::from_utf8_lossy(&bytes).into_owned() },
            Status::Ok | Status::Failed => {
                let (path, answer) = (self.path.display(), String::from_utf8_lossy(&bytes));
                let source = io::Error::other(format!("the node at {path} answers: {answer}"));
                ReadError::Io { id: *id, source }
            }
        }
    }
}

/// Binds or connects the socket at `path`: calls `work` with that path or, if it is too long for a socket, with a short
/// one that leads to the same place.
///
/// The short path goes through a descriptor of the open directory, which only Linux offers. On other systems `work`
/// fails with [`io::ErrorKind::InvalidInput`].
///
/// # Errors
/// Those of `work`; and the directory of the socket cannot be opened.
pub fn with_short_path<T>(path: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    #[cfg(target_os = "linux")]
    if path.as_os_str().len() > MAX_PATH_BYTES
        && let Some(name) = path.file_name()
    {
        use std::os::fd::AsRawFd as _;
        let folder = std::fs::File::open(crate::files::folder_of(path))?;
        return work(&PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name));
    }
    work(path)
}

fn open(path: &Path) -> io::Result<UnixStream> {
    let stream = with_short_path(path, |path| UnixStream::connect(path))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends a request and reads the answer: a status and bytes.
fn converse(stream: &mut UnixStream, request: &RequestHead) -> io::Result<(Status, Vec<u8>)> {
    stream.write_all(&request.encode())?;
    answer_of(stream, request.max_bytes)
}

/// Reads an answer: a status and bytes.
fn answer_of(stream: &mut UnixStream, max_bytes: u64) -> io::Result<(Status, Vec<u8>)> {
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
    Ok((Status::of(header[0]), bytes))
}

impl BlobSource for SocketBlobs {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let asked = self.ask(Operation::Get, id, max_bytes).map_err(|source| ReadError::Io { id: *id, source })?;
        match asked {
            (Status::Ok, bytes) if Hash::of(&bytes) == *id => Ok(bytes.into()),
            (Status::Ok, _) => Err(ReadError::Corrupt { id: *id, reason: "the node sent other bytes".to_owned() }),
            (status, bytes) => Err(self.refused(id, max_bytes, status, bytes)),
        }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.ask(Operation::Has, id, 0).is_ok_and(|(status, _)| status == Status::Ok)
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
                stream.read_exact(&mut [0; RequestHead::BYTES]).unwrap();
                stream.write_all(&Status::Ok.head(blob.len())).unwrap();
                stream.write_all(&blob[..sent]).unwrap();
            }
        });
        let blobs = SocketBlobs::connect(&path).unwrap();
        assert_eq!(blobs.read(&Hash::of(blob), 100).unwrap(), blob);
        // The connection is gone, and so is the next one in the middle: that is an error, and the one after it
        // serves.
        assert!(matches!(blobs.read(&Hash::of(blob), 100), Err(ReadError::Io { .. })));
        assert_eq!(blobs.read(&Hash::of(blob), 100).unwrap(), blob);
        node.join().unwrap();
        assert!(matches!(blobs.read(&Hash::of(blob), 100), Err(ReadError::Io { .. })), "nobody listens");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_in_a_deep_home_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(90)).join("y".repeat(90));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("node.sock");
        assert!(UnixListener::bind(&path).is_err(), "the system takes it now: with_short_path can go");
        let listener = with_short_path(&path, |path| UnixListener::bind(path)).unwrap();
        assert!(path.exists());
        let blob = b"deep".as_slice();
        let node = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; RequestHead::BYTES]).unwrap();
            stream.write_all(&Status::Ok.head(blob.len())).unwrap();
            stream.write_all(blob).unwrap();
        });
        let blobs = SocketBlobs::connect(&path).unwrap();
        assert_eq!(blobs.read(&Hash::of(blob), 100).unwrap(), blob);
        node.join().unwrap();
    }

    #[test]
    fn requests_are_told_apart_and_bounded() {
        let head = |operation, max_bytes| RequestHead { operation, id: Hash::of(b"a blob"), max_bytes };
        for operation in [Operation::Get, Operation::Has, Operation::Verify, Operation::List, Operation::Now] {
            let request = head(operation, u64::MAX);
            assert_eq!(RequestHead::decode(&request.encode()), Some(request));
        }
        for (operation, most) in [(Operation::Register, MAX_APPLICATION_BYTES), (Operation::Evidence, MAX_ENTRY_BYTES)]
        {
            let request = head(operation, most as u64);
            assert_eq!(RequestHead::decode(&request.encode()), Some(request));
            assert_eq!(RequestHead::decode(&head(operation, most as u64 + 1).encode()), None);
        }
        let mut unknown = head(Operation::Get, 1).encode();
        unknown[0] = b'x';
        assert_eq!(RequestHead::decode(&unknown), None);
    }
}
