//! Files on local disks. They are written next to their final place, synced, and put there in one step.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Created, Durability, Entry};

/// The prefix of a file's name while it is written. Listings skip it because of the dot.
const TEMPORARY: &str = ".tmp-";

pub(super) fn create(
    path: &Path,
    bytes: &[u8],
    durability: Durability,
    private: bool,
) -> io::Result<Created> {
    if path.exists() {
        return Ok(Created::Exists);
    }
    let written = write_beside(path, bytes, durability, private)?;
    // A link rather than a rename, because it fails if the name is taken.
    let linked = fs::hard_link(&written, path);
    let removed = fs::remove_file(&written);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Created::Exists),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::Unsupported | ErrorKind::PermissionDenied
            ) =>
        {
            return create_without_links(path, bytes, durability, private);
        }
        Err(error) => return Err(error),
    }
    removed?;
    sync_folder(path, durability)?;
    Ok(Created::New)
}

/// For file systems without links. A crash in the middle leaves a torn file, which its reader must detect.
fn create_without_links(
    path: &Path,
    bytes: &[u8],
    durability: Durability,
    private: bool,
) -> io::Result<Created> {
    let mut file = match create_new(path, private) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Created::Exists),
        Err(error) => return Err(error),
    };
    file.write_all(bytes)?;
    if durability == Durability::Fsync {
        file.sync_all()?;
    }
    sync_folder(path, durability)?;
    Ok(Created::New)
}

pub(super) fn put(
    path: &Path,
    bytes: &[u8],
    durability: Durability,
    private: bool,
) -> io::Result<()> {
    let written = write_beside(path, bytes, durability, private)?;
    if let Err(error) = fs::rename(&written, path) {
        let _ = fs::remove_file(&written);
        return Err(error);
    }
    sync_folder(path, durability)
}

fn write_beside(
    path: &Path,
    bytes: &[u8],
    durability: Durability,
    private: bool,
) -> io::Result<PathBuf> {
    let folder = folder_of(path);
    let name = format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple());
    let beside = folder.join(name);
    let created = create_new(&beside, private);
    let mut file = match created {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_folder(folder, durability)?;
            create_new(&beside, private)?
        }
        created => created?,
    };
    let mut write = || {
        file.write_all(bytes)?;
        if durability == Durability::Fsync {
            file.sync_all()?;
        }
        Ok(())
    };
    match write() {
        Ok(()) => Ok(beside),
        Err(error) => {
            // Leaves nothing behind when the disk is full.
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}

/// Creates a file that does not exist. A private one is only accessible to its owner.
fn create_new(path: &Path, private: bool) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if private {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = private;
    options.open(path)
}

/// Creates a folder with its parents, and syncs the one that already existed.
fn create_folder(folder: &Path, durability: Durability) -> io::Result<()> {
    let there = folder.ancestors().find(|f| f.exists());
    fs::create_dir_all(folder)?;
    if durability == Durability::Fsync {
        for made in folder.ancestors() {
            File::open(made)?.sync_all()?;
            if Some(made) == there {
                break;
            }
        }
    }
    Ok(())
}

fn sync_folder(path: &Path, durability: Durability) -> io::Result<()> {
    if durability == Durability::Fsync {
        File::open(folder_of(path))?.sync_all()?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

pub(super) fn get(path: &Path) -> io::Result<Option<Bytes>> {
    if_there(fs::read(path)).map(|bytes| bytes.map(Bytes::from))
}

pub(super) fn size(path: &Path) -> io::Result<Option<u64>> {
    if_there(fs::metadata(path)).map(|found| found.map(|metadata| metadata.len()))
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    if_there(fs::remove_file(path)).map(drop)
}

pub(super) fn rename(from: &Path, to: &Path, durability: Durability) -> io::Result<bool> {
    if !from.exists() {
        return Ok(false);
    }
    create_folder(folder_of(to), durability)?;
    if durability == Durability::Fsync {
        // Another program may have written the file without syncing it.
        File::open(from)?.sync_all()?;
    }
    let renamed = if_there(fs::rename(from, to))?;
    sync_folder(to, durability)?;
    Ok(renamed.is_some())
}

/// Gives a file a second name. If the name is taken, it is assumed to be the same file.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<bool> {
    // Another process may remove the folder while it is empty.
    const TRIES: usize = 3;
    for _ in 0..TRIES {
        match fs::hard_link(from, to) {
            Ok(()) => return Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::AlreadyExists => return Ok(true),
                ErrorKind::NotFound if !from.exists() => return Ok(false),
                ErrorKind::NotFound => fs::create_dir_all(folder_of(to))?,
                ErrorKind::Unsupported | ErrorKind::PermissionDenied => return copy(from, to),
                _ => return Err(error),
            },
        }
    }
    fs::hard_link(from, to).map(|()| true)
}

/// For file systems without links.
fn copy(from: &Path, to: &Path) -> io::Result<bool> {
    fs::create_dir_all(folder_of(to))?;
    let name = format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple());
    let beside = folder_of(to).join(name);
    let copied = fs::copy(from, &beside)
        .and_then(|_| File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, to));
    if let Err(error) = copied {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    Ok(true)
}

/// Syncs files, and the folders from them up to the root, which exists.
pub(super) fn sync(root: &Path, names: &[String]) -> io::Result<()> {
    let mut folders = std::collections::BTreeSet::new();
    for name in names {
        let path = root.join(name);
        File::open(&path)?.sync_all()?;
        for folder in path.ancestors().skip(1) {
            folders.insert(folder.to_owned());
            if folder == root {
                break;
            }
        }
    }
    for folder in folders {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    if_there(fs::remove_dir_all(path)).map(drop)
}

/// All files under a folder, with their sizes and times.
pub(super) fn entries(root: &Path, folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = vec![];
    for name in list(root, folder)? {
        let Some(metadata) = if_there(fs::metadata(root.join(&name)))? else {
            continue;
        };
        entries.push(Entry {
            name,
            bytes: metadata.len(),
            modified: metadata.modified()?,
        });
    }
    Ok(entries)
}

/// All files under a folder, relative to the root.
pub(super) fn list(root: &Path, folder: &Path) -> io::Result<Vec<String>> {
    let mut names = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Some(entries) = if_there(fs::read_dir(&folder))? else {
            continue;
        };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
                continue;
            }
            let hidden = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
            let name = path.strip_prefix(root).ok().and_then(Path::to_str);
            if let (false, Some(name)) = (hidden, name) {
                names.push(name.replace(std::path::MAIN_SEPARATOR, "/"));
            }
        }
    }
    Ok(names)
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the same call may succeed later, for example because someone frees space.
pub(super) fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::ResourceBusy
    )
}
