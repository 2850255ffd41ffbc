//! One installation of hookbox: a configuration, a directory for state, a journal.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::{Host, Server, wait_until};

/// What starting a process, and being one of several on a busy machine, may add to a deadline.
pub const SLACK: Duration = Duration::from_millis(100);

/// hookbox's account on the lab's servers.
pub const PASSWORD: &str = "change-me";

pub struct Site {
    pub dir: PathBuf,
    network: Option<Arc<Host>>,
}

/// What a check said, and how long that took from start to exit.
#[derive(Debug)]
pub struct Seen {
    /// None when a signal ended it.
    pub status: Option<i32>,
    pub line: String,
    pub log: String,
    pub took: Duration,
}

impl Seen {
    pub fn class(&self) -> &str {
        self.line.split(':').next().unwrap_or_default()
    }

    /// It passed with this class.
    #[track_caller]
    pub fn passes(&self, class: &str) -> &Seen {
        assert_eq!((self.class(), self.status), (class, Some(0)), "{self:?}");
        self.in_one_line()
    }

    /// It failed with this class.
    #[track_caller]
    pub fn fails(&self, class: &str) -> &Seen {
        assert_eq!((self.class(), self.status), (class, Some(1)), "{self:?}");
        self.in_one_line()
    }

    #[track_caller]
    fn in_one_line(&self) -> &Seen {
        assert_eq!(self.line.matches('\n').count(), 1, "{self:?}");
        self
    }

    #[track_caller]
    pub fn within(&self, deadline: Duration) -> &Seen {
        assert!(
            self.took <= deadline + SLACK,
            "more than {deadline:?}: {self:?}"
        );
        self
    }

    /// Prints what was measured.
    pub fn told(&self, what: &str) -> &Seen {
        println!(
            "{:7.1} ms  {what}: {}",
            self.took.as_secs_f64() * 1000.0,
            self.line.trim_end()
        );
        self
    }
}

impl Site {
    /// `toml` is the configuration without `[paths]`.
    pub fn new(toml: &str) -> Site {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let site = Site { dir, network: None };
        site.configure(toml);
        site
    }

    /// For the server in `host`, in the network of `host`. `check` are lines of `[check]`.
    pub fn on(host: &Arc<Host>, check: &str) -> Site {
        let socket = host.path("/run/mysqld/mysqld.sock");
        Site::with(host, &format!("socket = '{}'", socket.display()), check)
    }

    /// The same by TCP.
    pub fn by_tcp(host: &Arc<Host>, address: &str, check: &str) -> Site {
        Site::with(host, &format!("host = '{address}'"), check)
    }

    fn with(host: &Arc<Host>, endpoint: &str, check: &str) -> Site {
        let mut site = Site::new("");
        site.network = Some(host.clone());
        let password = site.secret(PASSWORD);
        site.configure(&format!(
            "{check}\n[mysql]\n{endpoint}\npassword_file = '{}'\n",
            password.display()
        ));
        site
    }

    /// Puts a password into a file that only we can read.
    pub fn secret(&self, password: &str) -> PathBuf {
        let path = self.dir.join("password");
        fs::write(&path, password).unwrap();
        set_mode(&path, 0o600);
        path
    }

    /// Lines before the first table header belong to `[check]`, those after `[mysql]` to it.
    pub fn configure(&self, toml: &str) {
        let dir = self.dir.display();
        let paths = format!(
            "[paths]\nrun = '{dir}/run'\nstate = '{dir}/state'\njournal = '{dir}/journal'\n"
        );
        let (top, rest) = match toml.trim_start().starts_with("vip") {
            true => toml.trim_start().split_once('\n').unwrap(),
            false => ("", toml),
        };
        self.write_config(&format!("{top}\n[check]\n{rest}\n{paths}"));
    }

    /// Appends tables to the configuration.
    pub fn add(&self, toml: &str) {
        let config = fs::read_to_string(self.config()).unwrap();
        self.write_config(&(config + "\n" + toml));
    }

    /// Changes a piece of the configuration that is there.
    pub fn reconfigure(&self, old: &str, new: &str) {
        let toml = fs::read_to_string(self.config()).unwrap();
        assert!(toml.contains(old), "{old} is not in {toml}");
        self.write_config(&toml.replace(old, new));
    }

    /// In one step: a detached fence may be reading it, and an empty file is all defaults.
    fn write_config(&self, toml: &str) {
        let beside = self.dir.join("hookbox.toml.new");
        fs::write(&beside, toml).unwrap();
        fs::rename(&beside, self.config()).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("hookbox.toml")
    }

