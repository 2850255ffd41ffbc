//! Another host's addresses: by the hookbox that is there, or by plain `ip` and `arping`.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::answer::{Answer, FORM};
use super::{Link, Vip, in_one_text, plain};
use crate::config::{self, Network};
use crate::error::{Error, Kind, Result};
use crate::run::{Changed, Entry, Mark};
use crate::ssh::{Place, Said, Shell, quote};
use crate::time::Deadline;

/// What the answer of a hookbox that has used up its limit needs to arrive.
const WAY_BACK: Duration = Duration::from_millis(200);

/// The exit status of `sh` for a program that is not there.
const NOT_FOUND: i32 = 127;

/// The exit status of hookbox for options that it does not know.
const NOT_UNDERSTOOD: i32 = 2;

/// Another host. It is asked by the one connection that is begun when this is made.
pub struct Remote {
    shell: RefCell<Shell>,
    /// Whether hookbox is installed there, once that is known.
    has_hookbox: Cell<Option<bool>>,
    timeline: RefCell<Vec<Entry>>,
    /// What hookbox there has announced when it added it.
    announced: RefCell<Vec<Vip>>,
    network: Network,
}

impl Remote {
    /// Starts to log in, and returns at once. For `sockets` see [`Shell::open`].
    ///
    /// # Errors
    /// [`Kind::Config`] when OpenSSH's client cannot be started.
    pub fn open(
        place: &Place,
        how: &config::Ssh,
        sockets: Option<&Path>,
        deadline: &Deadline,
    ) -> Result<Remote> {
        Shell::open(place, how, sockets, deadline).map(Remote::over)
    }

    /// The host that `shell` is on.
    pub fn over(shell: Shell) -> Remote {
        Remote {
            shell: RefCell::new(shell),
            has_hookbox: Cell::new(None),
            timeline: RefCell::default(),
            announced: RefCell::default(),
            network: Network::default(),
        }
    }

    /// Has hookbox there go by `network`, as far as it differs from the defaults; else it goes by
    /// its own configuration.
    pub fn with(self, network: &Network) -> Remote {
        Remote {
            network: network.clone(),
            ..self
        }
    }

    /// What goes between `vip add` and the address.
    fn options(&self, verb: &str) -> Vec<String> {
        let (own, usual) = (&self.network, Network::default());
        let mut words = Vec::new();
        if own.announce != usual.announce {
            let times: Vec<String> = own.announce.iter().map(u32::to_string).collect();
            words.extend(["--announce".to_owned(), times.join(",")]);
        }
        if verb == "add" && own.probe != usual.probe {
            words.extend(["--probe".to_owned(), format!("{}ms", own.probe.as_millis())]);
        }
        if verb == "add" && own.on_conflict != usual.on_conflict {
            words.extend(["--on-conflict", own.on_conflict.word()].map(str::to_owned));
        }
        words
    }

    /// Waits until the login is over: as [`Shell::ready`].
    ///
    /// # Errors
    /// As [`Shell::ready`].
    pub fn log_in(&self) -> Result<()> {
        self.shell.borrow_mut().ready()
    }

    /// The version of hookbox there; None where it is not installed.
    ///
    /// # Errors
    /// When the host does not answer, or what is there is no hookbox.
    pub fn hookbox_version(&self) -> Result<Option<String>> {
        let Some(said) = self.hookbox(&["--version"])? else {
            return Ok(None);
        };
        match said.output.trim().strip_prefix("hookbox ") {
            Some(version) => Ok(Some(version.to_owned())),
            None => Err(self.no_answer(&said)),
        }
    }

    /// Runs a hookbox command there; None where it is not installed.
    fn hookbox(&self, words: &[&str]) -> Result<Option<Said>> {
        if self.has_hookbox.get() == Some(false) {
            return Ok(None);
        }
        let mut shell = self.shell.borrow_mut();
        let program = shell.config().hookbox.display().to_string();
        let command = shell.command(&[&[program.as_str()], words].concat());
        // Asked without `become`: sudo has no status of its own for a program that is missing.
        let there = quote(&[&program]);
        let said = shell.script(&format!(
            "if [ -x {there} ]; then {command}; else (exit {NOT_FOUND}); fi"
        ))?;
        let is_there = said.status != NOT_FOUND || !said.output.is_empty();
        self.has_hookbox.set(Some(is_there));
        Ok(is_there.then_some(said))
    }

