//! A gate between hookbox and its server, which signals hookbox at a question of one's choice.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use crate::lab::Server;

const SOCKET: &str = "/run/gate.sock";

/// Writes a configuration by which hookbox goes through the gate; gives its path.
pub fn configure(server: &Server) -> &'static str {
    let path = "/etc/hookbox/gate.toml";
    let toml = server.host.read("/etc/hookbox/hookbox.toml");
    let toml = toml.replace("[mysql]\n", &format!("[mysql]\nsocket = \"{SOCKET}\"\n"));
    server.host.write(path, toml, 0o644);
    path
}

/// Which question.
pub trait Which: Send + 'static {
    fn is(&mut self, question: &str) -> bool;
}

/// The one with this number, counted from 0.
impl Which for usize {
    fn is(&mut self, _: &str) -> bool {
        let now = *self == 0;
        *self = self.wrapping_sub(1);
        now
    }
}

/// The first one with these words.
impl Which for &'static str {
    fn is(&mut self, question: &str) -> bool {
        question.contains(*self)
    }
}

/// Passes everything on; at one question it sends a signal to whoever asks, before the server gets
/// to see the question. Who is dead by then has asked in vain.
pub struct Gate {
    signalled_at: Arc<Mutex<Option<String>>>,
    socket: PathBuf,
    listener: Option<JoinHandle<()>>,
}

impl Gate {
    pub fn new(server: &Server, which: impl Which, signal: Signal) -> Gate {
        let socket = server.host.path(SOCKET);
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let upstream = server.host.path("/run/mysqld/mysqld.sock");
        let signalled_at = Arc::new(Mutex::new(None));
        let at = signalled_at.clone();
        let which = Arc::new(Mutex::new(which));
        let listener = spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let pid = Pid::from_raw(getsockopt(&client, PeerCredentials).unwrap().pid());
                if pid == Pid::this() {
                    return; // the end of this gate
                }
                let server = UnixStream::connect(&upstream).unwrap();
                let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                spawn(move || pump(from, to));
                let (at, which) = (at.clone(), which.clone());
                let may_pass = move |question: &str| {
                    let mut at = at.lock().unwrap();
                    if at.is_none() && which.lock().unwrap().is(question) {
                        *at = Some(question.to_owned());
                        kill(pid, signal).unwrap();
                    }
                    at.is_none() || signal != Signal::SIGKILL
                };
                spawn(move || {
                    let _ = watch(&client, &server, may_pass);
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.shutdown(Shutdown::Both);
                });
            }
        });
        Gate {
            signalled_at,
            socket,
            listener: Some(listener),
        }
    }

    /// The question at which the signal was sent, if it was.
    pub fn signalled_at(&self) -> Option<String> {
        self.signalled_at.lock().unwrap().clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes packets on as long as `may_pass` says so of the questions among them.
fn watch(
    mut client: &UnixStream,
    mut server: &UnixStream,
    mut may_pass: impl FnMut(&str) -> bool,
) -> std::io::Result<()> {
    loop {
        let mut packet = vec![0; 4];
        client.read_exact(&mut packet)?;
        let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
        packet.resize(4 + length, 0);
        client.read_exact(&mut packet[4..])?;
        let is_question = packet[3] == 0 && packet.get(4) == Some(&3);
        if is_question && !may_pass(&String::from_utf8_lossy(&packet[5..])) {
            return Ok(());
        }
        server.write_all(&packet)?;
    }
}
