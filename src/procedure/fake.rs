//! A server that exists only in memory, and fails when it is told to.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use crate::db::dialect::Version;
use crate::db::{
    Channel, Database, Event, EventStatus, Gtids, Halted, History, Identity, Position, Receiver,
    Seen, SemiSync, Side, Source, State, Thread, Writes,
};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;

mod link;

pub use link::FakeLink;

/// Everything about a server that a procedure can see or change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub id: u32,
    pub writes: Writes,
    pub channel: Option<Channel>,
    pub sessions: Vec<u64>,
    pub history: Option<History>,
    pub written: Option<Position>,
    pub semi_sync: SemiSync,
    pub events: bool,
    pub scheduled: Vec<Event>,
    pub locked: Vec<String>,
    /// `gtid_slave_pos`; what it has otherwise is in `history`.
    pub gtid_position: String,
}

impl World {
    /// A replica with `unapplied` bytes in its relay log; each look at it applies ten of them.
    pub fn replica(unapplied: u64) -> World {
        let at = |offset| Position {
            file: "b.000001".to_owned(),
            offset,
        };
        World {
            id: 2,
            writes: Writes::Closed,
            channel: Some(Channel {
                name: String::new(),
                source: "10.0.0.11:3306".to_owned(),
                source_id: 1,
                receiver: Receiver::Connected,
                applying: true,
                received: at(1000),
                applied: at(1000 - unapplied),
                relay: at(4),
                fragile: false,
                retrieved_gtids: String::new(),
                lag: Some(0),
                applier_error: None,
                receiver_error: None,
            }),
            sessions: vec![],
            history: None,
            written: None,
            semi_sync: SemiSync::default(),
            events: false,
            scheduled: vec![],
            locked: vec![],
            gtid_position: String::new(),
        }
    }

    pub fn primary() -> World {
        World {
            id: 2,
            writes: Writes::Open,
            channel: None,
            sessions: vec![7, 8],
            history: None,
            written: None,
            semi_sync: SemiSync::default(),
            events: false,
            scheduled: vec![],
            locked: vec![],
            gtid_position: String::new(),
        }
    }

    fn state(&self) -> State {
        State {
            server_id: self.id,
            writes: self.writes,
            has_super_read_only: false,
        }
    }

    pub fn unapplied(&self) -> u64 {
        self.channel
            .as_ref()
            .map_or(0, |c| c.received.offset - c.applied.offset)
    }
}

/// How the call that fails does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It has no effect.
    Before,
    /// It has its effect, and the answer is lost.
    After,
    /// It has no effect, and this run is to end.
    Interrupted,
}

/// A server in memory. It insists on the invariants of promotion.
pub struct Fake {
    pub world: RefCell<World>,
    pub calls: Cell<usize>,
    seems_idle: bool,
    fail: Option<(usize, Failure)>,
    /// From which call on nobody answers any more.
    dies_at: usize,
}

impl Fake {
    pub fn new(world: World) -> Fake {
        Fake {
            world: RefCell::new(world),
            calls: Cell::new(0),
            seems_idle: false,
            fail: None,
            dies_at: usize::MAX,
        }
    }

    /// Answers `calls` times and never again.
    pub fn dying(world: World, calls: usize) -> Fake {
        Fake {
            dies_at: calls,
            ..Fake::new(world)
        }
    }

    /// Fails once, at the `call`th call, counted from 0.
    pub fn failing(world: World, call: usize, how: Failure) -> Fake {
        Fake {
            fail: Some((call, how)),
            ..Fake::new(world)
        }
    }

    /// Looks as if its appliers had nothing to do, whatever they have.
    pub fn seeming_idle(world: World) -> Fake {
        Fake {
            seems_idle: true,
            ..Fake::new(world)
        }
    }

    fn call<T>(&self, work: impl FnOnce(&mut World) -> T) -> Result<T> {
        let call = self.calls.replace(self.calls.get() + 1);
        let lost = || Error::new(Kind::Unreachable, "the connection broke");
        match self.fail {
            _ if call >= self.dies_at => Err(lost()),
            Some((at, Failure::Before)) if at == call => Err(lost()),
            Some((at, Failure::After)) if at == call => {
                work(&mut self.world.borrow_mut());
                Err(lost())
            }
            Some((at, Failure::Interrupted)) if at == call => Err(interrupted()),
            _ => Ok(work(&mut self.world.borrow_mut())),
        }
    }
}

