//! What a switch of primaries has put away and not yet restored: the record that `stop` writes
//! before it changes anything, that `start` closes, and that `undo` and `status` read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, eaccess};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Host, Paths};
use crate::db::Writes;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::run::Changed;
use crate::ssh::Place;
use crate::time::{Deadline, now_rfc3339};

/// The form of the record that is written. One with a higher number is of a newer hookbox.
const FORM: u32 = 1;

/// It names accounts and hosts: nobody else's business.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Between two tries to get the lock.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// One of the two servers of a switch.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Side {
    /// As MHA names it: `db1`.
    pub name: String,
    /// Where the server is: an IP address, or a name that this host can look up.
    pub address: String,
    /// TCP port of the server.
    pub port: u16,
    /// How its host is reached.
    pub ssh: Place,
}

impl Side {
    /// What `[host.NAME]` says of its host, if anything; NAME is MHA's name for it, or its address.
    pub fn host<'a>(&self, config: &'a Config) -> Option<&'a Host> {
        let hosts = &config.host;
        hosts.get(&self.name).or_else(|| hosts.get(&self.address))
    }

    /// The same with ssh's way there as the configuration has it: `[host.NAME]` before `[ssh]`
    /// before what MHA says.
    pub fn configured(mut self, config: &Config) -> Side {
        let host = self.host(config).cloned().unwrap_or_default();
        let ssh = &mut self.ssh;
        ssh.address = host.ssh_host.unwrap_or(std::mem::take(&mut ssh.address));
        ssh.port = host.ssh_port.or(config.ssh.port).or(ssh.port);
        let said = ssh.user.take();
        ssh.user = host.ssh_user.or(config.ssh.user.clone()).or(said);
        self
    }

    /// Whether both are the same server.
    pub fn is(&self, other: &Side) -> bool {
        self.address == other.address && self.port == other.port
    }
}

/// Why a primary is replaced.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is dead, or MHA holds it for dead.
    Failover,
    /// Somebody wants another one: an online change.
    OnlineChange,
}

/// A switch that has begun.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Record {
    form: u32,
    /// Why.
    pub reason: Reason,
    /// When it began, on the wall clock (RFC 3339); for people.
    pub at: String,
    /// The primary that is left.
    pub old: Side,
    /// The one that is to follow; unknown while a dead primary is put away.
    pub new: Option<Side>,
    /// What was so before.
    pub before: Before,
    /// Whether `stop` came to its end. One that was killed may have left the old primary as it was.
    #[serde(default)]
    pub put_away: bool,
}

/// What was so before a switch began. What is `None` could not be asked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Before {
    /// Whether the old primary took writes.
    pub old_writes: Option<Writes>,
    /// Whether the new one did.
    pub new_writes: Option<Writes>,
    /// Whether the old primary's event scheduler was on.
    pub events: Option<bool>,
    /// The events that were enabled on the old primary, where it told.
    #[serde(default)]
    pub enabled: Option<Vec<String>>,
    /// The virtual addresses that the old primary had, as in `vip` of the configuration.
    pub vips: Vec<String>,
    /// The accounts of the old primary that are locked for the switch, as `app@%`; not those that
    /// were locked already.
    pub locked: Vec<String>,
}

impl Record {
    /// A switch that begins now.
    pub fn new(reason: Reason, old: Side, new: Option<Side>, before: Before) -> Record {
        Record {
            form: FORM,
            reason,
            at: now_rfc3339(),
            old,
            new,
            before,
            put_away: false,
        }
    }
}

/// Where the record of one cluster's switch is kept.
#[derive(Clone, Debug)]
pub struct Register {
    dir: PathBuf,
    name: String,
}

