//! Reads the relay log of a channel: is there something left, and does it end inside a transaction?

use super::Server;
use super::channel::number;
use crate::db::dialect::{Dialect, Flavor};
use crate::db::relay::{Reader, Rest};
use crate::db::session::Answer;
use crate::db::{Channel, Position, Receiver};
use crate::error::Result;

/// SHOW RELAYLOG EVENTS: "Error when executing command ...: Could not find target log".
const ERROR_WHEN_EXECUTING: u16 = 1220;

/// Rows asked for at a time when a relay log is read.
const RELAY_PAGE: usize = 2_000;

/// Where the first event of a log file is: after a 4-byte magic number.
const START: u64 = 4;

/// How close to the end, in bytes, an applier must have come before the rest is read ahead of it:
/// reading takes processor time. 100,000 of the smallest rows, which take a second or more.
const NEAR: u64 = 8 << 20;

/// How far the relay log of a channel was read, from the start of a group on.
pub(super) struct Reading {
    channel: String,
    start: Position,
    /// The last event that was read.
    at: Position,
    /// The last event that is, or ends, something that can be applied.
    end: Option<Position>,
    reader: Reader,
    next: Next,
    /// It is to be read to the end while there is time.
    ahead: bool,
}

/// What is to be read next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Page,
    File,
    Nothing,
}

impl Reading {
    fn from_applier(channel: &Channel) -> Reading {
        Reading {
            channel: channel.name.clone(),
            start: channel.relay.clone(),
            at: channel.relay.clone(),
            end: None,
            reader: Reader::default(),
            next: Next::Page,
            ahead: false,
        }
    }

    /// Whether there is something to apply from `place` on.
    fn ends_after(&self, place: &Position) -> bool {
        self.end.as_ref().is_some_and(|end| end.reaches(place))
    }
}

impl Server {
    /// What the relay log holds from where the applier stands.
    pub(super) fn relay_rest(&self, channel: &Channel) -> Result<Rest> {
        let mut reading = self.reading(channel);
        if reading.ends_after(&channel.relay) {
            self.reading.replace(Some(reading));
            return Ok(Rest::Whole);
        }
        if reading.start != channel.relay {
            reading = Reading::from_applier(channel);
        }
        reading.next = Next::Page;
        while reading.next != Next::Nothing && reading.reader.rest() != Rest::Whole {
            self.read_page(&mut reading)?;
        }
        let rest = reading.reader.rest();
        self.reading.replace(Some(reading));
        Ok(rest)
    }

    /// Whether the relay log may end inside a transaction, which a source leaves that dies. MariaDB's
    /// appliers stop there like anywhere else.
    pub(super) fn may_end_inside(&self, channel: &Channel) -> Result<bool> {
        Ok(self.version()?.flavor == Flavor::MySql
            && channel.receiver != Receiver::Connected
            && channel.applied != channel.received)
    }

    /// Whether the relay log ends inside a transaction.
    pub(super) fn ends_inside(&self, channel: &Channel) -> Result<bool> {
        let mut reading = self.reading(channel);
        // Something may have been added.
        reading.next = Next::Page;
        while reading.next != Next::Nothing {
            self.read_page(&mut reading)?;
        }
        let is_inside = reading.reader.is_inside();
        self.reading.replace(Some(reading));
        Ok(is_inside)
    }

    /// Has the relay log read for [`Server::ends_inside`] while the applier is waited for: with workers
    /// its position is up to `slave_checkpoint_period` (300 ms) old, and so many events would have to
    /// be read when all is applied.
    pub(super) fn begin_to_read_ahead(&self, channel: &Channel) -> Result<()> {
        let (applied, received) = (&channel.applied, &channel.received);
        let left = received.offset.saturating_sub(applied.offset);
        let is_near = applied.file == received.file && left <= NEAR;
        if is_near && self.may_end_inside(channel)? {
            let ahead = true;
            let reading = self.reading(channel);
            self.reading.replace(Some(Reading { ahead, ..reading }));
        }
        Ok(())
    }