fn interrupted() -> Error {
    Error::new(Kind::Overtaken, "SIGTERM arrived")
}

impl Database for Fake {
    fn name(&self) -> String {
        "db".to_owned()
    }

    fn state(&self) -> Result<State> {
        self.call(|world| world.state())
    }

    fn channels(&self) -> Result<Vec<Channel>> {
        self.call(|world| world.channel.clone().into_iter().collect())
    }

    fn see(&self) -> Result<Seen> {
        self.call(|world| Seen {
            state: world.state(),
            channels: world.channel.clone().into_iter().collect(),
            history: world.history.clone(),
            semi_sync: world.semi_sync.clone(),
        })
    }

    fn unapplied(&self, channel: &Channel) -> Result<Option<String>> {
        self.call(|world| {
            let left = channel.received.offset - channel.applied.offset;
            if let Some(channel) = world.channel.as_mut().filter(|c| c.applying) {
                channel.applied.offset += left.min(10);
            }
            (left > 0).then(|| format!("{left} bytes behind"))
        })
    }

    fn seems_idle(&self) -> Result<bool> {
        self.call(|_| self.seems_idle)
    }

    fn hear(&self, _: &str, _: Duration) -> Result<bool> {
        self.call(|_| false)
    }

    fn history(&self) -> Result<Option<History>> {
        self.call(|world| world.history.clone())
    }

    fn written(&self) -> Result<Option<Position>> {
        self.call(|world| world.written.clone())
    }

    fn identity(&self) -> Result<Identity> {
        self.call(|world| {
            let history = world.history.clone().unwrap_or_default();
            Identity {
                version: Version::parse("10.11.6-MariaDB"),
                uuid: None,
                binary_log: Some("binlog".to_owned()),
                gtids: Gtids::Positions {
                    current: history.newest(world.id),
                    history,
                    received: world.gtid_position.clone(),
                    strict: true,
                },
            }
        })
    }

    fn gtids_beyond(&self, _: &str, _: &str) -> Result<String> {
        self.call(|_| String::new())
    }

    fn set_gtid_position(&self, position: &str) -> Result<Changed> {
        self.call(|world| {
            let runs = |c: &Channel| c.applying || c.receiver != Receiver::Stopped;
            assert!(
                !world.channel.as_ref().is_some_and(runs),
                "the server refuses this while a thread runs"
            );
            world.gtid_position = position.to_owned();
            Changed::Yes
        })
    }

    fn set_source(&self, _: &str, source: &Source<'_>) -> Result<Changed> {
        self.call(|world| {
            assert_ne!(world.writes, Writes::Open, "a replica that takes writes");
            let fresh = World::replica(0).channel;
            world.channel = fresh.map(|channel| Channel {
                source: source.name(),
                source_id: 3,
                receiver: Receiver::Stopped,
                applying: false,
                ..channel
            });
            Changed::Yes
        })
    }

    fn set_thread(&self, thread: Thread, _: &str, run: bool) -> Result<Changed> {
        self.call(|world| {
            let Some(channel) = world.channel.as_mut() else {
                return Changed::AlreadySo;
            };
            let was = match thread {
                Thread::Receiver => channel.receiver != Receiver::Stopped,
                Thread::Applier => channel.applying,
            };
            match thread {
                Thread::Applier => channel.applying = run,
                Thread::Receiver if run => channel.receiver = Receiver::Connected,
                Thread::Receiver => channel.receiver = Receiver::Stopped,
            }
            if was == run {
                Changed::AlreadySo
            } else {
                Changed::Yes
            }
        })
    }

    fn halt(&self, thread: Thread, channel: &Channel) -> Result<Halted> {
        let changed = self.set_thread(thread, &channel.name, false)?;
        Ok(Halted {
            changed,
            channels: self.channels()?,
            history: self.history()?,
        })
    }

    fn let_go(&self, channel: &Channel) -> Result<Halted> {
        self.halt(Thread::Receiver, channel)
    }

