//! What both hooks of MHA, and `undo`, start from: the servers of a switch and their hosts.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use hookbox::config::{Config, OnConflict, Unfenced};
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::db::{Database, State, Writes};
use hookbox::error::{Error, Kind, Result};
use hookbox::link::{Remote, Vip};
use hookbox::procedure::demote::Demotion;
use hookbox::procedure::establish::Address;
use hookbox::procedure::events;
use hookbox::run::{Changed, Mode, Outcome, Run};
use hookbox::secret::Login;
use hookbox::ssh::{Place, Shell};
use hookbox::switch::{Before, Lock, Reason, Record, Register, Side};
use hookbox::time::Deadline;

use crate::context::{Context, complain};
use crate::contract::{self, Caller};
use crate::mha_args::{Call, Order};

mod start;

pub use start::start;

/// How long whoever answers at a virtual address may take to say who it is.
const ANSWER: Duration = Duration::from_millis(300);

/// One call of MHA, and what it works with.
pub struct Site {
    /// Configuration and time.
    pub context: Context,
    /// What MHA wants, with the configuration applied.
    pub call: Call,
    /// Where the cluster's open switch is written down.
    pub register: Register,
}

/// Reads MHA's arguments and the configuration, lets `procedure` do it, and gives the exit status
/// that MHA understands.
pub fn main(
    name: &str,
    matches: &ArgMatches,
    caller: fn(Order, Unfenced) -> Caller,
    procedure: fn(&Site) -> Result<Outcome>,
) -> ExitCode {
    let mut who = Caller::Person;
    let outcome = Call::read(matches).and_then(|call| {
        let order = call.order;
        who = caller(order, Unfenced::Abort);
        let site = Site::new(name, matches, call)?;
        who = caller(order, site.context.config.mha.unfenced);
        procedure(&site)
    });
    contract::finish(who, outcome)
}

impl Site {
    fn new(name: &str, matches: &ArgMatches, call: Call) -> Result<Site> {
        let context = Context::new(name, matches, |config| config.mha.limit)?;
        context.give_way_to(None)?;
        let call = call.configured(&context.config)?;
        let register = Register::of(&context.config.paths);
        Ok(Site {
            context,
            call,
            register,
        })
    }

    /// The right to switch; None in a dry run, which holds up nobody.
    ///
    /// # Errors
    /// As [`Register::lock`].
    pub fn lock(&self) -> Result<Option<Lock>> {
        match self.context.mode {
            Mode::Real => self.register.lock(&self.context.deadline).map(Some),
            Mode::Dry => Ok(None),
        }
    }

    /// The server that is to follow.
    ///
    /// # Errors
    /// [`Kind::Usage`] when MHA did not name it.
    pub fn new_side(&self) -> Result<&Side> {
        self.call.new.as_ref().ok_or_else(|| {
            Error::new(Kind::Usage, "--new_master_host is missing")
                .advise("see --help; MHA itself passes it")
        })
    }

    /// The account on the old primary.
    ///
    /// # Errors
    /// [`Kind::Config`] when nobody says which.
    pub fn old_login(&self) -> Result<Login> {
        known(self.call.orig_login.clone())
    }

    /// The account on the new primary.
    ///
    /// # Errors
    /// As [`Site::old_login`].
    pub fn new_login(&self) -> Result<Login> {
        known(self.call.new_login.clone())
    }

