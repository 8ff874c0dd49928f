//! Where results go: standard output, or a file that appears complete or not at all.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::ui;

/// Bytes gathered before a write reaches the system.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where the rows of a script go.
///
/// A regular file is written under a temporary name in its own folder, and takes its name in
/// [`commit`](Self::commit) after its bytes have reached the disk. Dropping the destination before
/// that removes the temporary file: an interrupted or failed query leaves no file.
#[derive(Debug)]
pub(crate) enum Destination {
    /// Standard output.
    Stdout,
    /// A device or named pipe, written directly.
    Device(File, PathBuf),
    /// A regular file in the making.
    File {
        /// What is being written.
        temporary: NamedTempFile,
        /// The name it will have.
        path: PathBuf,
        /// Whether that name may be taken already.
        overwrite: bool,
    },
}

impl Destination {
    /// Prepares to write to `path`, or to standard output.
    ///
    /// # Errors
    /// When the file exists and `overwrite` is not set, or the folder cannot be written.
    pub(crate) fn open(path: Option<&Path>, overwrite: bool) -> Result<Self, Failure> {
        Self::prepare(path, overwrite, false)
    }

    /// The same, with a file that only its owner can read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn private(path: &Path, overwrite: bool) -> Result<Self, Failure> {
        Self::prepare(Some(path), overwrite, true)
    }

    fn prepare(path: Option<&Path>, overwrite: bool, private: bool) -> Result<Self, Failure> {
        let Some(path) = path.filter(|p| *p != Path::new("-")) else {
            return Ok(Self::Stdout);
        };
        // A symbolic link stays one: what it points to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => {
                return Err(Failure::usage(format!(
                    "{} is a folder; name a file in it",
                    path.display()
                )));
            }
            Ok(found) if !found.is_file() => {
                let device = File::options()
                    .write(true)
                    .open(&path)
                    .map_err(|e| Failure::io(path.display(), &e))?;
                return Ok(Self::Device(device, path));
            }
            Ok(_) if !overwrite => return Err(exists(&path)),
            Ok(_) | Err(_) => {}
        }
        let temporary = temporary_beside(&path, private)
            .map_err(|e| Failure::io(format_args!("cannot write {}", path.display()), &e))?;
        Ok(Self::File {
            temporary,
            path,
            overwrite,
        })
    }

    /// Whether this is a pipe or terminal rather than a file.
    pub(crate) fn is_seekless(&self) -> bool {
        !matches!(self, Self::File { .. })
    }

    /// Whether this is standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout)
    }

    /// A buffered writer. Writers of one destination append to each other.
    pub(crate) fn writer(&self) -> Result<Box<dyn Write + Send>, Failure> {
        let duplicate = |file: &File, path: &Path| {
            file.try_clone()
                .map_err(|e| Failure::io(path.display(), &e))
        };
        let output = match self {
            Self::Stdout => ui::output(io::stdout()),
            Self::Device(file, path) => ui::output(duplicate(file, path)?),
            Self::File {
                temporary, path, ..
            } => ui::output(duplicate(temporary.as_file(), path)?),
        };
        Ok(Box::new(BufWriter::with_capacity(BUFFER_BYTES, output)))
    }

    /// Removes the temporary file now, even if other handles on this destination exist.
    pub(crate) fn discard(&self) {
        if let Self::File { temporary, .. } = self {
            let _ = fs::remove_file(temporary.path());
        }
    }

    /// Gives the file its name, after its bytes are on disk.
    ///
    /// # Errors
    /// When the disk is full, or another file took the name meanwhile.
    pub(crate) fn commit(self) -> Result<(), Failure> {
        let Self::File {
            temporary,
            path,
            overwrite,
        } = self
        else {
            return Ok(());
        };
        let failed =
            |e: &io::Error| Failure::io(format_args!("cannot write {}", path.display()), e);
        temporary.as_file().sync_all().map_err(|e| failed(&e))?;
        if overwrite {
            temporary.persist(&path).map_err(|e| failed(&e.error))?;
        } else {
            temporary
                .persist_noclobber(&path)
                .map_err(|e| match e.error.kind() {
                    io::ErrorKind::AlreadyExists => exists(&path),
                    _ => failed(&e.error),
                })?;
        }
        // The name is durable once the folder is. Where folders cannot be opened the system sees to it.
        if let Ok(folder) = File::open(folder_of(&path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

fn exists(path: &Path) -> Failure {
    Failure::usage(format!(
        "{} exists; add --overwrite to replace it",
        path.display()
    ))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary_beside(path: &Path, private: bool) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".kafka-sql-").suffix(".part");
    // Temporary files are private by default; the result gets what the umask allows, as any new file.
    #[cfg(unix)]
    if !private {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let temporary = builder.tempfile_in(folder_of(path))?;
    // One that takes a file's place is for those whom that one was for.
    if let (false, Ok(replaced)) = (private, fs::metadata(path)) {
        temporary
            .as_file()
            .set_permissions(replaced.permissions())?;
    }
    Ok(temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_appears_on_commit_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let destination = Destination::open(Some(&path), false).unwrap();
        let mut writer = destination.writer().unwrap();
        writer.write_all(b"x\n").unwrap();
        drop(writer);
        assert!(!path.exists());
        destination.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"x\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn dropping_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        drop(Destination::open(Some(&path), false).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_existing_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        fs::write(&path, "old").unwrap();
        let refused = Destination::open(Some(&path), false).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(
            refused
                .text(false)
                .ends_with("exists; add --overwrite to replace it")
        );
        Destination::open(Some(&path), true)
            .unwrap()
            .commit()
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let destination = Destination::open(Some(&path), false).unwrap();
        fs::write(&path, "other").unwrap();
        assert_eq!(destination.commit().unwrap_err().exit_code(), 2);
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_no_wider_than_they_were() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        Destination::private(&path, false)
            .unwrap()
            .commit()
            .unwrap();
        assert_eq!(mode(), 0o600);
        for kept in [0o640, 0o600] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            let destination = Destination::open(Some(&path), true).unwrap();
            destination.commit().unwrap();
            assert_eq!(mode(), kept);
        }
    }

    #[cfg(unix)]
    #[test]
    fn devices_are_written_not_replaced() {
        let destination = Destination::open(Some(Path::new("/dev/null")), false).unwrap();
        destination.writer().unwrap().write_all(b"x").unwrap();
        destination.commit().unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
