//! Real sshd in a host, and keys by which other hosts may log in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::host::Process;
use super::{Host, wait_until};

const CONFIGURATION: &str = "/etc/ssh/sshd_lab";
const HOST_KEY: &str = "/etc/ssh/ssh_host_lab";
const LOG: &str = "/var/log/sshd.log";

/// PAM and the resolver would look for services that a host does not have.
const SETTINGS: &str = "\
HostKey /etc/ssh/ssh_host_lab
PidFile none
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
AuthorizedKeysFile /etc/ssh/authorized_keys
LogLevel VERBOSE
MaxStartups 100
Subsystem sftp internal-sftp
";

pub struct Sshd {
    host: Arc<Host>,
    process: Option<Process>,
}

impl Sshd {
    /// Starts it, with a new host key.
    pub fn start(host: &Arc<Host>) -> Sshd {
        host.write(CONFIGURATION, SETTINGS, 0o600);
        // bash reads it for commands by ssh. What somebody has there on this machine takes its time.
        host.sh("[ ! -e /root/.bashrc ] || mount --bind /dev/null /root/.bashrc");
        let mut sshd = Sshd {
            host: host.clone(),
            process: None,
        };
        sshd.change_host_key();
        sshd.restart();
        sshd
    }

    /// Stops the listener, if it runs, and starts it; sessions live on.
    pub fn restart(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("TERM");
            process.wait_for_end();
        }
        self.host.sh("mkdir -p -m 755 /run/sshd");
        let options = ["-D", "-e", "-f", CONFIGURATION];
        // By its path, as it insists on.
        self.process = Some(self.host.start("/usr/sbin/sshd", &options, LOG));
        wait_until("sshd listens", Duration::from_secs(10), || {
            !self.host.sh("ss -Hltn 'sport = :22'").is_empty()
        });
    }

    /// Gives the host another key, from the next [`Sshd::restart`] on.
    pub fn change_host_key(&self) {
        self.host.sh(&format!(
            "rm -f {HOST_KEY}; ssh-keygen -q -t ed25519 -N '' -f {HOST_KEY}"
        ));
    }

    /// Stops everything of sshd there, sessions included, without ending it.
    pub fn freeze(&self) {
        self.host.sh("kill -s STOP $(pgrep -x sshd)");
    }

    /// Undoes [`Sshd::freeze`].
    pub fn thaw(&self) {
        self.host.sh("kill -s CONT $(pgrep -x sshd)");
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        let established = self.host.sh("ss -Htn state established 'sport = :22'");
        established.lines().count()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.host.read(LOG)
    }

    /// Lets root of `client` log in here, where it finds this host at `address`: with
    /// `/root/.ssh/id_ed25519` and `/root/.ssh/known_hosts` there, as ssh looks for them.
    pub fn admit(&self, client: &Host, address: &str) {
        let key = client.sh("mkdir -p -m 700 /root/.ssh; cd /root/.ssh
             [ -e id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -C lab -f id_ed25519
             cat id_ed25519.pub");
        let mut admitted = self.host.read("/etc/ssh/authorized_keys");
        admitted.push_str(&key);
        self.host.write("/etc/ssh/authorized_keys", admitted, 0o644);
        let mut known = client.read("/root/.ssh/known_hosts");
        let host_key = self.host.read(&format!("{HOST_KEY}.pub"));
        known.push_str(&format!("{address} {host_key}"));
        client.write("/root/.ssh/known_hosts", known, 0o600);
    }
}

/// Words for an ssh client outside `client` that shall be known as root of it: a thread that has
/// entered its network still sees this machine's files.
pub fn as_root_of(client: &Host) -> Vec<String> {
    let file = |name: &str| -> PathBuf { client.path(&format!("/root/.ssh/{name}")) };
    let known = file("known_hosts");
    let key = file("id_ed25519");
    [
        "-F",
        "none",
        "-i",
        &key.display().to_string(),
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        &format!("UserKnownHostsFile={}", known.display()),
        "-o",
        "GlobalKnownHostsFile=none",
    ]
    .map(str::to_owned)
    .to_vec()
}
