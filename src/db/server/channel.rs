//! What a server shows of a replication channel, read by the names that it has for the columns.

use crate::db::dialect::{Dialect, Version};
use crate::db::session::{Answer, AnswerRow};
use crate::db::{Channel, Position, Receiver};

/// What [`Dialect::replica_status`] answers.
pub(super) fn read_channels(version: Version, answer: &Answer) -> Vec<Channel> {
    let dialect = version.dialect();
    answer
        .rows()
        .map(|row| read_channel(dialect, row))
        .collect()
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

pub(super) fn position(row: AnswerRow<'_>, file: &str, offset: &str) -> Position {
    Position {
        file: row.get(file).unwrap_or_default().to_owned(),
        offset: number(row, offset),
    }
}

pub(super) fn number(row: AnswerRow<'_>, name: &str) -> u64 {
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
