//! What every applet starts from: its configuration, its time, its journal, its servers.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use hookbox::config::{self, Config, Peer};
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::db::{Database, PeerState};
use hookbox::error::{Error, Kind, Result};
use hookbox::journal::Journal;
use hookbox::link::{Host, Vip};
use hookbox::procedure::demote::Demotion;
use hookbox::run::{Entry, Mark, Mode, Outcome, Run};
use hookbox::secret::Login;
use hookbox::time::Deadline;
use hookbox::turn::{Meeting, Wished};
use nix::sys::signal::Signal;
use signal_hook::flag;

use self::told::{log_entry, log_outcome};
use crate::asking::{Place, ask_all};

pub use self::told::{answer, complain, say};

mod told;

/// What every applet starts from.
pub struct Context {
    /// What it is called.
    pub applet: String,
    /// The instance's configuration.
    pub config: Config,
    /// Whether deeds are done or only named.
    pub mode: Mode,
    /// The end of this invocation.
    pub deadline: Deadline,
    /// As it was given on the command line.
    config_file: Option<PathBuf>,
    instance: Option<String>,
    server: OnceCell<Server>,
    peers: OnceCell<Vec<Asked>>,
    /// The number of a signal that has arrived, else 0.
    signal: OnceCell<Arc<AtomicUsize>>,
}

/// A peer and what it said of itself, or why it said nothing.
pub type Asked = (Server, Result<PeerState>);

/// The arguments that every applet takes.
pub fn arguments() -> [Arg; 2] {
    [
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("configuration [default: $HOOKBOX_CONFIG, else /etc/hookbox/hookbox.toml]"),
        Arg::new("instance")
            .long("instance")
            .value_name("NAME")
            .help("which [instance.NAME] of the configuration"),
    ]
}

/// The argument of every applet that changes anything.
pub fn dry_run() -> Arg {
    Arg::new("dry-run")
        .long("dry-run")
        .action(ArgAction::SetTrue)
        .help("ask everything, change nothing, say what would be done")
}

/// The argument of those that ask and end by themselves.
pub fn limit(default: &'static str, help: &'static str) -> Arg {
    Arg::new("limit")
        .long("limit")
        .value_name("TIME")
        .default_value(default)
        .value_parser(config::time_limit)
        .help(help)
}

/// Reads the configuration that `matches` names.
pub fn load(matches: &ArgMatches) -> Result<Config> {
    let path = matches.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let instance = matches.get_one::<String>("instance").map(String::as_str);
    config::load(path, instance)
}

impl Context {
    /// Reads the configuration; the invocation ends `limit` of it from now.
    ///
    /// # Errors
    /// [`Kind::Config`].
    pub fn new(
        applet: &str,
        matches: &ArgMatches,
        limit: impl FnOnce(&Config) -> Duration,
    ) -> Result<Context> {
        let config = load(matches)?;
        let dry = matches.try_get_one::<bool>("dry-run").ok().flatten() == Some(&true);
        Ok(Context {
            applet: applet.to_owned(),
            mode: if dry { Mode::Dry } else { Mode::Real },
            deadline: Deadline::after(limit(&config)),
            config_file: matches.get_one::<PathBuf>("config").cloned(),
            instance: matches.get_one::<String>("instance").cloned(),
            config,
            server: OnceCell::new(),
            peers: OnceCell::new(),
            signal: OnceCell::new(),
        })
    }