    /// How writes are closed.
    pub fn closing(&self) -> Demotion<'_> {
        let Config { mha, demote, .. } = &self.context.config;
        Demotion {
            grace: mha.grace,
            spare: &demote.spare_users,
            resume: false,
        }
    }

    /// Whether a run before this one has put something away.
    pub fn has_begun(&self) -> bool {
        self.switch().is_some()
    }

    /// Writes down what was so before, for `undo`. A run that was cut short has done so already,
    /// and what it has put away since then is not how it was.
    ///
    /// # Errors
    /// When it cannot be asked or written.
    pub fn write_down(
        &self,
        run: &mut Run<'_>,
        reason: Reason,
        before: impl FnOnce() -> Result<Before>,
    ) -> Result<()> {
        let Call { orig, new, .. } = &self.call;
        let goes_on =
            |open: &Record| open.old.is(orig) && (open.reason, &open.new) == (reason, new);
        let open = self.register.open()?.filter(goes_on);
        if let Some(open) = open.as_ref().filter(|open| !open.put_away) {
            run.note(format!("goes on with the switch that began at {}", open.at));
            return Ok(());
        }
        let before = before()?;
        // One that takes writes again was put back by hand: it is not how that switch left it.
        if let Some(open) = open.filter(|_| before.old_writes != Some(Writes::Open)) {
            run.note(format!("goes on with the switch that began at {}", open.at));
            return Ok(());
        }
        let record = Record::new(reason, orig.clone(), new.clone(), before);
        run.act("write down what is so now", || {
            self.register.write(&record).map(|()| Changed::Yes)
        })
    }

    /// The same with what can be asked. A failover is not held up by a disk that is full.
    ///
    /// # Errors
    /// When it is told to end.
    pub fn write_down_if_possible(
        &self,
        run: &mut Run<'_>,
        reason: Reason,
        old: Option<&dyn Database>,
        addresses: &[Address<'_>],
    ) -> Result<()> {
        let before = || {
            Ok(Before {
                old_writes: old
                    .map(|db| db.state())
                    .transpose()?
                    .map(|state| state.writes),
                events: old.map(|db| db.runs_events()).transpose()?,
                enabled: old.and_then(events::enabled),
                vips: present(addresses)?,
                ..Before::default()
            })
        };
        match self.write_down(run, reason, before) {
            Err(error) if error.kind() == Kind::Overtaken => return Err(error),
            Err(error) => run.note(format!("undo will not be possible: {}", error.chain())),
            Ok(()) => {}
        }
        Ok(())
    }

    /// The switch from this old primary that is open, if there is one.
    pub fn switch(&self) -> Option<Record> {
        let open = self.register.open().ok().flatten();
        open.filter(|open| open.old.is(&self.call.orig))
    }

    /// What `stop` leaves behind: nothing if everything is as before, else the command that puts
    /// it back. `began_before` tells that a run before this one had put something away.
    pub fn after_stop(&self, outcome: &Outcome, began_before: bool) {
        let as_before = matches!(outcome, Outcome::Refused(_) | Outcome::RolledBack(_));
        if self.context.mode == Mode::Dry {
            return;
        }
        if let (Outcome::Done, Some(mut open)) = (outcome, self.switch()) {
            open.put_away = true;
            if let Err(error) = self.register.write(&open) {
                complain(&error);
            }
        }
        if as_before && !began_before {
            // A switch from another primary stays open.
            let is_ours = self.switch().is_some();
            if is_ours && let Err(error) = self.register.close() {
                complain(&error);
            }
        } else if matches!(self.register.open(), Ok(Some(_))) {
            let undo = self.context.command("undo");
            log::warn!("should MHA give up now: {undo}");
        }
    }

    /// The end of `start`: events run where the primary is, and the switch is no longer open. Only
    /// a server that takes writes ends it; until then `undo` is the way out.
    ///
    /// # Errors
    /// The first of what failed, `established` included.
    pub fn finish<'a>(
        &self,
        run: &mut Run<'a>,
        db: &'a dyn Database,
        before: &Before,
        established: Result<()>,
    ) -> Result<()> {
        if let Err(error) = &established
            && error.kind() == Kind::Overtaken
        {
            return established;
        }
        if run.is_dry() || !db.state().is_ok_and(|state| state.writes == Writes::Open) {
            return established;
        }
        let ran = before.events == Some(true);
        let started = events::start(run, db, ran, before.enabled.as_deref());
        let closed = run.act("the switch is finished", || self.register.close());
        established.and(started).and(closed)
    }

    /// Leaves a connection to `side` behind, which `start` in its own process will find ready.
    pub fn warm_up(&self, side: &Side) {
        let config = &self.context.config;
        if self.context.mode == Mode::Real {
            Shell::warm_up(&side.ssh, &config.ssh, &sockets(config));
        }
    }

    /// The same to every peer, one of which MHA will choose.
    pub fn warm_up_peers(&self) {
        let config = &self.context.config;
        let orig = &self.call.orig;
        for peer in config.peer.iter().filter(|peer| peer.host != orig.address) {
            let ssh = Place {
                name: peer.host.clone(),
                address: peer.host.clone(),
                port: None,
                ..orig.ssh.clone()
            };
            let side = Side {
                name: peer.host.clone(),
                address: peer.host.clone(),
                port: peer.port,
                ssh,
            };
            self.warm_up(&side.configured(config));
        }
    }
}

