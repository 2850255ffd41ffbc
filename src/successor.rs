//! Which server took over from this one, as long as this one has not caught up with it.
//!
//! A primary that was replaced and comes back holds old data. While it does not replicate from
//! its successor it must not become primary again, also when the successor is dead by then: that
//! would lose every write the successor took. So a standby that sees another primary writes that
//! down, and the next promotion reads it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::db::Channel;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::time::now_rfc3339;

/// The server that took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// What it is called in the configuration, as `host:port`.
    pub name: String,
    /// Its `server_id`.
    pub server_id: u32,
    /// When it was seen taking writes, wall clock, RFC 3339.
    pub seen: String,
}

impl Successor {
    /// A server seen taking writes now.
    pub fn now(name: impl Into<String>, server_id: u32) -> Successor {
        Successor {
            name: name.into(),
            server_id,
            seen: now_rfc3339(),
        }
    }

    /// Whether one of `channels` replicates from it. Its address counts too: a server that was
    /// restarted and has not reached its source since does not know the source's `server_id`.
    pub fn is_source_of(&self, channels: &[Channel]) -> bool {
        let is = |c: &Channel| c.source_id == self.server_id || c.source == self.name;
        channels.iter().any(is)
    }

    /// Writes it down in the directory `state`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, state: &Path) -> Result<()> {
        let path = file(state);
        let text = serde_json::to_string(self).unwrap_or_default();
        files::make_dir(state, 0o755)
            .and_then(|()| files::replace(&path, text.as_bytes(), 0o644))
            .map_err(|error| {
                Error::new(Kind::Refused, format!("write {}", path.display())).because(error)
            })
    }

    /// What is written down in the directory `state`.
    ///
    /// # Errors
    /// When there is something that cannot be read: it may name the server with the newer data.
    pub fn read(state: &Path) -> Result<Option<Successor>> {
        let path = file(state);
        let refused = || {
            Error::new(Kind::Refused, format!("read {}", path.display())).advise(format!(
                "if this server has the newest data: rm {}",
                path.display()
            ))
        };
        match files::read(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| refused().because(error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused().because(error)),
        }
    }

    /// Forgets it: this server is primary, so nobody's data is newer.
    ///
    /// # Errors
    /// When the file is there and cannot be removed.
    pub fn forget(state: &Path) -> Result<()> {
        let path = file(state);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::new(Kind::Refused, format!("remove {}", path.display())).because(error))
            }
            _ => Ok(()),
        }
    }
}

/// The file in the directory `state`.
pub fn file(state: &Path) -> PathBuf {
    state.join("successor")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn it_is_remembered_until_forgotten_and_garbage_is_not_nothing() {
        let dir = Scratch::new();
        assert_eq!(Successor::read(dir.path()).unwrap(), None);
        let successor = Successor::now("10.0.0.12:3306", 2);
        successor.write(dir.path()).unwrap();
        assert_eq!(Successor::read(dir.path()).unwrap(), Some(successor));
        std::fs::write(file(dir.path()), "{").unwrap();
        assert!(Successor::read(dir.path()).is_err());
        Successor::forget(dir.path()).unwrap();
        Successor::forget(dir.path()).unwrap();
        assert_eq!(Successor::read(dir.path()).unwrap(), None);
    }
}
