//! Files that others may have put there: read without ever waiting, written with a mode that
//! does not depend on the umask, replaced whole or not at all.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// The most that is read of any file: nothing of ours comes near it, and `/dev/zero` has no end.
const LIMIT: u64 = 1 << 20;

/// An open regular file, and what the kernel says of it.
pub struct Opened {
    /// At its beginning.
    pub file: File,
    /// Owner, mode and size.
    pub metadata: Metadata,
}

/// Opens a regular file. A FIFO in its place would hold an ordinary open for ever.
///
/// # Errors
/// What the kernel says, or that it is no regular file.
pub fn open(path: &Path) -> io::Result<Opened> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let metadata = file.metadata()?;
    match metadata.is_file() {
        true => Ok(Opened { file, metadata }),
        false => Err(io::Error::other("not a regular file")),
    }
}

impl Opened {
    /// Reads it as text.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(self) -> io::Result<String> {
        // One more byte is asked for than there is: less is the end.
        let mut bytes = vec![0; self.metadata.len().min(LIMIT) as usize + 1];
        let length = (&self.file).read(&mut bytes)?;
        let ended = length < bytes.len();
        bytes.truncate(length);
        if !ended {
            self.file.take(LIMIT + 1).read_to_end(&mut bytes)?;
        }
        if bytes.len() as u64 > LIMIT {
            return Err(io::Error::other("larger than 1 MiB"));
        }
        String::from_utf8(bytes).map_err(|_| io::Error::other("not a text file (UTF-8)"))
    }
}

/// Reads a regular text file.
///
/// # Errors
/// As [`open`], or that it is over 1 MiB or not UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    open(path)?.read()
}

/// Makes `dir` and what is missing above it, each with exactly `mode`.
///
/// keepalived's umask is 0177 (its lib/utils.c): a plain mkdir would make a directory that its
/// own script user cannot enter. Directories that are there keep their mode.
///
/// # Errors
/// What the kernel says.
pub fn make_dir(dir: &Path, mode: u32) -> io::Result<()> {
    if dir.is_dir() || dir.as_os_str().is_empty() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_dir(above, mode)?;
    }
    match DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => fs::set_permissions(dir, Permissions::from_mode(mode)),
        // Another run was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts a file with exactly `mode` at `path`, in one step for whoever reads it.
///
/// keepalived takes a check that is missing for one that succeeds, so nothing is ever unlinked
/// and written anew.
///
/// # Errors
/// What the kernel says; then `path` is as it was.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    put(path, contents, mode, File::sync_all)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The same for what need not outlive a crash of the machine: it waits for no disk.
///
/// # Errors
/// What the kernel says; then `path` is as it was.
pub fn replace_unsynced(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    put(path, contents, mode, |_| Ok(()))
}

type Sync = fn(&File) -> io::Result<()>;

fn put(path: &Path, contents: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    let beside = beside(path);
    let result = write_new(&beside, contents, mode, sync).and_then(|()| fs::rename(&beside, path));
    if result.is_err() {
        // The first error is the one worth telling.
        let _ = fs::remove_file(&beside);
    }
    result
}

fn write_new(path: &Path, contents: &[u8], mode: u32, sync: Sync) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    sync(&file)
}

/// A name in the same directory, since rename does not cross file systems. It begins with a dot
/// and carries the pid: two runs do not meet, and a leftover is recognised.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_replaced_file_has_the_asked_mode_and_leaves_nothing_beside_it() {
        let dir = Scratch::new();
        let path = dir.path().join("f");
        fs::write(&path, "old").unwrap();
        replace(&path, b"new", 0o755).unwrap();
        assert_eq!(read(&path).unwrap(), "new");
        assert_eq!(mode(&path), 0o755);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_replacement_changes_nothing() {
        let dir = Scratch::new();
        let path = dir.path().join("f");
        fs::create_dir(&path).unwrap();
        replace(&path, b"new", 0o755).unwrap_err();
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn opening_a_fifo_or_a_directory_fails_at_once() {
        let dir = Scratch::new();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&fifo, dir.path(), Path::new("/dev/zero")] {
            assert!(open(path).is_err(), "{}", path.display());
        }
    }
}