    /// From now on SIGTERM and SIGINT end the run at its next step, after undo; so does a younger
    /// process that wants the opposite of `wished`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn give_way_to(&self, newer: Option<(Meeting, Wished)>) -> Result<()> {
        // One for all calls: what came before the second is not lost.
        let arrived = self.signal.get_or_init(Arc::default).clone();
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            // Caught and not blocked: children inherit what is blocked, and a connection by ssh
            // that is kept would take no SIGTERM.
            flag::register_usize(signal as i32, arrived.clone(), signal as usize)
                .map_err(|error| Error::new(Kind::Bug, "watch for signals").because(error))?;
        }
        self.deadline.watched_by(Rc::new(move || {
            if let Ok(signal) = Signal::try_from(arrived.swap(0, Ordering::Relaxed) as i32) {
                return Err(Error::new(Kind::Overtaken, format!("{signal} arrived")));
            }
            match &newer {
                Some((meeting, wished)) => meeting.still_wanted(wished),
                None => Ok(()),
            }
        }));
        Ok(())
    }

    /// The server on this host.
    ///
    /// # Errors
    /// [`Kind::Config`] when its password cannot be had.
    pub fn server(&self) -> Result<&Server> {
        let login = Login::local(&self.config.mysql)?;
        let endpoint = local_endpoint(&self.config);
        Ok(self
            .server
            .get_or_init(|| Server::new(endpoint, login, self.deadline.clone())))
    }

    /// The configured peers that are not this host's own server: the same file may be on all hosts.
    pub fn others(&self) -> Vec<&Peer> {
        self.own_and_others().1
    }

    /// What `[[peer]]` says of this host's own server, if it is there, and of the others.
    pub fn own_and_others(&self) -> (Option<&Peer>, Vec<&Peer>) {
        let host = Host::open(&self.deadline);
        let is_here = |address| match &host {
            Ok(host) => host.holds(address).unwrap_or(false),
            Err(_) => false,
        };
        let is_own = |peer: &&Peer| {
            let address = peer.host.parse::<IpAddr>();
            peer.port == self.config.mysql.port && address.is_ok_and(is_here)
        };
        let (own, others): (Vec<_>, _) = self.config.peer.iter().partition(is_own);
        (own.first().copied(), others)
    }

    /// What this host may be called in the configuration, what it is best called first: by
    /// `[[peer]]`, or as it calls itself.
    pub fn own_names(&self) -> Vec<String> {
        let own = self.own_and_others().0;
        let by_peer = own.map(|own| [own.name().to_owned(), own.host.clone()]);
        let itself = nix::unistd::gethostname().ok();
        let itself = itself.and_then(|name| name.into_string().ok());
        by_peer.into_iter().flatten().chain(itself).collect()
    }

    /// `vips` on the interface that they have on this host.
    pub fn placed_here(&self, vips: Vec<Vip>) -> Vec<Vip> {
        let hosts = &self.config.host;
        if hosts.is_empty() {
            return vips;
        }
        let names = self.own_names();
        match names.iter().find_map(|name| hosts.get(name)) {
            Some(own) => vips.iter().map(|vip| own.place(vip)).collect(),
            None => vips,
        }
    }

    /// The other servers, all asked at the same time for at most `[promote] peer_limit`, while the
    /// server on this host is logged in to.
    ///
    /// # Errors
    /// [`Kind::Config`] when a password cannot be had.
    pub fn peers(&self) -> Result<&[Asked]> {
        let places = self.places(&Login::local(&self.config.mysql)?)?;
        let own = self.server()?;
        // A silent peer takes its time. If this fails it is told when something is asked.
        let log_in = || drop(own.version());
        Ok(self.peers.get_or_init(|| self.ask_peers(places, log_in)))
    }

    /// The same by an account that is not the one on this host; [`Context::peers`] then gives
    /// these answers too.
    ///
    /// # Errors
    /// As [`Context::peers`].
    pub fn peers_as(&self, usual: &Login) -> Result<&[Asked]> {
        let places = self.places(usual)?;
        Ok(self.peers.get_or_init(|| self.ask_peers(places, || ())))
    }

    /// Where [`Context::others`] are, and the accounts there: `usual` where nothing else is said.
    ///
    /// # Errors
    /// [`Kind::Config`] when a password cannot be had.
    pub fn places(&self, usual: &Login) -> Result<Vec<Place>> {
        let place = |peer: &Peer| {
            let endpoint = Endpoint::Tcp(peer.host.clone(), peer.port);
            Ok((endpoint, Login::on_peer(peer, usual)?))
        };
        self.others().into_iter().map(place).collect()
    }

    fn ask_peers(&self, places: Vec<Place>, meanwhile: impl FnOnce()) -> Vec<Asked> {
        let (seen, ()) = ask_all(&places, self.config.promote.peer_limit, see_peer, meanwhile);
        // Whoever was silent is only asked again, not closed.
        let patience = |seen: &Result<PeerState>| match seen {
            Err(error) if error.is_silence() => self.config.promote.peer_limit,
            _ => self.config.demote.limit,
        };
        places
            .into_iter()
            .map(|(endpoint, login)| Server::new(endpoint, login, self.deadline.clone()))
            .zip(seen)
            .map(|(server, seen)| (server.patient(patience(&seen)), seen))
            .collect()
    }

    /// What to type to run another applet with the same configuration.
    pub fn command(&self, applet: &str) -> String {
        let mut words = vec!["hookbox".to_owned(), applet.to_owned()];
        if let Some(path) = &self.config_file {
            words.extend(["--config".to_owned(), path.display().to_string()]);
        }
        if let Some(instance) = &self.instance {
            words.extend(["--instance".to_owned(), instance.clone()]);
        }
        words.join(" ")
    }

    /// How a server is closed for writes.
    pub fn demotion(&self) -> Demotion<'_> {
        let demote = &self.config.demote;
        Demotion {
            // A quarter of the time is for those who are writing, the rest for what must be done.
            grace: demote.grace.min(self.deadline.left() / 4),
            spare: &demote.spare_users,
            resume: false,
        }
    }

    /// Carries out `procedure`, telling log and journal.
    pub fn run<'a>(&'a self, procedure: impl FnOnce(&mut Run<'a>) -> Result<()>) -> Outcome {
        self.run_telling(|_| {}, procedure)
    }

    /// As [`Context::run`], also telling `listener`.
    pub fn run_telling<'a>(
        &'a self,
        listener: impl Fn(&Entry) + 'a,
        procedure: impl FnOnce(&mut Run<'a>) -> Result<()>,
    ) -> Outcome {
        // It says what was done.
        let journal = (self.mode == Mode::Real).then(|| Rc::new(self.journal()));
        journal.iter().for_each(|journal| journal.begin());
        let told = journal.clone();
        let observe = move |entry: &Entry| {
            told.iter().for_each(|journal| journal.step(entry));
            log_entry(entry);
            listener(entry);
        };
        let outcome = Run::new(self.deadline.clone(), self.mode, observe).carry_out(procedure);
        journal.iter().for_each(|journal| journal.end(&outcome));
        log_outcome(&outcome);
        outcome
    }

    fn journal(&self) -> Journal {
        Journal::open(
            &self.config.paths.journal,
            &self.applet,
            self.instance.as_deref(),
        )
    }
}

