//! Where log lines go: stderr when that goes anywhere, else syslog.
//!
//! keepalived gives its children /dev/null for all three standard streams, in the foreground
//! too, so a hook that only wrote to stderr would be mute there.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use ::log::Level;
use env_logger::{Builder, Env, Target};
use nix::poll::PollFlags;
use nix::sys::stat::{SFlag, fstat, major, minor};

use crate::time::Deadline;

/// Where syslog listens (RFC 3164 daemons, journald).
const SYSLOG: &str = "/dev/log";

/// `LOG_DAEMON` of syslog(3), already shifted.
const FACILITY: u8 = 3 << 3;

/// The null device, major and minor (the kernel's admin-guide/devices.txt).
const NULL: (u64, u64) = (1, 3);

/// A pipe that nobody reads must not hold a failover: a line that stderr does not take by then is
/// dropped, and so are the next ones until it takes some again.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a pipe takes at once when it is ready: `PIPE_BUF` of Linux.
const PIPE_BUF: usize = 4096;

static STDERR_IS_MUTE: LazyLock<bool> = LazyLock::new(|| is_dev_null(io::stderr()));

/// Starts logging for `applet`. `RUST_LOG` chooses the level as env_logger has it, `info` by
/// default. Lines carry no time: syslog and the journal have their own.
pub fn init(applet: &str) {
    let name = applet.to_owned();
    let mut builder = Builder::from_env(Env::default().default_filter_or("info"));
    builder.format(move |line, record| {
        let text = record.args().to_string();
        let pid = std::process::id();
        for part in text.lines() {
            match *STDERR_IS_MUTE {
                true => writeln!(line, "<{}>{name}[{pid}]: {part}", priority(record.level()))?,
                false => writeln!(line, "{name}: {part}")?,
            }
        }
        Ok(())
    });
    builder.target(Target::Pipe(Box::new(Outlet(None))));
    // Only a second start fails, and then the first one stands.
    let _ = builder.try_init();
}

fn is_dev_null(stream: impl AsFd) -> bool {
    fstat(stream).is_ok_and(|stream| {
        let device = SFlag::from_bits_truncate(stream.st_mode) & SFlag::S_IFMT;
        device == SFlag::S_IFCHR && (major(stream.st_rdev), minor(stream.st_rdev)) == NULL
    })
}

/// Stderr or syslog, looked for when the first line is there: most checks log none.
struct Outlet(Option<Box<dyn Write + Send>>);

impl Write for Outlet {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let open = || -> Box<dyn Write + Send> {
            match *STDERR_IS_MUTE {
                true => Box::new(Syslog::at(SYSLOG)),
                false => Box::new(Patient::new(io::stderr())),
            }
        };
        self.0.get_or_insert_with(open).write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Facility and severity as syslog(3) has them.
fn priority(level: Level) -> u8 {
    FACILITY
        | match level {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        }
}

/// A stream that may be a pipe.
pub struct Patient<W> {
    stream: W,
    patience: Duration,
}

impl<W> Patient<W> {
    /// Waits for `stream` no longer than 50 ms.
    pub fn new(stream: W) -> Self {
        Patient {
            stream,
            patience: PATIENCE,
        }
    }
}

impl<W: Write + AsFd> Write for Patient<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        for part in lines.chunks(PIPE_BUF) {
            let wait = Deadline::after(self.patience);
            if wait.ready(self.stream.as_fd(), PollFlags::POLLOUT).is_err() {
                self.patience = Duration::ZERO;
                break;
            }
            self.patience = PATIENCE;
            self.stream.write_all(part)?;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One datagram a line; dropped when nobody listens or the listener does not keep up.
struct Syslog {
    socket: Option<UnixDatagram>,
    path: PathBuf,
}

impl Syslog {
    fn at(path: impl Into<PathBuf>) -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Syslog {
            socket: socket.ok(),
            path: path.into(),
        }
    }
}

impl Write for Syslog {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if let Some(socket) = &self.socket {
            for line in lines
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                // Not connected beforehand: the listener may be restarted under a long run.
                let _ = socket.send_to(line, &self.path);
            }
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::fs::OpenOptions;

    use super::*;
    use crate::scratch::Scratch;
    use crate::time::Stopwatch;

    #[test]
    fn only_the_null_device_counts_as_mute() {
        assert!(is_dev_null(
            OpenOptions::new().write(true).open("/dev/null").unwrap()
        ));
        assert!(!is_dev_null(
            OpenOptions::new().write(true).open("/dev/zero").unwrap()
        ));
        let dir = Scratch::new();
        assert!(!is_dev_null(File::create(dir.path().join("f")).unwrap()));
    }

    #[test]
    fn every_line_is_a_datagram_and_a_new_listener_is_found() {
        let dir = Scratch::new();
        let path = dir.path().join("log");
        let mut syslog = Syslog::at(&path);
        syslog.write_all(b"nobody listens\n").unwrap();
        for _ in 0..2 {
            let listener = UnixDatagram::bind(&path).unwrap();
            syslog.write_all(b"<30>vip[1]: a\n<30>vip[1]: b\n").unwrap();
            let mut seen = [0; 64];
            for text in ["<30>vip[1]: a", "<30>vip[1]: b"] {
                let n = listener.recv(&mut seen).unwrap();
                assert_eq!(&seen[..n], text.as_bytes());
            }
            drop(listener);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_listener_that_does_not_read_holds_nobody() {
        let dir = Scratch::new();
        let path = dir.path().join("log");
        let _listener = UnixDatagram::bind(&path).unwrap();
        let watch = Stopwatch::start();
        let mut syslog = Syslog::at(&path);
        for _ in 0..10_000 {
            syslog.write_all(b"<30>vip[1]: a\n").unwrap();
        }
        assert!(watch.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_pipe_that_nobody_reads_holds_nobody_and_is_tried_again() {
        let (mut reader, stream) = io::pipe().unwrap();
        let mut patient = Patient {
            stream,
            patience: PATIENCE,
        };
        let watch = Stopwatch::start();
        for _ in 0..1000 {
            patient.write_all(&[b'x'; 1000]).unwrap();
        }
        assert!(watch.elapsed() < Duration::from_secs(2));
        let mut read = [0; 1 << 17];
        assert!(io::Read::read(&mut reader, &mut read).unwrap() > PIPE_BUF);
        patient.write_all(b"back\n").unwrap();
        let n = io::Read::read(&mut reader, &mut read).unwrap();
        assert!(read[..n].ends_with(b"back\n"));
    }

    #[test]
    fn severities_are_those_of_syslog() {
        assert_eq!(priority(Level::Error), 27);
        assert_eq!(priority(Level::Warn), 28);
        assert_eq!(priority(Level::Info), 30);
    }
}
