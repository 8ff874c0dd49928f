//! Names of files: how long they may be, and which lead out of their store.

use sha2::{Digest, Sha256};

use super::{Backend, Store};

/// The most bytes in the name of a folder or file that common file systems allow.
const MAX_PART_BYTES: usize = 255;
/// The length of the shortest path that Linux refuses.
const LOCAL_PATH_BYTES: usize = 4096;
/// The length to which parts are shortened when they are too long together. No file name of this crate is
/// longer.
const SHORT_PART_BYTES: usize = 96;
/// The most bytes in a file's whole path: S3 allows no longer key.
const MAX_PATH_BYTES: usize = 1024;

impl Store {
    /// Checks that a file can have a name, on local disks as well as in object stores. No part may have more
    /// than 255 bytes, and the whole path or key no more than 1,024.
    ///
    /// # Errors
    /// A message that says what is too long.
    pub fn check_name(&self, name: &str) -> std::result::Result<(), String> {
        if let Some(part) = name.split('/').find(|part| part.len() > MAX_PART_BYTES) {
            return Err(format!(
                "a name of {} bytes, and a folder or file has {MAX_PART_BYTES} at most",
                part.len()
            ));
        }
        let whole = self.whole(name);
        match whole > MAX_PATH_BYTES {
            true => Err(format!(
                "a path of {whole} bytes, and a file's path or key has {MAX_PATH_BYTES} at most"
            )),
            false => Ok(()),
        }
    }

    /// The name to use for a file: this one, unless it is [too long](Self::check_name). In that case, parts
    /// of the form `column=value` that are too long are cut and end with a hash of the whole part.
    pub(crate) fn possible_name(&self, name: &str) -> String {
        // A file may already have been published under a name that would not be chosen today. It keeps that
        // name.
        let may_be_there = match &self.backend {
            Backend::Local(_) => {
                let fits = |part: &str| part.len() <= MAX_PART_BYTES;
                self.whole(name) < LOCAL_PATH_BYTES && name.split('/').all(fits)
            }
            Backend::Cloud(_) => self.whole(name) <= MAX_PATH_BYTES,
        };
        if may_be_there {
            return name.to_owned();
        }
        for most in [MAX_PART_BYTES, SHORT_PART_BYTES] {
            let parts = name.split('/').map(|part| shortened(part, most));
            let shorter = parts.collect::<Vec<_>>().join("/");
            if self.check_name(&shorter).is_ok() {
                return shorter;
            }
        }
        name.to_owned()
    }

    /// The number of bytes in a file's path or key.
    fn whole(&self, name: &str) -> usize {
        let folder = match &self.backend {
            Backend::Local(folder) => folder.as_os_str().len(),
            Backend::Cloud(cloud) => cloud.path("").as_ref().len(),
        };
        folder + 1 + name.len()
    }
}

/// Whether a name could lead out of its store, because it begins at the root or has parts that are empty, `.`
/// or `..`.
pub(crate) fn leads_out(name: &str) -> bool {
    let foreign = cfg!(windows) && name.contains(['\\', ':']);
    let mut parts = name.split('/');
    foreign || name.contains('\0') || parts.any(|part| matches!(part, "" | "." | ".."))
}

/// A part of a name, shortened to at most `most` bytes.
fn shortened(part: &str, most: usize) -> String {
    if part.len() <= most {
        return part.to_owned();
    }
    let hash = crate::hex::hex(&Sha256::digest(part)[..16]);
    let mut cut = most - hash.len() - 1;
    while !part.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}~{hash}", &part[..cut])
}
