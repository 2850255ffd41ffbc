//! A host's network that exists only in memory, and fails when it is told to.

use std::cell::{Cell, RefCell};

use super::{Failure, changed_if, interrupted};
use crate::error::{Error, Kind, Result};
use crate::link::{Link, Vip};
use crate::run::Changed;

/// A host's network in memory.
pub struct FakeLink {
    pub vips: RefCell<Vec<Vip>>,
    pub calls: Cell<usize>,
    fail: Option<(usize, Failure)>,
    broken: bool,
}

impl FakeLink {
    pub fn without() -> FakeLink {
        FakeLink {
            vips: RefCell::new(vec![]),
            calls: Cell::new(0),
            fail: None,
            broken: false,
        }
    }

    pub fn with(vip: &Vip) -> FakeLink {
        FakeLink {
            vips: RefCell::new(vec![vip.clone()]),
            ..FakeLink::without()
        }
    }

    pub fn broken() -> FakeLink {
        FakeLink {
            broken: true,
            ..FakeLink::without()
        }
    }

    pub fn failing(self, call: usize, how: Failure) -> FakeLink {
        FakeLink {
            fail: Some((call, how)),
            ..self
        }
    }

    fn call<T>(&self, work: impl FnOnce(&mut Vec<Vip>) -> T) -> Result<T> {
        let call = self.calls.replace(self.calls.get() + 1);
        let lost = || Error::new(Kind::Unreachable, "the connection broke");
        match self.fail {
            _ if self.broken => Err(lost()),
            Some((at, Failure::Before)) if at == call => Err(lost()),
            Some((at, Failure::After)) if at == call => {
                work(&mut self.vips.borrow_mut());
                Err(lost())
            }
            Some((at, Failure::Interrupted)) if at == call => Err(interrupted()),
            _ => Ok(work(&mut self.vips.borrow_mut())),
        }
    }
}

impl Link for FakeLink {
    fn name(&self) -> String {
        "host".to_owned()
    }

    fn list(&self) -> Result<Vec<Vip>> {
        self.call(|vips| vips.clone())
    }

    fn has(&self, vip: &Vip) -> Result<bool> {
        self.call(|vips| vips.contains(vip))
    }

    fn ready(&self, _: &Vip) -> Result<()> {
        self.call(|_| ())
    }

    fn add_all(&self, vips: &[Vip]) -> Result<Changed> {
        self.call(|held| {
            let before = held.len();
            let missing = vips.iter().filter(|vip| !held.contains(vip));
            let missing: Vec<Vip> = missing.cloned().collect();
            held.extend(missing);
            changed_if(held.len() != before)
        })
    }

    fn del_all(&self, vips: &[Vip]) -> Result<Changed> {
        self.call(|held| {
            let before = held.len();
            held.retain(|known| !vips.contains(known));
            changed_if(held.len() != before)
        })
    }

    fn announce_all(&self, _: &[Vip]) -> Result<Changed> {
        self.call(|_| Changed::Yes)
    }
}
