//! Is the rest of a relay log only the beginning of a transaction?
//!
//! A source that dies while it sends a large transaction leaves such a tail. It is never applied,
//! so the positions of receiver and applier never meet, and waiting for that would last until the
//! time limit. What the server's process list says is no proof either: MySQL 9.7 with several
//! workers reports that everything was read while a worker is stuck.

/// What the events of a relay log, read from the start of a group on, amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// No event that changes data.
    Nothing,
    /// The beginning of a transaction and no end.
    Torn,
    /// At least one event or transaction that can be applied.
    Whole,
}

/// Reads events one after the other, as `SHOW RELAYLOG EVENTS` gives them.
#[derive(Debug, Default)]
pub struct Reader {
    inside: bool,
    whole: bool,
}

impl Reader {
    /// The next event: its `Event_type` and its `Info`. Whether it is, or ends, something that can be
    /// applied.
    pub fn event(&mut self, kind: &str, info: &str) -> bool {
        let mut is_end = false;
        match kind {
            // Written by the server for itself; they change no data.
            "Format_desc" | "Rotate" | "Stop" | "Previous_gtids" | "Gtid_list" | "Heartbeat"
            | "Binlog_checkpoint" | "Start_encryption" | "Ignorable" => {}
            // MariaDB: the word BEGIN tells a transaction from a statement on its own.
            "Gtid" if info.starts_with("BEGIN") => self.inside = true,
            // Another group has begun, so the one before was given up; what kind of group, the
            // next event says.
            "Gtid" | "Anonymous_Gtid" | "Gtid_tagged" => self.inside = false,
            "Query" if is_word(info, "BEGIN") => self.inside = true,
            "Query" if is_word(info, "COMMIT") || is_word(info, "ROLLBACK") => is_end = true,
            "Query" | "Query_compressed" if self.inside => {}
            "Intvar" | "RAND" | "User var" | "Table_map" | "Annotate_rows" | "Rows_query"
            | "Begin_load_query" | "Append_block" | "Execute_load_query" => {}
            _ if kind.starts_with("Write_rows")
                || kind.starts_with("Update_rows")
                || kind.starts_with("Delete_rows") => {}
            // Xid ends a transaction; a Query outside of one stands alone; and what is not known
            // here counts as something that can be applied, so that it is waited for.
            _ => is_end = true,
        }
        self.whole |= is_end;
        self.inside &= !is_end;
        is_end
    }

    /// Whether the last transaction has begun and not ended, whatever stands before it.
    pub fn is_inside(&self) -> bool {
        self.inside
    }

    /// What has been read so far amounts to.
    pub fn rest(&self) -> Rest {
        match (self.whole, self.inside) {
            (true, _) => Rest::Whole,
            (false, true) => Rest::Torn,
            (false, false) => Rest::Nothing,
        }
    }
}

/// The info of a query event may begin with the database in use: ``use `app`; COMMIT``.
fn is_word(info: &str, word: &str) -> bool {
    info.rsplit(';')
        .next()
        .is_some_and(|last| last.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(events: &[(&str, &str)]) -> Rest {
        let mut reader = Reader::default();
        for (kind, info) in events {
            reader.event(kind, info);
        }
        reader.rest()
    }

    #[test]
    fn a_transaction_without_its_end_is_torn() {
        let mariadb = [
            ("Gtid", "BEGIN GTID 0-1-7"),
            ("Annotate_rows", "insert into t values (1)"),
            ("Table_map", "table_id: 30 (lab.t)"),
            ("Write_rows_v1", "table_id: 30"),
        ];
        assert_eq!(rest(&mariadb), Rest::Torn);
        let mysql = [
            ("Gtid", "SET @@SESSION.GTID_NEXT= 'aaa:7'"),
            ("Query", "BEGIN"),
            ("Table_map", "table_id: 30 (lab.t)"),
            ("Write_rows", "table_id: 30"),
        ];
        assert_eq!(rest(&mysql), Rest::Torn);
    }

    #[test]
    fn a_whole_transaction_before_the_torn_one_must_be_waited_for() {
        let events = [
            ("Gtid", "BEGIN GTID 0-1-7"),
            ("Write_rows_v1", "table_id: 30"),
            ("Xid", "COMMIT /* xid=9 */"),
            ("Gtid", "BEGIN GTID 0-1-8"),
            ("Write_rows_v1", "table_id: 30"),
        ];
        assert_eq!(rest(&events), Rest::Whole);
    }

    #[test]
    fn the_last_transaction_has_an_end_or_has_not() {
        let whole = [("Query", "BEGIN"), ("Write_rows", ""), ("Xid", "COMMIT")];
        let mut reader = Reader::default();
        for (kind, info) in whole.iter().chain(&whole) {
            reader.event(kind, info);
        }
        assert!(!reader.is_inside());
        reader.event("Query", "BEGIN");
        reader.event("Rotate", "relay.000003;pos=4");
        assert!(reader.is_inside());
    }

    #[test]
    fn a_statement_after_a_transaction_that_never_ended_is_whole() {
        let events = [
            ("Gtid", "BEGIN GTID 0-1-7"),
            ("Write_rows_v1", "table_id: 30"),
            ("Rotate", "relay.000003;pos=4"),
            ("Gtid", "GTID 0-1-7"),
            ("Query", "use `lab`; create table u (a int)"),
        ];
        assert_eq!(rest(&events), Rest::Whole);
    }

    #[test]
    fn a_statement_on_its_own_is_whole() {
        let ddl = [
            ("Gtid", "GTID 0-1-7"),
            ("Query", "use `lab`; create table u (a int)"),
        ];
        assert_eq!(rest(&ddl), Rest::Whole);
        let commit = [("Query", "BEGIN"), ("Query", "use `lab`; COMMIT")];
        assert_eq!(rest(&commit), Rest::Whole);
    }

    #[test]
    fn what_is_not_known_is_waited_for() {
        assert_eq!(rest(&[("Some_new_event", "")]), Rest::Whole);
    }

    #[test]
    fn a_group_header_alone_is_nothing_yet() {
        let events = [("Rotate", "b.000002;pos=4"), ("Gtid", "GTID 0-1-7")];
        assert_eq!(rest(&events), Rest::Nothing);
    }
}