    /// Has hookbox there do something with addresses; None where it is not installed.
    ///
    /// An older one that does not know one of `options` goes by its own configuration, on record:
    /// during an upgrade one host comes after the other, and may have to be the primary meanwhile.
    fn vip(&self, verb: &[&str], vips: &[Vip], options: &[String]) -> Result<Option<Answer>> {
        self.timeline.take();
        self.announced.take();
        self.log_in()?;
        let left = self.shell.borrow().command_limit();
        let limit = left.saturating_sub(WAY_BACK).max(left / 2);
        let limit = format!("{}ms", limit.as_millis());
        let words = [&["vip"], verb, &["--json", "--limit", &limit]].concat();
        let text = in_one_text(vips);
        let with = |options: &[String]| {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let address: Vec<&str> = text.split_whitespace().collect();
            self.hookbox(&[&words[..], &options, &address].concat())
        };
        let Some(mut said) = with(options)? else {
            return Ok(None);
        };
        let mut note = None;
        if let (Some(what), false) = (not_understood(&said), options.is_empty()) {
            note = Some(format!("this hookbox is older and goes by itself: {what}"));
            said = with(&[])?.unwrap_or(said);
        }
        let answer = self.read(&said)?;
        if !verb.contains(&"--dry-run") {
            let entries = answer.timeline.iter().cloned().map(Entry::from);
            let note = note.map(note_of);
            self.timeline
                .replace(note.into_iter().chain(entries).collect());
        }
        match answer.error {
            Some(error) => Err(self.far(answer.kind, error, answer.advice, &answer.left)),
            None => Ok(Some(answer)),
        }
    }

    fn tell(&self, verb: &str, vips: &[Vip]) -> Result<Option<Answer>> {
        self.vip(&[verb], vips, &self.options(verb))
    }

    /// The line is believed, not the exit status, which may be that of sudo.
    fn read(&self, said: &Said) -> Result<Answer> {
        let line = said.output.lines().rfind(|line| line.starts_with('{'));
        let value: Option<Value> = line.and_then(|line| serde_json::from_str(line).ok());
        let Some(value) = value else {
            return Err(self.no_answer(said));
        };
        let form = value["v"].as_u64().unwrap_or_default();
        let name = self.name();
        if form > u64::from(FORM) {
            let version = value["hookbox"].as_str().unwrap_or("unknown");
            let what = format!("{name} has hookbox {version}, whose answers are too new for this");
            return Err(
                Error::new(Kind::Refused, what).advise("install the same hookbox on this host")
            );
        }
        serde_json::from_value(value).map_err(|error| {
            Error::new(Kind::Bug, format!("{name}: the answer of hookbox")).because(error)
        })
    }

    /// A failure there, as one here.
    fn far(
        &self,
        kind: Option<Kind>,
        error: String,
        advice: Option<String>,
        left: &[String],
    ) -> Error {
        let name = self.name();
        let kind = match kind {
            // Its command line and its configuration are not ours.
            Some(Kind::Usage | Kind::Config) | None => Kind::Refused,
            Some(kind) => kind,
        };
        let mut what = format!("{name}: {error}");
        if !left.is_empty() {
            what.push_str(&format!("; stands there: {}", left.join(", ")));
        }
        let error = Error::new(kind, what);
        match advice {
            Some(advice) => error.advise(format!("on {name}: {advice}")),
            None => error,
        }
    }