    pub fn program(&self, applet: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookbox"));
        command
            .args([applet, "--config"])
            .arg(self.config())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts `command` in this site's network.
    pub fn start(&self, command: &mut Command) -> Child {
        let enter_and_start = || {
            if let Some(host) = &self.network {
                host.enter_network();
            }
            command.spawn().unwrap()
        };
        // In a thread of its own, which alone changes its network.
        std::thread::scope(|scope| scope.spawn(enter_and_start).join().unwrap())
    }

    pub fn run(&self, applet: &str, args: &[&str]) -> Seen {
        let started = Instant::now();
        let child = self.start(&mut self.program(applet, args));
        finish(child, started)
    }

    pub fn check(&self) -> Seen {
        self.run("check_mysql", &[])
    }

    /// What the journal has, oldest first.
    pub fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.join("journal")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    /// The lines of the journal that `applet` wrote about an event.
    pub fn told(&self, applet: &str, event: &str) -> usize {
        let journal = self.journal();
        journal
            .iter()
            .filter(|r| r["applet"] == applet && r["event"] == event)
            .count()
    }

    /// The processes that work for this site, with their command lines.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        let marker = self.dir.display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if let Ok(pid) = entry.file_name().to_string_lossy().parse()
                && line.contains(&marker)
            {
                found.push((Pid::from_raw(pid), line));
            }
        }
        found
    }

    pub fn wait_until_quiet(&self) {
        // A process that was started a moment ago has no command line yet.
        sleep(ms(30));
        let quiet = || self.processes().is_empty();
        wait_until("no process is left", Duration::from_secs(15), quiet);
    }

    /// Every file of this site except the password's, as one text.
    pub fn everything_written(&self) -> String {
        let mut text = String::new();
        for dir in ["", "run", "state"] {
            for entry in fs::read_dir(self.dir.join(dir))
                .into_iter()
                .flatten()
                .flatten()
            {
                if entry.file_name() != "password" && entry.path().is_file() {
                    File::open(entry.path())
                        .unwrap()
                        .read_to_string(&mut text)
                        .unwrap();
                }
            }
        }
        text
    }

    /// The names of all files and directories of this site.
    pub fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in ["", "run", "state"] {
            for entry in fs::read_dir(self.dir.join(dir))
                .into_iter()
                .flatten()
                .flatten()
            {
                names.push(entry.path().display().to_string());
            }
        }
        names.sort();
        names
    }
}

impl Drop for Site {
    /// Ends what still works for it, such as a fence that waits for a server which never comes.
    fn drop(&mut self) {
        for wait in [ms(30), ms(100), ms(500)] {
            sleep(wait);
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            for (pid, _) in left {
                let _ = kill(pid, Signal::SIGTERM);
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits for the end of a check that was started at `started`.
///
/// One that hangs is killed, so that it outlives no test.
pub fn finish(mut child: Child, started: Instant) -> Seen {
    let pid = Pid::from_raw(child.id() as i32);
    let (ended, is_ended) = channel::<()>();
    let watchdog = spawn(move || {
        if is_ended.recv_timeout(ms(10_000)) == Err(RecvTimeoutError::Timeout) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    child.wait().unwrap();
    let took = started.elapsed();
    drop(ended);
    watchdog.join().unwrap();
    let output = child.wait_with_output().unwrap();
    Seen {
        took,
        status: output.status.code(),
        line: String::from_utf8(output.stdout).unwrap(),
        log: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A host with a running server. `settings` are lines of `[mysqld]`.
pub fn database(name: &str, settings: &str) -> (Arc<Host>, Server) {
    let host = Arc::new(Host::new(name));
    let mut server = Server::new(&host, "127.0.0.1", 1, settings);
    server.start();
    (host, server)
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets hookbox in from `address` too, by the accounts that `hookbox grants` prints.
pub fn let_in(server: &Server, address: &str) {
    server.sql("DROP USER hookbox@localhost");
    let version = server.ask("SELECT VERSION()");
    let mut grants = Command::new(env!("CARGO_BIN_EXE_hookbox"));
    let grants = grants.args(["grants", "--version", &version, "--from", address]);
    let printed = String::from_utf8(grants.output().unwrap().stdout).unwrap();
    let lines: Vec<&str> = printed.lines().filter(|l| !l.starts_with("--")).collect();
    let script = lines.join("\n");
    let statements = script.split(';').map(str::trim);
    for sql in statements.filter(|sql| !sql.is_empty()) {
        server.sql(sql);
    }
}