    fn forget_source(&self, _: &str) -> Result<Changed> {
        self.call(|world| {
            let channel = world.channel.take();
            assert!(
                channel.is_none_or(|c| !c.applying && c.receiver == Receiver::Stopped),
                "the server refuses this while a thread runs"
            );
            Changed::Yes
        })
    }

    fn open_writes(&self) -> Result<Changed> {
        self.call(|world| {
            assert_eq!(
                world.unapplied(),
                0,
                "writable before everything is applied"
            );
            world.writes = Writes::Open;
            Changed::Yes
        })
    }

    fn close_writes(&self, _: Duration, _: &[String]) -> Result<Changed> {
        self.call(|world| {
            world.writes = Writes::Closed;
            Changed::Yes
        })
    }

    fn sessions(&self, _: &[String]) -> Result<Vec<u64>> {
        self.call(|world| world.sessions.clone())
    }

    fn remaining(&self, ids: &[u64]) -> Result<usize> {
        self.call(|world| {
            let there = world.sessions.iter();
            there.filter(|id| ids.contains(id)).count()
        })
    }

    fn end_sessions(&self, ids: &[u64], _: Duration) -> Result<Changed> {
        self.call(|world| {
            assert_eq!(
                world.writes,
                Writes::Closed,
                "sessions end before writes are closed"
            );
            world.sessions.retain(|id| !ids.contains(id));
            Changed::Yes
        })
    }

    fn transactions(&self, _: &[String]) -> Result<Vec<String>> {
        self.call(|_| vec![])
    }

    fn semi_sync(&self) -> Result<SemiSync> {
        self.call(|world| world.semi_sync.clone())
    }

    fn semi_sync_statement(&self, side: Side, on: bool) -> Result<Option<String>> {
        Ok(Some(format!("SET GLOBAL semi-sync {side:?} = {on}")))
    }

    fn set_semi_sync(&self, side: Side, on: bool) -> Result<Changed> {
        self.call(|world| {
            let is = match side {
                Side::Source => &mut world.semi_sync.source,
                Side::Replica => &mut world.semi_sync.replica,
            };
            let changed = is.is_some_and(|is| is != on);
            *is = is.map(|_| on);
            let semi = &mut world.semi_sync;
            if changed && side == Side::Source {
                semi.waits = on && (semi.waits_for_nobody || semi.first_waits);
            }
            changed_if(changed)
        })
    }

    fn begin_semi_sync(&self) -> Result<Changed> {
        self.call(|world| {
            assert_eq!(world.writes, Writes::Open, "it writes to the binary log");
            world.semi_sync.waits = false;
            changed_if(world.semi_sync.source.replace(true) == Some(false))
        })
    }

    fn wait_for_nobody(&self, wait: bool) -> Result<Changed> {
        self.call(|world| {
            let was = std::mem::replace(&mut world.semi_sync.waits_for_nobody, wait);
            changed_if(was != wait)
        })
    }

    fn runs_events(&self) -> Result<bool> {
        self.call(|world| world.events)
    }

    fn set_events(&self, run: bool) -> Result<Changed> {
        self.call(|world| {
            let was = std::mem::replace(&mut world.events, run);
            changed_if(was != run)
        })
    }

    fn events(&self) -> Result<Vec<Event>> {
        self.call(|world| world.scheduled.clone())
    }

    fn enable_event(&self, event: &Event) -> Result<Changed> {
        self.call(|world| {
            let mut known = world.scheduled.iter_mut();
            let it = known.find(|known| known.name == event.name);
            it.map_or(Changed::AlreadySo, |it| {
                it.status = EventStatus::Enabled;
                Changed::Yes
            })
        })
    }

    fn account_is_locked(&self, account: &str) -> Result<bool> {
        self.call(|world| world.locked.iter().any(|known| known == account))
    }

    fn set_account_lock(&self, account: &str, locked: bool) -> Result<Changed> {
        self.call(|world| {
            let was = world.locked.iter().any(|known| known == account);
            world.locked.retain(|known| known != account);
            if locked {
                world.locked.push(account.to_owned());
            }
            changed_if(was != locked)
        })
    }
}

fn changed_if(changed: bool) -> Changed {
    match changed {
        true => Changed::Yes,
        false => Changed::AlreadySo,
    }
}
