//! What stands between a client and a server on unix sockets and counts how often the client waits.

use std::io::{Read, Result, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::spawn;

/// What clients said, one entry for each round trip: what is sent before any of it is answered
/// belongs together. The first of every connection is that the server greets.
#[derive(Clone, Default)]
pub struct RoundTrips(Arc<Mutex<Vec<String>>>);

impl RoundTrips {
    /// Passes everything on from `at` to `server`.
    pub fn count(at: &Path, server: &Path) -> RoundTrips {
        let listener = UnixListener::bind(at).unwrap();
        let counted = RoundTrips::default();
        let (all, server) = (counted.clone(), server.to_owned());
        spawn(move || {
            for client in listener.incoming().flatten() {
                let (all, server) = (all.clone(), UnixStream::connect(&server).unwrap());
                spawn(move || {
                    let _ = all.pass(&client, &server);
                    for side in [client, server] {
                        let _ = side.shutdown(Shutdown::Both);
                    }
                });
            }
        });
        counted
    }

    /// Those up to the one that has `words`.
    pub fn up_to(&self, words: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        let end = all.iter().position(|it| it.contains(words));
        let end = end.unwrap_or_else(|| panic!("no {words:?} in {all:#?}"));
        all[..=end].to_vec()
    }

    fn pass(&self, mut client: &UnixStream, mut server: &UnixStream) -> Result<()> {
        self.0.lock().unwrap().push("connect".to_owned());
        let answered = Arc::new(Mutex::new(false));
        let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
        let told = answered.clone();
        spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while let Ok(n) = from.read(&mut bytes)
                && n > 0
            {
                // Before it is heard.
                *told.lock().unwrap() = true;
                if to.write_all(&bytes[..n]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut bytes = vec![0; 1 << 20];
        loop {
            let n = client.read(&mut bytes)?;
            if n == 0 {
                return Ok(());
            }
            let said = readable(&bytes[..n]);
            let mut all = self.0.lock().unwrap();
            match std::mem::take(&mut *answered.lock().unwrap()) {
                true => all.push(said),
                false => all.last_mut().unwrap().push_str(&said),
            }
            drop(all);
            server.write_all(&bytes[..n])?;
        }
    }
}

/// The questions in `bytes`, or what else there is.
fn readable(bytes: &[u8]) -> String {
    let mut said = String::new();
    let mut rest = bytes;
    while let [a, b, c, _, packet @ ..] = rest {
        let length = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let (payload, more) = packet.split_at(length.min(packet.len()));
        said += &match payload {
            [3, sql @ ..] => format!("{}; ", String::from_utf8_lossy(sql)),
            [1] => "goodbye; ".to_owned(),
            _ => "login; ".to_owned(),
        };
        rest = more;
    }
    said
}