    /// Something else than hookbox answered: most often `become`, which may not.
    fn no_answer(&self, said: &Said) -> Error {
        let name = self.name();
        let shell = self.shell.borrow();
        let program = shell.config().hookbox.display();
        let error = said.errors.lines().chain(said.output.lines());
        let reason = error.map(str::trim).rfind(|line| !line.is_empty());
        let reason = reason.map_or(format!("exit status {}", said.status), str::to_owned);
        if let Some(why) = not_understood(said) {
            let what = format!("{name} has an older hookbox");
            return Error::new(Kind::Refused, what)
                .because(why.to_owned())
                .advise(format!("install the same hookbox on {name}"));
        }
        let what = format!("{name}: hookbox did not answer");
        match shell.config().become_root.as_str() {
            "" => Error::new(Kind::Refused, what)
                .because(reason)
                .advise(format!("on {name}: {program} vip show")),
            other => Error::new(Kind::Denied, what)
                .because(reason)
                .advise(format!(
                    "on {name}, as that account: {other} {program} vip show"
                )),
        }
    }

    /// Does it by `there`, hookbox's own, or `plain`.
    fn either<T>(
        &self,
        there: Option<Answer>,
        with: impl FnOnce(Answer) -> T,
        plain: impl FnOnce(&mut Shell) -> Result<T>,
    ) -> Result<T> {
        match there {
            Some(answer) => Ok(with(answer)),
            None => plain(&mut self.shell.borrow_mut()),
        }
    }
}

impl Link for Remote {
    fn name(&self) -> String {
        self.shell.borrow().name().to_owned()
    }

    fn timeline(&self) -> Vec<Entry> {
        self.timeline.borrow().clone()
    }

    fn list(&self) -> Result<Vec<Vip>> {
        let read = |answer: Answer| {
            let texts = answer.vips.unwrap_or_default();
            // Loopback addresses are none that could be virtual.
            texts
                .iter()
                .filter_map(|text| Vip::held(text).ok())
                .collect()
        };
        self.either(self.vip(&["show"], &[], &[])?, read, plain::list)
    }

    fn has(&self, vip: &Vip) -> Result<bool> {
        Ok(self.list()?.iter().any(|held| vip.is_same_as(held)))
    }

    /// Whoever has the address now may well be the one that gives it up later: nobody is asked.
    fn ready(&self, vip: &Vip) -> Result<()> {
        let vips = std::slice::from_ref(vip);
        let nobody = ["--probe", "0s"].map(str::to_owned);
        let answer = self.vip(&["add", "--dry-run"], vips, &nobody)?;
        self.either(answer, drop, |shell| plain::ready(shell, vip))
    }

    fn add_all(&self, vips: &[Vip]) -> Result<Changed> {
        let read = |answer: Answer| {
            self.announced.replace(vips.to_vec());
            changed(&answer)
        };
        let answer = self.tell("add", vips)?;
        let mut notes = Vec::new();
        let added = self.either(answer, read, |shell| {
            plain::add_all(shell, vips, &mut notes)
        });
        let notes = notes.into_iter().map(note_of);
        self.timeline.borrow_mut().extend(notes);
        added
    }

    fn del_all(&self, vips: &[Vip]) -> Result<Changed> {
        let answer = self.vip(&["del"], vips, &[])?;
        let read = |answer: Answer| changed(&answer);
        self.either(answer, read, |shell| plain::del_all(shell, vips))
    }

    /// Right after [`Link::add_all`] there is nothing to do: hookbox there announces what it adds.
    fn announce_all(&self, vips: &[Vip]) -> Result<Changed> {
        if self.announced.take() == vips {
            self.timeline.take();
            return Ok(Changed::AlreadySo);
        }
        let answer = self.tell("announce", vips)?;
        self.either(
            answer,
            |_| Changed::Yes,
            |shell| plain::announce_all(shell, vips),
        )
    }
}

/// What hookbox there does not know of the command line that it was given.
fn not_understood(said: &Said) -> Option<&str> {
    let is_so = said.status == NOT_UNDERSTOOD && said.output.is_empty();
    let mut lines = said.errors.lines().filter(|_| is_so);
    lines.find_map(|line| line.trim().strip_prefix("vip: "))
}

fn note_of(fact: String) -> Entry {
    Entry {
        at: Duration::ZERO,
        mark: Mark::Note,
        step: fact,
        note: None,
    }
}

fn changed(answer: &Answer) -> Changed {
    match answer.changed {
        true => Changed::Yes,
        false => Changed::AlreadySo,
    }
}
