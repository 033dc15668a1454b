//! Bytes by hash: the one interface through which everything above reads blobs.
