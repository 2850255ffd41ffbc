//! Stock keepalived in a host, with a configuration file that is given to it as it is.

use std::sync::Arc;
use std::time::Duration;

use super::host::Process;
use super::{Host, wait_until};

const LOG: &str = "/var/log/keepalived.log";

pub struct Keepalived {
    host: Arc<Host>,
    process: Option<Process>,
}

impl Keepalived {
    pub fn new(host: &Arc<Host>, configuration: &str) -> Keepalived {
        host.write("/etc/keepalived/keepalived.conf", configuration, 0o644);
        Keepalived {
            host: host.clone(),
            process: None,
        }
    }

    pub fn start(&mut self) {
        assert!(
            self.process.is_none(),
            "keepalived runs already on {}",
            self.host.name
        );
        let options = ["--dont-fork", "--log-console", "--log-detail", "--vrrp"];
        self.process = Some(self.host.start("keepalived", &options, LOG));
        wait_until("keepalived has begun", Duration::from_secs(10), || {
            self.host.path("/run/keepalived.pid").exists()
        });
    }

    /// Stops it with SIGTERM, as systemd does, and waits for its end.
    pub fn stop(&mut self) {
        self.begin_to_stop().wait_for_end();
    }

    /// Sends SIGTERM; it takes a second to end.
    pub fn begin_to_stop(&mut self) -> Process {
        let process = self.process.take().expect("keepalived runs");
        process.signal("TERM");
        process
    }

    /// Ends all of it with SIGKILL: the address stays, nobody is told.
    pub fn kill(&mut self) {
        let process = self.process.take().expect("keepalived runs");
        process.signal_group("KILL");
        process.wait_for_end();
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.host.read(LOG)
    }
}