/// The right to switch one cluster, until it is dropped.
pub struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Register {
    /// That of the cluster that this configuration is of.
    pub fn of(paths: &Paths) -> Register {
        Register {
            dir: paths.state.join("switch"),
            name: paths.name.clone(),
        }
    }

    /// The switch that has begun and is not finished, if there is one. Takes no lock.
    ///
    /// # Errors
    /// [`Kind::Refused`] when there is a record that cannot be read or understood.
    pub fn open(&self) -> Result<Option<Record>> {
        let text = match files::read(&self.file()) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.trouble("read", error)),
        };
        let form: Form = serde_json::from_str(&text).map_err(|error| self.damaged(error))?;
        if form.form > FORM {
            let what = format!("{} has form {}", self.file().display(), form.form);
            return Err(Error::new(Kind::Refused, what)
                .because(format!("this hookbox knows forms up to {FORM}"))
                .advise("use the newer hookbox that wrote it"));
        }
        let record = serde_json::from_str(&text);
        record.map(Some).map_err(|error| self.damaged(error))
    }

    /// Writes `record` in place of the one that is there; it outlives a crash of the machine.
    ///
    /// # Errors
    /// [`Kind::Denied`] when that is not possible; then the record is as it was.
    pub fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::from);
        files::make_dir(&self.dir, DIR_MODE)
            .and_then(|()| files::replace(&self.file(), &text?, FILE_MODE))
            .map_err(|error| self.trouble("write", error))
    }

    /// Whether a switch could be written down, now that it is not needed yet. Changes nothing.
    ///
    /// # Errors
    /// [`Kind::Denied`] when it could not.
    pub fn can_be_written(&self) -> Result<()> {
        // The first of those that are there will get what is missing below it.
        let there = self.dir.ancestors().find(|dir| dir.exists());
        let dir = there.unwrap_or(&self.dir);
        let mode = AccessFlags::W_OK | AccessFlags::X_OK;
        eaccess(dir, mode).map_err(|errno| self.trouble("write", errno.into()))
    }

    /// The switch is finished: nothing is put away any more.
    ///
    /// # Errors
    /// [`Kind::Denied`] when the record cannot be removed.
    pub fn close(&self) -> Result<Changed> {
        match fs::remove_file(self.file()) {
            Ok(()) => {
                // Else a crash could bring it back; that would be found out, so it may fail.
                let _ = File::open(&self.dir).and_then(|dir| dir.sync_all());
                Ok(Changed::Yes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Changed::AlreadySo),
            Err(error) => Err(self.trouble("remove", error)),
        }
    }

    /// Waits until no other `stop`, `start` or `undo` of this cluster is at work.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when the other one does not end, [`Kind::Denied`] when there can be no
    /// lock, or what the deadline's watch says.
    pub fn lock(&self, deadline: &Deadline) -> Result<Lock> {
        let path = self.dir.join(format!("{}.lock", self.name));
        files::make_dir(&self.dir, DIR_MODE).map_err(|error| self.trouble("write", error))?;
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path);
        let mut file = open.map_err(|error| self.trouble("lock", error))?;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((file, Errno::EWOULDBLOCK)) => file,
                Err((_, errno)) => return Err(self.trouble("lock", errno.into())),
            };
            let busy = "another switch of this cluster is at work and does not end";
            deadline
                .pause(TRY_AGAIN)
                .map_err(|error| match error.kind() {
                    Kind::Timeout => Error::new(Kind::Timeout, busy)
                        .advise(format!("see who has it: fuser -v {}", path.display())),
                    _ => error,
                })?;
        }
    }

    /// The file of the record.
    pub fn file(&self) -> PathBuf {
        self.dir.join(format!("{}.json", self.name))
    }

    fn damaged(&self, error: serde_json::Error) -> Error {
        let path = self.file();
        Error::new(Kind::Refused, format!("{} is damaged", path.display()))
            .because(error)
            .advise(format!(
                "see by hand which server has the address and takes writes, then: rm {}",
                path.display()
            ))
    }

    fn trouble(&self, doing: &str, error: io::Error) -> Error {
        Error::new(Kind::Denied, format!("{doing} {}", self.file().display()))
            .because(error)
            .advise("run as root, or give this account space there: [paths] state")
    }
}

