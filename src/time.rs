//! The one clock and the one way to wait: every wait has a deadline and can be interrupted.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the file that reads the clock and sleeps"
)]

use std::cell::Cell;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Kind, Result};

/// How long a wait may go on before it looks whether it was interrupted.
const SLICE: Duration = Duration::from_millis(20);

/// Asked during every wait; an error ends the wait with that error.
pub type Watch = Rc<dyn Fn() -> Result<()>>;

/// A point on the monotonic clock, shared by everything that works for one invocation.
///
/// Clones are the same deadline: [`Deadline::renew`] on one gives all of them new time.
#[derive(Clone)]
pub struct Deadline {
    started: Instant,
    shared: Rc<Shared>,
    /// A bound of this clone alone, never later than the shared one.
    own: Option<Instant>,
}

struct Shared {
    at: Cell<Instant>,
    watch: Cell<Option<Watch>>,
    /// When the watch was last asked, or set.
    asked: Cell<Instant>,
}

impl Deadline {
    /// A deadline `limit` from now.
    pub fn after(limit: Duration) -> Self {
        let started = Instant::now();
        Deadline {
            started,
            shared: Rc::new(Shared {
                at: Cell::new(started + limit),
                watch: Cell::new(None),
                asked: Cell::new(started),
            }),
            own: None,
        }
    }

    /// From now on every wait on this deadline asks `watch` at least every 20 ms.
    pub fn watched_by(&self, watch: Watch) {
        self.shared.watch.set(Some(watch));
    }

    /// The same deadline, but no later than `limit` from now.
    pub fn at_most(&self, limit: Duration) -> Self {
        let bound = Instant::now() + limit;
        Deadline {
            own: Some(self.own.map_or(bound, |own| own.min(bound))),
            ..self.clone()
        }
    }

    /// Gives every clone `limit` from now and stops asking the watch.
    ///
    /// For undo: a rollback cut short leaves more damage than none.
    pub fn renew(&self, limit: Duration) {
        self.shared.at.set(Instant::now() + limit);
        self.shared.watch.set(None);
    }

    /// Time left; zero when it has passed.
    pub fn left(&self) -> Duration {
        let shared = self.shared.at.get();
        let at = self.own.map_or(shared, |own| own.min(shared));
        at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// Time since the deadline was made: since the invocation began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Asks the watch now.
    ///
    /// # Errors
    /// What the watch says: SIGTERM arrived, or a newer state change overtook this run.
    pub fn ask_watch(&self) -> Result<()> {
        self.shared.asked.set(Instant::now());
        let watch = self.shared.watch.take();
        let answer = watch.as_ref().map_or(Ok(()), |watch| watch());
        self.shared.watch.set(watch);
        answer
    }

    /// How long a wait may go on before the watch is asked again. To ask costs some system calls,
    /// more than many an answer does that is waited for.
    fn until_watch(&self) -> Duration {
        SLICE.saturating_sub(self.shared.asked.get().elapsed())
    }

    /// Waits for `pause`, or until the deadline if that is sooner.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when the deadline has passed, or what the watch says.
    pub fn pause(&self, pause: Duration) -> Result<()> {
        let until = self.at_most(pause);
        loop {
            self.ask_watch()?;
            if self.passed() {
                return Err(Error::new(Kind::Timeout, "out of time"));
            }
            let left = until.left();
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    /// Waits until `fd` is ready for `events`.
    ///
    /// # Errors
    /// [`Kind::Timeout`] when the deadline passes first, or what the watch says.
    pub fn ready(&self, fd: BorrowedFd<'_>, events: PollFlags) -> Result<()> {
        let ready = self.any_ready(&[fd], events)?;
        if ready.is_empty() {
            return Err(Error::new(Kind::Timeout, "no answer in time"));
        }
        Ok(())
    }

    /// Waits until one of `fds` is ready for `events`; gives the places of those that are, none
    /// when the deadline passes first.
    ///
    /// # Errors
    /// What the watch says, or [`Kind::Bug`] when the kernel refuses to poll.
    pub fn any_ready(&self, fds: &[BorrowedFd<'_>], events: PollFlags) -> Result<Vec<usize>> {
        let mut polled: Vec<PollFd> = fds.iter().map(|fd| PollFd::new(*fd, events)).collect();
        loop {
            if self.until_watch().is_zero() {
                self.ask_watch()?;
            }
            let left = self.left();
            let slice = if self.is_watched() {
                left.min(self.until_watch())
            } else {
                left
            };
            // Rounded up: a poll of 0 ms with time left would spin.
            let millis = slice.as_micros().div_ceil(1000).min(60_000) as u16;
            match poll(&mut polled, PollTimeout::from(millis)) {
                Ok(0) if self.passed() => return Ok(Vec::new()),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => {
                    let ready = |fd: &PollFd| fd.revents().is_some_and(|r| !r.is_empty());
                    return Ok((0..polled.len()).filter(|i| ready(&polled[*i])).collect());
                }
                Err(errno) => return Err(Error::new(Kind::Bug, "poll").because(errno)),
            }
        }
    }

    fn is_watched(&self) -> bool {
        let watch = self.shared.watch.take();
        let watched = watch.is_some();
        self.shared.watch.set(watch);
        watched
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadline({:?} left)", self.left())
    }
}

/// The wall clock as RFC 3339 with milliseconds, for people and journals; never for deciding.
pub fn now_rfc3339() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// The wall clock in ms since 1970, for names; never for deciding.
pub fn unix_millis() -> u128 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis())
}

/// A stopwatch on the monotonic clock.
#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Stopwatch(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_clone_bounded_more_tightly_does_not_bound_the_others() {
        let whole = Deadline::after(Duration::from_secs(60));
        let part = whole.at_most(Duration::from_millis(1));
        part.pause(Duration::from_secs(1)).unwrap_err();
        assert!(part.passed());
        assert!(!whole.passed());
    }

    #[test]
    fn renewal_reaches_clones_and_silences_the_watch() {
        let deadline = Deadline::after(Duration::ZERO);
        deadline.watched_by(Rc::new(|| Err(Error::new(Kind::Overtaken, "SIGTERM"))));
        let clone = deadline.clone();
        assert_eq!(clone.ask_watch().unwrap_err().kind(), Kind::Overtaken);
        deadline.renew(Duration::from_secs(60));
        clone.ask_watch().unwrap();
        assert!(!clone.passed());
    }

    #[test]
    fn waiting_for_a_silent_socket_ends_at_the_deadline() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let watch = Stopwatch::start();
        let error = Deadline::after(Duration::from_millis(30))
            .ready(ours.as_fd(), PollFlags::POLLIN)
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert!(watch.elapsed() >= Duration::from_millis(30));
        assert!(watch.elapsed() < Duration::from_secs(1));
    }
}