fn known(login: Option<Login>) -> Result<Login> {
    login.ok_or_else(|| {
        Error::new(Kind::Config, "MHA passed no account and none is configured")
            .advise("give [mha] user and one of defaults_file, password_file, password_env")
    })
}

fn sockets(config: &Config) -> PathBuf {
    config.paths.run.join("ssh")
}

/// The server of `side`.
pub fn server(context: &Context, side: &Side, login: Login) -> Server {
    let endpoint = Endpoint::Tcp(side.address.clone(), side.port);
    Server::new(endpoint, login, context.deadline.clone())
}

/// The virtual addresses of the primary, on the interface that they have on the host of `side`.
///
/// # Errors
/// [`Kind::Config`] when there are none and the configuration does not say that this is meant.
pub fn vips_on(config: &Config, side: &Side) -> Result<Vec<Vip>> {
    let vips = config.vips_of_primary()?;
    match (vips.is_empty(), config.mha.no_vip) {
        (true, false) => {
            return Err(Error::new(Kind::Config, "no virtual address is configured")
                .advise("set vip = [\"ADDRESS/PREFIX dev IF\"], or [mha] no_vip = true"));
        }
        (false, true) => {
            return Err(
                Error::new(Kind::Config, "both vip and [mha] no_vip are given")
                    .advise("take one of them away"),
            );
        }
        _ => {}
    }
    Ok(vips.iter().map(|vip| on_host(config, side, vip)).collect())
}

/// `vip` on the interfaces that it has on the host of `side`.
pub fn on_host(config: &Config, side: &Side, vip: &Vip) -> Vip {
    match side.host(config) {
        Some(host) => host.place(vip),
        None => vip.clone(),
    }
}

/// The host of `side`, if it has any of `vips`. Its login begins now and goes on beside whatever is
/// done next; it may take `connect`.
///
/// # Errors
/// [`Kind::Config`] when ssh's client cannot be started.
pub fn remote(
    context: &Context,
    side: &Side,
    vips: &[Vip],
    connect: Duration,
) -> Result<Option<Remote>> {
    if vips.is_empty() {
        return Ok(None);
    }
    let mut how = context.config.ssh.clone();
    how.connect = how.connect.min(connect);
    let sockets = sockets(&context.config);
    let mut network = context.config.network.clone();
    // Two hosts may have it: so it is configured.
    if context.config.mha.unfenced == Unfenced::Proceed && network.on_conflict == OnConflict::Refuse
    {
        network.on_conflict = OnConflict::Take;
    }
    let remote = Remote::open(&side.ssh, &how, Some(&sockets), &context.deadline)?;
    Ok(Some(remote.with(&network)))
}

/// `vips` on the host of `link`.
pub fn addresses_on<'a>(link: Option<&'a Remote>, vips: Vec<Vip>) -> Vec<Address<'a>> {
    let Some(link) = link else {
        return Vec::new();
    };
    vips.into_iter().map(|vip| Address { link, vip }).collect()
}

/// Asks whoever answers at `vip` who it is, by a session of its own each time.
///
/// # Errors
/// When nobody answers, or not in time.
pub fn ask_through(vip: &Vip, port: u16, login: &Login, deadline: &Deadline) -> Result<State> {
    let endpoint = Endpoint::Tcp(vip.address.to_string(), port);
    Server::new(endpoint, login.at_any_name(), deadline.at_most(ANSWER)).state()
}

/// The addresses that are on their host now.
///
/// # Errors
/// When the host cannot be asked.
pub fn present(addresses: &[Address<'_>]) -> Result<Vec<String>> {
    let mut there = Vec::new();
    for address in addresses {
        if address.link.has(&address.vip)? {
            there.push(address.vip.to_string());
        }
    }
    Ok(there)
}