fn see_peer(peer: &Server) -> Result<PeerState> {
    peer.see().map(PeerState::from)
}

/// Starts hookbox with these `words` and the configuration of `matches`, detached from this process.
/// It has the same environment, since its passwords may be there.
///
/// # Errors
/// When the program cannot be started.
pub fn start_detached(matches: &ArgMatches, words: &[&str]) -> Result<()> {
    let mut program = Process::new("/proc/self/exe");
    program.arg0("hookbox").args(words);
    if let Some(path) = matches.get_one::<PathBuf>("config") {
        program.arg("--config").arg(path);
    }
    if let Some(instance) = matches.get_one::<String>("instance") {
        program.args(["--instance", instance]);
    }
    // Keepalived ends a check's whole process group.
    program
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = program.spawn().map(drop);
    let what = || format!("start hookbox {}", words.first().unwrap_or(&""));
    started.map_err(|error| Error::new(Kind::Bug, what()).because(error))
}

/// Where the server on this host listens.
pub fn local_endpoint(config: &Config) -> Endpoint {
    match &config.mysql.host {
        Some(host) => Endpoint::Tcp(host.clone(), config.mysql.port),
        None => Endpoint::Socket(config.mysql.socket.clone()),
    }
}

/// Writes `line` into the journal as what the check said, `at` so long after its start.
pub fn note_of_check(config: &Config, instance: Option<&str>, line: String, at: Duration) {
    Journal::open(&config.paths.journal, "check_mysql", instance).step(&Entry {
        at,
        mark: Mark::Note,
        step: line,
        note: None,
    });
}
