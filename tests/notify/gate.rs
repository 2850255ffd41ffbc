//! A gate between hookbox and its server, which can stop it at any question.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use crate::lab::Server;

/// Where hookbox is to be told its server listens.
pub const SOCKET: &str = "/run/gate.sock";

/// Passes everything on, and sends `signal` to the program that asks its `at`th question, counted
/// from 0, before the server gets to see it. A program that is dead by then has asked in vain.
pub struct Gate {
    asked: Arc<Mutex<Vec<String>>>,
    socket: std::path::PathBuf,
    listener: Option<JoinHandle<()>>,
}

impl Gate {
    pub fn new(server: &Server, at: usize, signal: Signal) -> Gate {
        let socket = server.host.path(SOCKET);
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let upstream = server.host.path("/run/mysqld/mysqld.sock");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (questions, count) = (asked.clone(), Arc::new(AtomicUsize::new(0)));
        let listener = spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&upstream));
                let Ok(server) = server else { return };
                let pid = Pid::from_raw(getsockopt(&client, PeerCredentials).unwrap().pid());
                if pid == Pid::this() {
                    return;
                }
                let (questions, count) = (questions.clone(), count.clone());
                let (from, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                spawn(move || pump(from, to));
                spawn(move || {
                    let _ = watch(client, server, |question| {
                        questions.lock().unwrap().push(question);
                        if count.fetch_add(1, Ordering::SeqCst) == at {
                            kill(pid, signal).unwrap();
                            return signal != Signal::SIGKILL;
                        }
                        true
                    });
                });
            }
        });
        Gate { asked, socket, listener: Some(listener) }
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = UnixStream::connect(&self.socket);
        let _ = std::fs::remove_file(&self.socket);
        if let Some(listener) = self.listener.take() {
            listener.join().unwrap();
        }
    }
}

fn pump(mut from: UnixStream, mut to: UnixStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}

/// Passes packets on, each question only if `may_pass` says so; ends the connection otherwise.
fn watch(
    mut client: UnixStream,
    mut server: UnixStream,
    mut may_pass: impl FnMut(String) -> bool,
) -> std::io::Result<()> {
    loop {
        let mut packet = vec![0; 4];
        let whole = client.read_exact(&mut packet).and_then(|()| {
            let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
            packet.resize(4 + length, 0);
            client.read_exact(&mut packet[4..])
        });
        let question = packet[3] == 0 && packet.get(4) == Some(&3);
        let passes = !question || may_pass(String::from_utf8_lossy(&packet[5..]).into_owned());
        if whole.is_err() || !passes {
            let both = std::net::Shutdown::Both;
            let _ = client.shutdown(both);
            return server.shutdown(both);
        }
        server.write_all(&packet)?;
    }
}
