//! Real OpenSSH between hosts: root may go everywhere without a password.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::{Host, wait_until};

const CONFIG: &str = "ListenAddress 0.0.0.0
HostKey /etc/ssh/lab_host_key
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxStartups 100
";

/// Key pairs that every host of this process shares: of the hosts, and of root.
struct Keys {
    host: (String, String),
    root: (String, String),
}

/// Starts sshd in `host` and waits until it listens; its root gets a key that opens every host.
pub fn start(host: &Arc<Host>) {
    let keys = keys();
    host.sh("rm -rf /root/.ssh; install -d -m 700 /root/.ssh /run/sshd");
    host.write("/etc/ssh/lab_sshd_config", CONFIG, 0o644);
    host.write("/etc/ssh/lab_host_key", &keys.host.0, 0o600);
    host.write("/root/.ssh/id_ed25519", &keys.root.0, 0o600);
    host.write("/root/.ssh/authorized_keys", &keys.root.1, 0o600);
    host.write(
        "/root/.ssh/known_hosts",
        format!("* {}", keys.host.1),
        0o600,
    );
    let options = ["-D", "-e", "-f", "/etc/ssh/lab_sshd_config"];
    host.start("/usr/sbin/sshd", &options, "/var/log/sshd.log");
    wait_until("sshd listens", Duration::from_secs(10), || {
        host.path("/run/sshd.pid").exists()
    });
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let host = Host::new("keys");
        let pair = |name: &str| {
            let file = format!("/tmp/{name}");
            host.sh(&format!(
                "ssh-keygen -q -t ed25519 -N '' -C {name} -f {file}"
            ));
            (host.read(&file), host.read(&format!("{file}.pub")))
        };
        Keys {
            host: pair("host"),
            root: pair("root"),
        }
    })
}