/// What every form of the record has.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    fn register(dir: &Scratch) -> Register {
        Register::of(&Paths {
            state: dir.path().join("lib"),
            name: "app1".to_owned(),
            ..Paths::default()
        })
    }

    fn record() -> Record {
        let side = |name: &str| Side {
            name: name.to_owned(),
            port: 3306,
            ..Side::default()
        };
        let before = Before {
            old_writes: Some(Writes::Open),
            new_writes: Some(Writes::ClosedToAll),
            events: Some(true),
            enabled: None,
            vips: vec!["10.0.0.100/24 dev eth0".to_owned()],
            locked: vec!["app@%".to_owned()],
        };
        Record::new(Reason::OnlineChange, side("db1"), Some(side("db2")), before)
    }

    fn mode(path: &std::path::Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_record_is_what_was_written_until_it_is_closed() {
        let dir = Scratch::new();
        let register = register(&dir);
        assert_eq!(register.open().unwrap(), None);
        assert_eq!(register.close().unwrap(), Changed::AlreadySo);
        let mut record = record();
        register.write(&record).unwrap();
        assert_eq!(register.open().unwrap().as_ref(), Some(&record));
        record.before.locked.clear();
        register.write(&record).unwrap();
        assert_eq!(register.open().unwrap(), Some(record));
        assert_eq!(mode(&register.file()), 0o600);
        assert_eq!(mode(register.file().parent().unwrap()), 0o700);
        assert_eq!(register.close().unwrap(), Changed::Yes);
        assert_eq!(register.open().unwrap(), None);
    }

    #[test]
    fn a_record_that_is_cut_off_anywhere_is_one_clear_line() {
        let dir = Scratch::new();
        let register = register(&dir);
        register.write(&record()).unwrap();
        let whole = fs::read(register.file()).unwrap();
        for length in 0..whole.len() {
            fs::write(register.file(), &whole[..length]).unwrap();
            let error = register.open().unwrap_err();
            assert_eq!(error.kind(), Kind::Refused);
            assert!(error.chain().contains("app1.json is damaged"));
            assert!(!error.chain().contains('\n'));
            assert!(error.advice().unwrap().contains("rm "));
        }
        for text in ["null", "[]", "{\"form\":1}", "\u{0}\u{0}"] {
            fs::write(register.file(), text).unwrap();
            register.open().unwrap_err();
        }
        fs::write(register.file(), "{\"form\":2}").unwrap();
        let error = register.open().unwrap_err();
        assert!(error.advice().unwrap().contains("newer hookbox"));
    }

    #[test]
    fn what_cannot_be_written_is_one_clear_line() {
        let dir = Scratch::new();
        fs::write(dir.path().join("lib"), "in the way").unwrap();
        let error = register(&dir).write(&record()).unwrap_err();
        assert_eq!(error.kind(), Kind::Denied);
        assert!(error.chain().starts_with("write "), "{}", error.chain());
        assert!(error.advice().unwrap().contains("[paths] state"));
    }

    #[test]
    fn a_second_switch_of_the_same_cluster_waits_for_the_first() {
        let dir = Scratch::new();
        let register = register(&dir);
        let soon = || Deadline::after(Duration::from_millis(60));
        let lock = register.lock(&soon()).unwrap();
        let error = register.lock(&soon()).err().unwrap();
        assert_eq!(error.kind(), Kind::Timeout);
        let other = Register {
            name: "app2".to_owned(),
            ..register.clone()
        };
        other.lock(&soon()).unwrap();
        drop(lock);
        register.lock(&soon()).unwrap();
    }

    #[test]
    fn a_side_finds_its_host_by_name_or_address() {
        let config: Config =
            toml::from_str("[host.db1]\nssh_port = 1\n[host.'10.0.0.12']\nssh_port = 2").unwrap();
        let port = |name: &str, address: &str| {
            let side = Side {
                name: name.to_owned(),
                address: address.to_owned(),
                ..Side::default()
            };
            side.host(&config).and_then(|host| host.ssh_port)
        };
        assert_eq!(port("db1", "10.0.0.12"), Some(1));
        assert_eq!(port("db2", "10.0.0.12"), Some(2));
        assert_eq!(port("db3", "10.0.0.13"), None);
    }
}
