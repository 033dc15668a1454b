//! Entries that a device keeps between processes: compiled programs, and the proof that it computes as specified.
//!
//! This crate reads and writes no files. A [`DeviceCache`] does, and need not be reliable: every entry carries a hash
//! over its name and its bytes, so a damaged entry, or the entry of another device or driver, is the same as none.

use std::fmt;

/// A place that keeps small entries by their names. It may lose them at any time.
pub trait DeviceCache: fmt::Debug + Send + Sync {
    /// The bytes of an entry, as far as it can be read.
    fn load(&self, name: &str) -> Option<Vec<u8>>;

    /// Keeps an entry, in place of an older one of the same name. Failures are of no consequence.
    fn store(&self, name: &str, bytes: &[u8]);
}

/// Separates these hashes from all others.
#[cfg(any(feature = "opencl", test))]
const CONTEXT: &str = "templar/1 device cache";

/// The hash that an entry begins with.
#[cfg(any(feature = "opencl", test))]
fn seal(name: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(bytes);
    hasher.finalize().into()
}

/// The bytes kept under `name`, if they are whole.
#[cfg(any(feature = "opencl", test))]
pub(crate) fn load(cache: Option<&dyn DeviceCache>, name: &str) -> Option<Vec<u8>> {
    let mut entry = cache?.load(name)?;
    let sealed = *entry.first_chunk::<32>()?;
    let bytes = entry.split_off(32);
    (seal(name, &bytes) == sealed).then_some(bytes)
}

/// Keeps bytes under `name`.
#[cfg(any(feature = "opencl", test))]
pub(crate) fn store(cache: Option<&dyn DeviceCache>, name: &str, bytes: &[u8]) {
    if let Some(cache) = cache {
        cache.store(name, &[&seal(name, bytes)[..], bytes].concat());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    /// A cache in memory.
    #[derive(Debug, Default)]
    pub(crate) struct MemoryCache(pub(crate) Mutex<BTreeMap<String, Vec<u8>>>);

    impl DeviceCache for MemoryCache {
        fn load(&self, name: &str) -> Option<Vec<u8>> {
            self.0.lock().unwrap().get(name).cloned()
        }

        fn store(&self, name: &str, bytes: &[u8]) {
            self.0.lock().unwrap().insert(name.to_owned(), bytes.to_owned());
        }
    }

    #[test]
    fn a_damaged_entry_and_the_entry_of_another_name_are_none() {
        let cache = MemoryCache::default();
        store(Some(&cache), "a", b"program");
        assert_eq!(load(Some(&cache), "a").as_deref(), Some(&b"program"[..]));
        assert_eq!(load(Some(&cache), "b"), None);
        assert_eq!(load(None, "a"), None);
        let entry = cache.0.lock().unwrap()["a"].clone();
        cache.0.lock().unwrap().insert("b".to_owned(), entry.clone());
        assert_eq!(load(Some(&cache), "b"), None, "an entry of another name");
        for len in 0..entry.len() {
            cache.0.lock().unwrap().insert("a".to_owned(), entry[..len].to_vec());
            assert_eq!(load(Some(&cache), "a"), None, "cut to {len} bytes");
        }
        for index in 0..entry.len() {
            let mut damaged = entry.clone();
            damaged[index] ^= 1;
            cache.0.lock().unwrap().insert("a".to_owned(), damaged);
            assert_eq!(load(Some(&cache), "a"), None, "byte {index} changed");
        }
    }
}