    /// Reads a page of what is read ahead of the applier of channel `name`; false if that is nothing.
    pub(super) fn read_ahead(&self, name: &str) -> Result<bool> {
        let mut last = self.reading.borrow_mut();
        let is_wanted = |r: &mut Reading| r.ahead && r.channel == name && r.next != Next::Nothing;
        let Some(mut reading) = last.take_if(is_wanted) else {
            return Ok(false);
        };
        match self.read_page(&mut reading) {
            // Such as a file that was applied and deleted meanwhile: nobody needs it now.
            Err(error) if error.server_code().is_some() => {}
            read => {
                read?;
                *last = Some(reading);
            }
        }
        Ok(true)
    }

    /// The last reading, if that is ahead of the applier. As long as nothing is received a relay log
    /// does not change, and what is received is added at its end.
    fn reading(&self, channel: &Channel) -> Reading {
        let goes_on = |r: &Reading| r.channel == channel.name && r.at.reaches(&channel.relay);
        let last = self.reading.take().filter(goes_on);
        last.unwrap_or_else(|| Reading::from_applier(channel))
    }

    fn read_page(&self, reading: &mut Reading) -> Result<()> {
        let mut at = reading.at.clone();
        if reading.next == Next::File {
            let Some(file) = next_file(&at.file) else {
                reading.next = Next::Nothing;
                return Ok(());
            };
            at = Position {
                file,
                offset: START,
            };
        }
        let dialect = self.dialect()?;
        let sql = dialect.relay_events(&at.file, at.offset, RELAY_PAGE, &reading.channel);
        let page = match self.relay_page(&sql) {
            // The file after the last one does not exist. On any other page this is an error: what
            // cannot be read may still have to be applied.
            Err(e)
                if reading.next == Next::File && e.server_code() == Some(ERROR_WHEN_EXECUTING) =>
            {
                reading.next = Next::Nothing;
                return Ok(());
            }
            page => page?,
        };
        let mut events = 0;
        for row in page.rows() {
            let text = |name| row.get(name).unwrap_or_default();
            // Not End_log_pos: in a relay log that is a place in the source's log. So the last event
            // of a page is read again, which changes nothing.
            at.offset = number(row, "Pos");
            if reading.reader.event(text("Event_type"), text("Info")) {
                reading.end = Some(at.clone());
            }
            events += 1;
        }
        reading.at = at;
        reading.next = match events < RELAY_PAGE {
            true => Next::File,
            false => Next::Page,
        };
        Ok(())
    }

    /// What will be read of the relay log to see that nothing is left, if nothing is.
    pub(super) fn pages_to_come(&self, dialect: &Dialect, channel: &Channel) -> Vec<String> {
        let Position { file, offset } = &channel.relay;
        let page = |file: &str, from| dialect.relay_events(file, from, RELAY_PAGE, &channel.name);
        match next_file(file) {
            Some(next) if channel.applied == channel.received => {
                vec![page(file, *offset), page(&next, START)]
            }
            _ => Vec::new(),
        }
    }

    /// A page of the relay log, which may have been asked for when the receiver was stopped.
    fn relay_page(&self, sql: &str) -> Result<Answer> {
        let mut pages = self.pages.borrow_mut();
        match pages.pop_front() {
            Some((asked, page)) if asked == sql => page,
            _ => {
                pages.clear();
                self.ask(sql)
            }
        }
    }
}

/// The name of the log file after `file`: the number at its end, one more, as wide.
fn next_file(file: &str) -> Option<String> {
    let (base, digits) = file.rsplit_once('.')?;
    let number: u64 = digits.parse().ok()?;
    Some(format!(
        "{base}.{:0width$}",
        number + 1,
        width = digits.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::next_file;

    #[test]
    fn log_files_are_numbered_with_at_least_six_digits() {
        assert_eq!(next_file("relay.000009").as_deref(), Some("relay.000010"));
        assert_eq!(next_file("relay.999999").as_deref(), Some("relay.1000000"));
        assert_eq!(next_file("relay"), None);
    }
}
