//! The [`Database`] that is a real server.

mod accounts;
mod bell;
mod channel;
mod closing;
mod events;
mod look;
mod relay_log;
mod replica;
mod semisync;
mod sessions;
mod source;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use self::accounts::Account;
use self::bell::Bell;
use self::channel::{number, position, read_channels};
use self::look::{STATE, read_state};
use self::relay_log::Reading;
use self::replica::{Until, WAY_OUT};
use self::sessions::kill_one;
use super::dialect::{Dialect, Flavor, Thread, Version, quote};
use super::endpoint::Endpoint;
use super::session::{Answer, Session};
use super::{
    Channel, Database, Event, Halted, History, Identity, Position, Receiver, Seen, SemiSync, Side,
    Source, State, Writes,
};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;
use crate::secret::Login;
use crate::time::{Deadline, Stopwatch};

/// Login: no such account, or not by this password.
const ACCESS_DENIED: u16 = 1045;

/// How long it may take to put back what only gave way for a moment, when time is up.
const PUT_BACK_LIMIT: Duration = Duration::from_secs(1);

/// A server reached by a session that is opened when it is first needed, and opened again after
/// it broke.
pub struct Server {
    endpoint: Endpoint,
    login: Login,
    deadline: Deadline,
    /// Bounds every single deed or question, within the deadline.
    patience: Option<Duration>,
    session: RefCell<Option<Session>>,
    /// A session that was left with a statement still running in it. It must not take effect
    /// later: a client that goes away does not cancel what it asked for.
    abandoned: Cell<Option<u32>>,
    still: RefCell<Option<(Position, Stopwatch)>>,
    bell: RefCell<Bell>,
    /// How far a relay log was read: an applier at work is not to be slowed down by reading it again.
    reading: RefCell<Option<Reading>>,
    /// Pages of the relay log that were asked for when the receiver was stopped, for the next look.
    pages: RefCell<VecDeque<(String, Result<Answer>)>>,
}

impl Server {
    /// A server that is not connected to yet.
    pub fn new(endpoint: Endpoint, login: Login, deadline: Deadline) -> Server {
        Server {
            endpoint,
            login,
            deadline,
            patience: None,
            session: RefCell::new(None),
            abandoned: Cell::new(None),
            still: RefCell::new(None),
            bell: RefCell::default(),
            reading: RefCell::default(),
            pages: RefCell::default(),
        }
    }

    /// The same server, each deed or question of which may take no longer than `patience`.
    pub fn patient(mut self, patience: Duration) -> Server {
        self.patience = Some(patience);
        self
    }

    fn time(&self) -> Deadline {
        match self.patience {
            Some(patience) => self.deadline.at_most(patience),
            None => self.deadline.clone(),
        }
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// What [`Session::open`] and [`Session::ask`] say, with the statement.
    pub fn ask(&self, sql: &str) -> Result<Answer> {
        self.with_session(|session| session.ask(sql).map_err(|e| e.during(sql)))
    }

    /// Runs one statement that must be answered within `patience`.
    ///
    /// # Errors
    /// As [`Server::ask`]; [`Kind::Timeout`] when the answer has not begun by then.
    pub fn ask_within(&self, sql: &str, patience: Duration) -> Result<Answer> {
        let ask = |session: &mut Session| {
            session.send(sql)?;
            match session.answers_within(patience)? {
                true => session.answer(),
                false => {
                    let what = format!("no answer in {} ms", patience.as_millis());
                    Err(Error::new(Kind::Timeout, what))
                }
            }
        };
        self.with_session(|session| ask(session).map_err(|e| e.during(sql)))
    }

    /// What the server says it is.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn version(&self) -> Result<Version> {
        self.with_session(|session| Ok(Version::parse(session.version())))
    }

