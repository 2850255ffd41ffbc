//! The [`Database`] that is a real server.

mod accounts;
mod events;
mod replica;
mod source;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use self::accounts::Account;
use super::dialect::{Dialect, Flavor, Thread, Version, quote};
use super::endpoint::Endpoint;
use super::session::{Answer, AnswerRow, Session};
use super::{
    Channel, Database, Event, History, Identity, Position, Receiver, SemiSync, Side, Source, State,
    Writes,
};
use crate::error::{Error, Kind, Result};
use crate::run::Changed;
use crate::secret::Login;
use crate::time::{Deadline, Stopwatch};

/// Login: no such account, or not by this password.
const ACCESS_DENIED: u16 = 1045;

/// KILL: there is no such session; it has gone already.
const NO_SUCH_THREAD: u16 = 1094;

/// A variable that this server does not have.
const UNKNOWN_VARIABLE: u16 = 1193;

/// How often sessions in the way of read_only are ended again, since new ones may come.
const KILL_AGAIN: Duration = Duration::from_millis(200);

/// How long ending a statement of our own may take once time is up.
const CANCEL_LIMIT: Duration = Duration::from_millis(500);

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
    /// A place in the relay log from which on something can be applied: that does not change, and
    /// an applier at work on a large transaction is not to be slowed down by reading it with it.
    whole_from: RefCell<Option<Position>>,
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
            whole_from: RefCell::new(None),
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
        let mut slot = self.session.borrow_mut();
        let mut session = match slot.take() {
            Some(session) => session,
            None => self.open()?,
        };
        session.end_at(self.time());
        let result = work(&mut session);
        match &result {
            Err(error) if error.server_code().is_none() => self.abandoned.set(Some(session.id())),
            _ => *slot = Some(session),
        }
        result
    }

    fn open(&self) -> Result<Session> {
        let mut session = self.log_in()?;
        if let Some(id) = self.abandoned.take() {
            kill(&mut session, &[u64::from(id)])?;
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

    fn variables(&self, names: &[&str]) -> Result<Variables> {
        let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
        let sql = format!(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({})",
            names.join(", ")
        );
        self.ask(&sql).map(Variables)
    }

    fn writes(&self) -> Result<Writes> {
        self.state().map(|state| state.writes)
    }

    fn channel(&self, name: &str) -> Result<Option<Channel>> {
        Ok(self.channels()?.into_iter().find(|c| c.name == name))
    }

    /// Only with `gtid_mode = ON`: in the other modes transactions without GTID are written.
    fn mysql_history(&self) -> Result<Option<History>> {
        // Not SHOW VARIABLES, which cuts values off after 1024 characters.
        let sql = "SELECT @@GLOBAL.gtid_mode, @@GLOBAL.server_uuid, @@GLOBAL.gtid_executed";
        let answer = match self.ask(sql) {
            // Before MySQL 5.6.
            Err(e) if e.server_code() == Some(UNKNOWN_VARIABLE) => return Ok(None),
            answer => answer?,
        };
        let row = answer.first();
        let text = |place| row.and_then(|row| row.at(place)).unwrap_or_default();
        Ok(match text(0) {
            "ON" => History::of_sets(text(1), text(2)),
            _ => None,
        })
    }

    /// Sets a variable of semi-sync where this server has it, by whichever word.
    fn set_semi_sync_variable(&self, side: Side, what: &str, on: bool) -> Result<Changed> {
        let names = side
            .words()
            .map(|word| format!("rpl_semi_sync_{word}{what}"));
        let variables = self.variables(&[&names[0], &names[1]])?;
        let word = if on { "ON" } else { "OFF" };
        let to_set = names
            .iter()
            .find(|name| variables.get(name).is_some_and(|is| is != word));
        match to_set {
            Some(name) => self
                .ask(&format!("SET GLOBAL {name} = {word}"))
                .map(|_| Changed::Yes),
            None => Ok(Changed::AlreadySo),
        }
    }

    /// The same server by a session of its own.
    pub fn another(&self) -> Server {
        let (endpoint, login) = (self.endpoint.clone(), self.login.clone());
        let mut another = Server::new(endpoint, login, self.deadline.clone());
        another.patience = self.patience;
        another
    }

    /// How many commits wait for the acknowledgement of a semi-sync replica: "Waiting for semi-sync
    /// ACK from slave", or from replica.
    fn commits_without_acknowledgement(&self) -> Result<usize> {
        let sql = "SELECT ID FROM information_schema.PROCESSLIST \
                   WHERE STATE LIKE 'Waiting for semi-sync ACK%'";
        Ok(self.ask(sql)?.rows().count())
    }

    /// Sends `sql`, which waits for writers; ends their sessions when they outstay `grace`.
    fn outlast_writers(&self, sql: &str, grace: Duration, spare: &[String]) -> Result<()> {
        let helper = self.another();
        let time = self.time();
        let mut released = false;
        let ended = self.with_session(|session| {
            let own = u64::from(session.id());
            session.send(sql)?;
            let mut patience = grace;
            let mut refused = None;
            let mut waiting = 0;
            while !session.answers_within(patience)? {
                if time.passed() {
                    let why = refused.map_or(String::new(), |e: Error| format!(": {}", e.chain()));
                    let what = match waiting {
                        0 => format!("running writes do not end{why}"),
                        n => format!("{n} commits wait for a semi-sync replica{why}"),
                    };
                    return Err(Error::new(Kind::Timeout, what));
                }
                let in_the_way = helper.sessions(spare).map(|mut ids| {
                    ids.retain(|id| *id != own);
                    ids
                });
                match in_the_way.and_then(|ids| helper.end_sessions(&ids)) {
                    // Returned, it would pass for an answer to `sql`, which still runs.
                    Err(error) if error.server_code().is_some() => refused = Some(error),
                    ended => drop(ended?),
                }
                waiting = helper.commits_without_acknowledgement()?;
                // After their sessions, so that no client hears of a commit that no replica has.
                // Semi-sync's wait does not end with the session (MySQL, ReplSemiSyncMaster::commitTrx).
                if waiting > 0 && refused.is_none() && !released {
                    match helper.set_semi_sync(Side::Source, false) {
                        Err(error) if error.server_code().is_some() => refused = Some(error),
                        switched => released = switched? == Changed::Yes,
                    }
                }
                patience = KILL_AGAIN;
            }
            session.answer().map(drop)
        });
        if released && let Err(error) = helper.set_semi_sync(Side::Source, true) {
            log::warn!("semi-sync stays off on {}: {}", self.name(), error.chain());
        }
        if ended.is_err()
            && let Some(id) = self.abandoned.take()
        {
            // Or it takes effect whenever the writers are gone, long after this run.
            self.deadline.renew(CANCEL_LIMIT);
            if helper.end_sessions(&[u64::from(id)]).is_err() {
                let advice = format!("end session {id} there, or its {sql} may yet take effect");
                return ended.map_err(|e| e.advise(advice));
            }
        }
        ended.map_err(|e| e.during(sql))
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
        let variables = self.variables(&["read_only", "super_read_only", "server_id"])?;
        let super_read_only = variables.get("super_read_only");
        // MariaDB 12 has words for more than ON and OFF.
        let read_only = variables.get("read_only").unwrap_or("OFF");
        Ok(State {
            server_id: variables.number("server_id"),
            has_super_read_only: super_read_only.is_some(),
            // Both are asked: while SET super_read_only waits for writers MySQL already shows it
            // as ON, with read_only still OFF.
            writes: match (read_only, super_read_only) {
                ("OFF", _) => Writes::Open,
                ("NO_LOCK_NO_ADMIN", _) | (_, Some("ON")) => Writes::ClosedToAll,
                _ => Writes::Closed,
            },
        })
    }

    fn channels(&self) -> Result<Vec<Channel>> {
        let dialect = self.dialect()?;
        let answer = self.ask(dialect.replica_status)?;
        Ok(answer
            .rows()
            .map(|row| read_channel(dialect, row))
            .collect())
    }

    fn unapplied(&self, name: &str) -> Result<Option<String>> {
        match self.channel(name)? {
            Some(channel) => self.unapplied_of(channel),
            None => Ok(None),
        }
    }

    fn history(&self) -> Result<Option<History>> {
        if self.version()?.flavor == Flavor::MySql {
            return self.mysql_history();
        }
        let answer = self.ask("SELECT @@GLOBAL.gtid_binlog_state, @@GLOBAL.gtid_slave_pos")?;
        let row = answer.first();
        let text = |place| row.and_then(|row| row.at(place)).unwrap_or_default();
        Ok(Some(History::read([text(0), text(1)])))
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
        let runs = match thread {
            Thread::Receiver => before.receiver != Receiver::Stopped,
            Thread::Applier => before.applying,
        };
        let dialect = self.dialect()?;
        match run {
            // Also when it runs: it may be about to stop, if that was asked and not answered yet.
            true => drop(self.ask(&dialect.start(thread, channel))?),
            false if runs => self.stop(thread, &before)?,
            false => {}
        }
        Ok(match runs == run {
            true => Changed::AlreadySo,
            false => Changed::Yes,
        })
    }

    fn forget_source(&self, channel: &str) -> Result<Changed> {
        if self.channel(channel)?.is_none() {
            return Ok(Changed::AlreadySo);
        }
        self.ask(&self.dialect()?.forget(channel))
            .map(|_| Changed::Yes)
    }

    fn open_writes(&self) -> Result<Changed> {
        if self.writes()? == Writes::Open {
            return Ok(Changed::AlreadySo);
        }
        // Clears super_read_only with it (MySQL, WL#6799), and never waits for anybody.
        self.ask("SET GLOBAL read_only = 0")?;
        match self.writes()? {
            Writes::Open => Ok(Changed::Yes),
            writes => Err(
                Error::new(Kind::Refused, format!("still {writes:?} afterwards"))
                    .advise("look who else sets read_only on this server"),
            ),
        }
    }

    fn close_writes(&self, grace: Duration, spare: &[String]) -> Result<Changed> {
        let before = self.state()?;
        if before.is_closed() {
            return Ok(Changed::AlreadySo);
        }
        let seconds = self.time().left().as_secs() + 1; // whole seconds, rounded up
        self.ask(&format!("SET SESSION lock_wait_timeout = {seconds}"))?;
        let variable = match before.has_super_read_only {
            true => "super_read_only", // sets read_only with it
            false => "read_only",
        };
        self.outlast_writers(&format!("SET GLOBAL {variable} = 1"), grace, spare)?;
        match self.state()? {
            after if after.is_closed() => Ok(Changed::Yes),
            after => Err(Error::new(
                Kind::Refused,
                format!("still {:?} afterwards", after.writes),
            )
            .advise("look who else sets read_only on this server")),
        }
    }

    fn sessions(&self, spare: &[String]) -> Result<Vec<u64>> {
        let spared: Vec<String> = ["system user", "event_scheduler", "unauthenticated user"]
            .into_iter()
            .chain(spare.iter().map(String::as_str))
            .chain([self.login.user.as_str()])
            .map(quote)
            .collect();
        let answer = self.ask(&format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE USER NOT IN ({}) \
             AND COMMAND NOT LIKE 'Binlog Dump%' AND COMMAND NOT IN ('Daemon', 'Killed') \
             AND COMMAND NOT LIKE 'Slave%'",
            spared.join(", ")
        ))?;
        Ok(answer.rows().map(|row| number(row, "ID")).collect())
    }

    fn end_sessions(&self, ids: &[u64]) -> Result<Changed> {
        if ids.is_empty() {
            return Ok(Changed::AlreadySo);
        }
        self.with_session(|session| kill(session, ids))
            .map_err(|e| e.during("end sessions"))?;
        Ok(Changed::Yes)
    }

    fn transactions(&self, spare: &[String]) -> Result<Vec<String>> {
        let sessions = self.sessions(spare)?;
        let answer = self.ask(
            "SELECT trx_mysql_thread_id AS session, trx_id, trx_started \
             FROM information_schema.INNODB_TRX",
        )?;
        let of_applications = answer
            .rows()
            .filter(|row| sessions.contains(&number(*row, "session")));
        let word = |row: AnswerRow<'_>, name| row.get(name).unwrap_or_default().to_owned();
        Ok(of_applications
            .map(|row| ["session", "trx_id", "trx_started"].map(|name| word(row, name)))
            .map(|words| words.join(" "))
            .collect())
    }

    fn semi_sync(&self) -> Result<SemiSync> {
        let variables = self.ask("SHOW GLOBAL VARIABLES LIKE 'rpl_semi_sync%'")?;
        let status = self.ask("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%'")?;
        let value = |name: &str| {
            let mut rows = variables.rows().chain(status.rows());
            let is_it =
                |row: &AnswerRow<'_>| row.at(0).is_some_and(|n| n.eq_ignore_ascii_case(name));
            rows.find(is_it)?.at(1)
        };
        Ok(SemiSync::read(value))
    }

    fn set_semi_sync(&self, side: Side, on: bool) -> Result<Changed> {
        self.set_semi_sync_variable(side, "_enabled", on)
    }

    fn wait_for_nobody(&self, wait: bool) -> Result<Changed> {
        match self.set_semi_sync_variable(Side::Source, "_wait_no_replica", wait)? {
            Changed::Yes => Ok(Changed::Yes),
            Changed::AlreadySo => self.set_semi_sync_variable(Side::Source, "_wait_no_slave", wait),
        }
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

/// Ends sessions, all asked before the first answer is read: a round trip each would add up.
fn kill(session: &mut Session, ids: &[u64]) -> Result<()> {
    for id in ids {
        session.send(&format!("KILL CONNECTION {id}"))?;
    }
    let mut refused = None;
    for _ in ids {
        match session.answer() {
            Err(e) if e.server_code() == Some(NO_SUCH_THREAD) => {}
            // The other answers must still be read, or they would answer later questions.
            Err(e) if e.server_code().is_some() => refused = Some(e),
            answer => drop(answer?),
        }
    }
    refused.map_or(Ok(()), Err)
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

fn read_channel(dialect: &Dialect, row: AnswerRow<'_>) -> Channel {
    let (source, replica) = (dialect.source, dialect.replica);
    let text = |name: &str| row.get(name).unwrap_or_default().to_owned();
    let error = |name: &str| row.get(name).filter(|e| !e.is_empty()).map(str::to_owned);
    Channel {
        name: text(dialect.channel_column),
        source: format!(
            "{}:{}",
            text(&format!("{source}_Host")),
            text(&format!("{source}_Port"))
        ),
        source_id: number(row, &format!("{source}_Server_Id")) as u32,
        receiver: match text(&format!("{replica}_IO_Running")).as_str() {
            "Yes" => Receiver::Connected,
            "No" => Receiver::Stopped,
            _ => Receiver::Connecting,
        },
        applying: text(&format!("{replica}_SQL_Running")) == "Yes",
        received: position(
            row,
            &format!("{source}_Log_File"),
            &format!("Read_{source}_Log_Pos"),
        ),
        applied: position(
            row,
            &format!("Relay_{source}_Log_File"),
            &format!("Exec_{source}_Log_Pos"),
        ),
        relay: position(row, "Relay_Log_File", "Relay_Log_Pos"),
        fragile: row.get("Using_Gtid").is_some_and(|using| using != "No"),
        retrieved_gtids: text("Retrieved_Gtid_Set").replace('\n', ""),
        lag: row
            .get(&format!("Seconds_Behind_{source}"))
            .and_then(|s| s.parse().ok()),
        applier_error: error("Last_SQL_Error"),
        // The number says more than the text: MySQL 5.7 does not name the cause in it.
        receiver_error: error("Last_IO_Error")
            .map(|text| format!("error {}: {text}", number(row, "Last_IO_Errno"))),
    }
}

fn position(row: AnswerRow<'_>, file: &str, offset: &str) -> Position {
    Position {
        file: row.get(file).unwrap_or_default().to_owned(),
        offset: number(row, offset),
    }
}

fn number(row: AnswerRow<'_>, name: &str) -> u64 {
    row.get(name).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One channel, as MySQL 8.0.22 to 9.7 name its columns.
    const NEW: [(&str, &str); 17] = [
        ("Source_Host", "10.0.0.11"),
        ("Source_Port", "3306"),
        ("Source_Log_File", "binlog.000002"),
        ("Read_Source_Log_Pos", "900"),
        ("Relay_Log_File", "relay.000003"),
        ("Relay_Log_Pos", "400"),
        ("Relay_Source_Log_File", "binlog.000001"),
        ("Replica_IO_Running", "Connecting"),
        ("Replica_SQL_Running", "Yes"),
        ("Exec_Source_Log_Pos", "800"),
        ("Seconds_Behind_Source", "7"),
        ("Last_IO_Error", "error connecting"),
        ("Last_SQL_Error", ""),
        ("Source_Server_Id", "11"),
        ("Retrieved_Gtid_Set", "aaa:1-7,\nbbb:1"),
        ("Executed_Gtid_Set", "aaa:1-6"),
        ("Channel_Name", "west"),
    ];

    fn channel(version: &str, columns: &[(String, &str)]) -> Channel {
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<&str> = columns.iter().map(|(_, value)| *value).collect();
        let answer = Answer::of(&names, &values);
        read_channel(Version::parse(version).dialect(), answer.first().unwrap())
    }

    #[test]
    fn a_channel_is_read_by_the_words_of_every_series() {
        let new = NEW.map(|(name, value)| (name.to_owned(), value));
        let old = NEW.map(|(name, value)| {
            let name = name.replace("Source", "Master").replace("Replica", "Slave");
            (name, value)
        });
        let expected = channel("9.7.4", &new);
        assert_eq!(expected.name, "west");
        assert_eq!(
            (expected.source.as_str(), expected.source_id),
            ("10.0.0.11:3306", 11)
        );
        assert_eq!(expected.receiver, Receiver::Connecting);
        assert_eq!(expected.received.to_string(), "binlog.000002:900");
        assert_eq!(expected.applied.to_string(), "binlog.000001:800");
        assert_eq!(expected.relay.to_string(), "relay.000003:400");
        assert_eq!((expected.lag, expected.applying), (Some(7), true));
        assert_eq!(expected.retrieved_gtids, "aaa:1-7,bbb:1");
        for version in ["8.0.22", "8.0.36-28", "8.4.0"] {
            assert_eq!(channel(version, &new), expected, "{version}");
        }
        for version in ["5.6.24", "5.7.29-log", "8.0.21"] {
            assert_eq!(channel(version, &old), expected, "{version}");
        }
    }
}
