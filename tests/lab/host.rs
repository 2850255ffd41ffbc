//! A machine of its own, made of namespaces: network, mounts, name, processes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::{VIP, wait_until};

/// One machine. Everything in it dies with this value, and with the process that holds it, however
/// that ends: its first process waits on a pipe from here.
pub struct Host {
    pub name: String,
    /// The host's first process, as this machine numbers it.
    pid: u32,
    holder: Child,
}

impl Host {
    pub fn new(name: &str) -> Host {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--uts",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child=KILL",
            ])
            .args(["sh", "-c", include_str!("init.sh"), "init", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is part of util-linux");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid = line
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{name} did not come up: see above"));
        Host {
            name: name.to_owned(),
            pid,
            holder,
        }
    }

    /// A command that will run in the host, with the environment that systemd gives a service.
    pub fn command(&self, program: &str) -> Command {
        // A shell has those that it starts in the background ignore these, tests among them.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT,QUIT", "nsenter"])
            .arg(format!("--target={}", self.pid))
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--", program])
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell script in the host, which must succeed; gives what it wrote.
    pub fn sh(&self, script: &str) -> String {
        self.must(self.command("sh").args(["-ec", script]))
    }

    /// The same with only the network of the host: process numbers and files are this machine's.
    pub fn sh_in_network(&self, script: &str) -> String {
        let target = format!("--target={}", self.pid);
        self.must(Command::new("nsenter").args([&target, "--net", "sh", "-ec", script]))
    }

    fn must(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}: {command:?}: {}: {stderr}",
            self.name,
            output.status
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a program in the host that goes on running; what it says is appended to `log` there.
    pub fn start(self: &Arc<Host>, program: &str, args: &[&str], log: &str) -> Process {
        // In the background of a shell that ends, so that it is the host's first process that reaps
        // it: nsenter stops itself when its child is stopped, and never goes on.
        let script = format!("setsid \"$@\" >> {log} 2>&1 < /dev/null & echo $!");
        let mut command = self.command("sh");
        let pid = self.must(command.args(["-c", &script, "sh", program]).args(args));
        Process {
            host: self.clone(),
            pid: pid.trim().parse().unwrap(),
        }
    }

    /// Where a file of the host is seen from this machine, to read it. Never to write it: a link
    /// on the way would lead to this machine's own file.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// Writes a file of the host, making its directory if need be.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>, mode: u32) {
        let script =
            format!("mkdir -p $(dirname {inside}); cat > {inside}; chmod {mode:o} {inside}");
        let mut shell = self
            .command("sh")
            .args(["-ec", &script])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        shell
            .stdin
            .take()
            .unwrap()
            .write_all(content.as_ref())
            .unwrap();
        assert!(
            shell.wait().unwrap().success(),
            "{}: write {inside}",
            self.name
        );
    }

    /// Reads a file of the host; empty if it is not there.
    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_default()
    }

    pub fn has_vip(&self) -> bool {
        self.sh("ip -o addr show dev eth0")
            .contains(&format!(" {VIP}/"))
    }

    /// Moves the calling thread, and it alone, into the host's network.
    pub fn enter_network(&self) {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid)).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// The host's first process, as this machine numbers it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs hookbox, and sends it `signal` as soon as it says a line that is `the_moment`; gives its
    /// exit status and its messages.
    pub fn hookbox_until(
        &self,
        words: &[&str],
        signal: &str,
        mut the_moment: impl FnMut(&str) -> bool,
    ) -> (Option<i32>, String) {
        let script = "echo $$ > /run/hookbox.pid; exec /usr/sbin/hookbox \"$@\"";
        let mut command = self.command("sh");
        command.args(["-c", script, "sh"]).args(words);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut hookbox = command.spawn().unwrap();
        let (mut text, mut is_sent) = (String::new(), false);
        for line in BufReader::new(hookbox.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if !is_sent && the_moment(&line) {
                self.sh(&format!(
                    "kill -s {signal} $(cat /run/hookbox.pid) 2> /dev/null || true"
                ));
                is_sent = true;
            }
            text.push_str(&line);
            text.push('\n');
        }
        (hookbox.wait().unwrap().code(), text)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// A program that was started in a host.
pub struct Process {
    host: Arc<Host>,
    /// As the host numbers it.
    pid: u32,
}

impl Process {
    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        self.host.sh(&format!("kill -s {signal} {}", self.pid));
    }

    /// The same for it and those of its children that have not left its process group.
    pub fn signal_group(&self, signal: &str) {
        self.host.sh(&format!("kill -s {signal} -- -{}", self.pid));
    }

    pub fn wait_for_end(self) {
        let directory = self.host.path(&format!("/proc/{}", self.pid));
        wait_until("a program ends", Duration::from_secs(30), || {
            !directory.exists()
        });
    }
}