    /// How long it has been up.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn uptime(&self) -> Result<Duration> {
        let answer = self.ask("SHOW GLOBAL STATUS LIKE 'Uptime'")?;
        let seconds = answer.first().and_then(|row| row.at(1)?.parse().ok());
        Ok(Duration::from_secs(seconds.unwrap_or(0)))
    }

    /// Whether a statement can say how it starts: SET PERSIST, from MySQL 8.0 on.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn can_persist(&self) -> Result<bool> {
        let version = self.version()?;
        Ok(version.flavor == Flavor::MySql && version.number >= (8, 0, 0))
    }

    /// Lets it start closed from now on, to privileged accounts as well; it has to be closed now.
    ///
    /// # Errors
    /// The server's, also where it has no such statement.
    pub fn persist_closed(&self) -> Result<Changed> {
        let answer = self.ask(
            "SELECT VARIABLE_VALUE FROM performance_schema.persisted_variables \
             WHERE VARIABLE_NAME = 'super_read_only'",
        )?;
        if answer.first().and_then(|row| row.at(0)) == Some("ON") {
            return Ok(Changed::AlreadySo);
        }
        self.ask("SET PERSIST super_read_only = 1")
            .map(|_| Changed::Yes)
    }

    fn dialect(&self) -> Result<&'static Dialect> {
        self.version().map(|version| version.dialect())
    }

    fn with_session<T>(&self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let mut session = self.take_session()?;
        let result = work(&mut session);
        match &result {
            Err(error) if error.server_code().is_none() => self.abandoned.set(Some(session.id())),
            _ => self.keep(session),
        }
        result
    }

    fn take_session(&self) -> Result<Session> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open()?,
        };
        session.end_at(self.time());
        Ok(session)
    }

    fn keep(&self, session: Session) {
        if let Some(other) = self.session.replace(Some(session)) {
            other.quit();
        }
    }

    fn open(&self) -> Result<Session> {
        let mut session = self.log_in()?;
        // Numbers grow as long as a server runs. One that was started anew has forgotten the
        // statement, and gives its number to somebody else, or to this session itself.
        let is_of_this_server = |id: &u32| *id < session.id();
        if let Some(id) = self.abandoned.take().filter(is_of_this_server) {
            kill_one(&mut session, id)?;
        }
        Ok(session)
    }

    fn log_in(&self) -> Result<Session> {
        let first = Session::open(&self.endpoint, &self.login, &self.time());
        match (&first, &self.login.otherwise) {
            (Err(error), Some(password)) if error.server_code() == Some(ACCESS_DENIED) => {
                let login = Login {
                    password: password.clone(),
                    otherwise: None,
                    ..self.login.clone()
                };
                Session::open(&self.endpoint, &login, &self.time())
            }
            _ => first,
        }
    }

    /// Asks for what only gave way for a moment, also when the run is told to end meanwhile, or out of
    /// time.
    fn put_back(&self, sql: &str) -> Result<()> {
        let put_back = self.ask(sql).or_else(|_| {
            let (endpoint, login) = (self.endpoint.clone(), self.login.clone());
            Server::new(endpoint, login, Deadline::after(PUT_BACK_LIMIT)).ask(sql)
        });
        put_back.map(drop)
    }

    fn variables(&self, names: &[&str]) -> Result<Variables> {
        self.ask(&variables_question(names)).map(Variables)
    }

    fn channel(&self, name: &str) -> Result<Option<Channel>> {
        Ok(self.channels()?.into_iter().find(|c| c.name == name))
    }

    /// The same server by a session of its own.
    pub fn another(&self) -> Server {
        let (endpoint, login) = (self.endpoint.clone(), self.login.clone());
        let mut another = Server::new(endpoint, login, self.deadline.clone());
        another.patience = self.patience;
        another
    }
}

impl Drop for Server {
    /// A connection that is not ended by goodbye counts as aborted (`Aborted_clients`).
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.quit();
        }
    }
}

impl Database for Server {
    fn name(&self) -> String {
        self.endpoint.to_string()
    }

    fn state(&self) -> Result<State> {
        Ok(read_state(&self.variables(&STATE)?))
    }

    fn see(&self) -> Result<Seen> {
        self.look()
    }

    fn channels(&self) -> Result<Vec<Channel>> {
        let version = self.version()?;
        let answer = self.ask(version.dialect().replica_status)?;
        Ok(read_channels(version, &answer))
    }

    fn unapplied(&self, channel: &Channel) -> Result<Option<String>> {
        self.unapplied_of(channel)
    }

    fn seems_idle(&self) -> Result<bool> {
        self.appliers_seem_idle()
    }

    fn hear(&self, channel: &str, patience: Duration) -> Result<bool> {
        self.listen(channel, patience)
    }

    fn history(&self) -> Result<Option<History>> {
        self.look_at_history()
    }

    fn written(&self) -> Result<Option<Position>> {
        let answer = self.ask(self.dialect()?.binlog_status)?;
        Ok(answer.first().map(|row| position(row, "File", "Position")))
    }

    fn identity(&self) -> Result<Identity> {
        self.look_at_identity()
    }

    fn gtids_beyond(&self, set: &str, other: &str) -> Result<String> {
        self.subtract(set, other)
    }

    fn set_gtid_position(&self, position: &str) -> Result<Changed> {
        let sql = format!("SET GLOBAL gtid_slave_pos = {}", quote(position));
        self.ask(&sql).map(|_| Changed::Yes)
    }

    fn set_source(&self, channel: &str, source: &Source<'_>) -> Result<Changed> {
        self.change_source(channel, source).map(|()| Changed::Yes)
    }

