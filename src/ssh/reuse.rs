//! A connection that one hook leaves to the next: OpenSSH's ControlMaster.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Place, client};
use crate::config;
use crate::files;

/// Who else uses the account must not be able to use our connections.
const DIR_MODE: u32 = 0o700;

/// What `sockaddr_un` takes with its NUL, less what ssh appends to the name while it makes the
/// socket: a dot and 16 letters (its mux.c).
const LONGEST_PATH: usize = 108 - 1 - 17;

/// The options of a connection that nobody else uses, whatever ssh_config says.
pub(super) const NONE: [&str; 2] = ["ControlMaster=no", "ControlPath=none"];

/// Where the connection to a place is found.
pub(super) struct Reuse {
    socket: PathBuf,
    seconds: u128,
}

impl Reuse {
    /// The place's socket in `dir`, which is made if need be. None when the configuration wants no
    /// reuse, or with a warning when others could use what is in `dir`.
    pub fn in_directory(dir: &Path, place: &Place, how: &config::Ssh) -> Option<Reuse> {
        if how.reuse.is_zero() {
            return None;
        }
        // Both may change with the program: then nothing is reused once.
        let mut hasher = DefaultHasher::new();
        (&place.address, client::options(place, how)).hash(&mut hasher);
        let socket = dir.join(format!("{:016x}", hasher.finish()));
        let fault = match files::make_dir(dir, DIR_MODE) {
            Err(error) => error.to_string(),
            Ok(()) if !is_private(dir) => "it must be ours alone, with mode 0700".to_owned(),
            Ok(()) if socket.as_os_str().len() > LONGEST_PATH => "its path is too long".to_owned(),
            Ok(()) if !client::is_plain(&socket) => "its path has odd characters".to_owned(),
            Ok(()) => {
                let seconds = how.reuse.as_millis().div_ceil(1000);
                return Some(Reuse { socket, seconds });
            }
        };
        log::warn!("ssh connections are not reused: {}: {fault}", dir.display());
        None
    }

    /// Whether somebody listens there. What a killed client left is removed.
    pub fn has_master(&self) -> bool {
        let knock = || -> std::io::Result<()> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
            socket.connect(&SockAddr::unix(&self.socket)?)
        };
        match knock() {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            // Refused, or so many wait that it has not answered for long.
            Err(_) => {
                self.forget();
                false
            }
        }
    }

    /// Takes the socket away; a master that still lives ends by itself in its time.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.socket);
    }

    /// The client's command line, for a connection that this one makes or finds.
    pub fn words(&self, place: &Place, how: &config::Ssh) -> Vec<String> {
        let path = format!("ControlPath={}", self.socket.display());
        let persist = format!("ControlPersist={}", self.seconds);
        client::words(place, how, &["ControlMaster=auto", &path, &persist])
    }
}

fn is_private(dir: &Path) -> bool {
    let is_ours =
        |it: fs::Metadata| it.is_dir() && it.uid() == geteuid().as_raw() && it.mode() & 0o077 == 0;
    fs::symlink_metadata(dir).is_ok_and(is_ours)
}