    fn set_thread(&self, thread: Thread, channel: &str, run: bool) -> Result<Changed> {
        let Some(before) = self.channel(channel)? else {
            return Ok(Changed::AlreadySo);
        };
        if !run {
            return self
                .stop(thread, &before, Until::Ended)
                .map(|halted| halted.changed);
        }
        self.pages.take();
        self.reading.take();
        // Also when it runs: it may be about to stop, if that was asked and not answered yet.
        self.ask(&self.dialect()?.start(thread, channel))?;
        Ok(match before.runs(thread) {
            true => Changed::AlreadySo,
            false => Changed::Yes,
        })
    }

    fn halt(&self, thread: Thread, channel: &Channel) -> Result<Halted> {
        self.stop(thread, channel, Until::Ended)
    }

    fn let_go(&self, channel: &Channel) -> Result<Halted> {
        self.stop(Thread::Receiver, channel, Until::NothingComes)
    }

    fn forget_source(&self, channel: &str) -> Result<Changed> {
        let Some(before) = self.channel(channel)? else {
            return Ok(Changed::AlreadySo);
        };
        let dialect = self.dialect()?;
        if before.applying || before.receiver != Receiver::Stopped {
            for thread in [Thread::Receiver, Thread::Applier] {
                self.ask_within(&dialect.stop(thread, channel), WAY_OUT)?;
            }
        }
        self.ask(&dialect.forget(channel)).map(|_| Changed::Yes)
    }

    fn open_writes(&self) -> Result<Changed> {
        let look = variables_question(&STATE);
        // Clears super_read_only with it (MySQL, WL#6799), and never waits for anybody.
        let open = "SET GLOBAL read_only = 0".to_owned();
        let [before, opened, after] = self.ask_all(&[look.clone(), open, look])?;
        opened?;
        let writes = |answer| Ok(read_state(&Variables(answer?)).writes);
        match (writes(before)?, writes(after)?) {
            (Writes::Open, Writes::Open) => Ok(Changed::AlreadySo),
            (_, Writes::Open) => Ok(Changed::Yes),
            (_, writes) => Err(
                Error::new(Kind::Refused, format!("still {writes:?} afterwards"))
                    .advise("look who else sets read_only on this server"),
            ),
        }
    }

    fn close_writes(&self, grace: Duration, spare: &[String]) -> Result<Changed> {
        self.close(grace, spare)
    }

    fn sessions(&self, spare: &[String]) -> Result<Vec<u64>> {
        self.of_applications(spare)
    }

    fn end_sessions(&self, ids: &[u64], limit: Duration) -> Result<Changed> {
        self.end_all(ids, limit)
    }

    fn remaining(&self, ids: &[u64]) -> Result<usize> {
        self.still_there(ids)
    }

    fn transactions(&self, spare: &[String]) -> Result<Vec<String>> {
        self.open_transactions(spare)
    }

    fn semi_sync(&self) -> Result<SemiSync> {
        self.look_at_semi_sync()
    }

    fn semi_sync_statement(&self, side: Side, on: bool) -> Result<Option<String>> {
        self.semi_sync_setting(side, "_enabled", on)
    }

    fn set_semi_sync(&self, side: Side, on: bool) -> Result<Changed> {
        self.set_semi_sync_variable(side, "_enabled", on)
    }

    fn begin_semi_sync(&self) -> Result<Changed> {
        self.begin_without_replicas()
    }

    fn wait_for_nobody(&self, wait: bool) -> Result<Changed> {
        self.set_wait_for_nobody(wait)
    }

    fn runs_events(&self) -> Result<bool> {
        self.scheduler_runs()
    }

    fn set_events(&self, run: bool) -> Result<Changed> {
        self.set_scheduler(run)
    }

    fn events(&self) -> Result<Vec<Event>> {
        self.all_events()
    }

    fn enable_event(&self, event: &Event) -> Result<Changed> {
        self.enable(event)
    }

    fn account_is_locked(&self, account: &str) -> Result<bool> {
        self.is_locked(&Account::read(account)?)
    }

    fn set_account_lock(&self, account: &str, locked: bool) -> Result<Changed> {
        let account = Account::read(account)?;
        match self.is_locked(&account)? == locked {
            true => Ok(Changed::AlreadySo),
            false => self.set_lock(&account, locked),
        }
    }
}

fn variables_question(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    let names = names.join(", ");
    format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
}

struct Variables(Answer);

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        let mut rows = self.0.rows();
        rows.find(|row| row.at(0) == Some(name))?.at(1)
    }

    fn number(&self, name: &str) -> u32 {
        self.get(name).and_then(|v| v.parse().ok()).unwrap_or(0)
    }
}
