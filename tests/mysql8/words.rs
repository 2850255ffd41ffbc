//! What the versions of MySQL 8 understand.
//!
//! Sources: the release notes of MySQL 8.0.4 (GET_MASTER_PUBLIC_KEY), 8.0.22, 8.0.23, 8.0.26, 8.2.0
//! (SHOW BINARY LOG STATUS) and 8.4.0 (what was removed); worklogs 14171 (SLAVE in statements), 14189
//! (CHANGE REPLICATION SOURCE); reference manuals of 8.0 and 8.4, "SHOW REPLICA STATUS Statement" and
//! "Semisynchronous Replication".

/// Major, minor and patch number.
pub type Version = (u16, u16, u16);

const FIRST: Version = (8, 0, 0);
const NEVER: Version = (u16::MAX, 0, 0);
const REMOVED: Version = (8, 4, 0);
const REPLICA: Version = (8, 0, 22);
const SOURCE: Version = (8, 0, 23);

/// From here on events that came from the source are REPLICA_SIDE_DISABLED, not SLAVESIDE_DISABLED.
pub const REPLICA_SIDE: Version = (8, 2, 0);

/// How statements begin, from which version on, and up to which.
const BEGINNINGS: &[(&str, Version, Version)] = &[
    ("SHOW SLAVE STATUS", FIRST, REMOVED),
    ("SHOW REPLICA STATUS", REPLICA, NEVER),
    ("SHOW MASTER STATUS", FIRST, REMOVED),
    ("SHOW BINARY LOG STATUS", (8, 2, 0), NEVER),
    ("START SLAVE", FIRST, REMOVED),
    ("STOP SLAVE", FIRST, REMOVED),
    ("RESET SLAVE", FIRST, REMOVED),
    ("START REPLICA", REPLICA, NEVER),
    ("STOP REPLICA", REPLICA, NEVER),
    ("RESET REPLICA", REPLICA, NEVER),
    ("CHANGE MASTER TO", FIRST, REMOVED),
    ("CHANGE REPLICATION SOURCE TO", SOURCE, NEVER),
    ("SHOW RELAYLOG EVENTS", FIRST, NEVER),
    ("SHOW GLOBAL VARIABLES", FIRST, NEVER),
    ("SHOW GLOBAL STATUS", FIRST, NEVER),
    ("SELECT", FIRST, NEVER),
    ("SET GLOBAL", FIRST, NEVER),
    ("SET SESSION", FIRST, NEVER),
    ("SET PERSIST", FIRST, NEVER),
    ("KILL CONNECTION", FIRST, NEVER),
    ("ALTER USER", FIRST, NEVER),
    ("ALTER DEFINER", FIRST, NEVER),
];

/// How the options of CHANGE MASTER and CHANGE REPLICATION SOURCE begin.
const OPTIONS: &[(&str, Version, Version)] = &[
    ("MASTER_", FIRST, REMOVED),
    ("SOURCE_", SOURCE, NEVER),
    ("GET_MASTER_PUBLIC_KEY", (8, 0, 4), REMOVED),
    ("GET_SOURCE_PUBLIC_KEY", SOURCE, NEVER),
];

/// Whether a server of this version takes `sql` for a statement.
pub fn understands(version: Version, sql: &str) -> bool {
    let is_in = |words: &[(&str, Version, Version)], text: &str| {
        words.iter().any(|(beginning, since, until)| {
            text.starts_with(beginning) && *since <= version && version < *until
        })
    };
    let options = match sql.starts_with("CHANGE") {
        true => sql.split_once(" TO ").map_or("", |(_, options)| options),
        false => "",
    };
    // SOURCE_POS_WAIT came with 8.0.26, MASTER_POS_WAIT stayed.
    let is_later = sql.contains("SOURCE_POS_WAIT") && version < (8, 0, 26);
    is_in(BEGINNINGS, sql)
        && !is_later
        && options
            .split(", ")
            .filter(|option| !option.is_empty())
            .all(|option| is_in(OPTIONS, option))
}

/// The plugins of semi-sync, each with variables and states of its own names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugins {
    /// `semisync_master.so` and `semisync_slave.so`.
    Older,
    /// `semisync_source.so` and `semisync_replica.so`, from 8.0.26 on.
    Newer,
}

impl Plugins {
    /// A name with the newer words, as these plugins have it.
    pub fn name(self, name: &str) -> String {
        match self {
            Plugins::Newer => name.to_owned(),
            Plugins::Older => name.replace("source", "master").replace("replica", "slave"),
        }
    }
}

/// The columns of SHOW REPLICA STATUS.
pub const STATUS: &[&str] = &[
    "Replica_IO_State",
    "Source_Host",
    "Source_User",
    "Source_Port",
    "Connect_Retry",
    "Source_Log_File",
    "Read_Source_Log_Pos",
    "Relay_Log_File",
    "Relay_Log_Pos",
    "Relay_Source_Log_File",
    "Replica_IO_Running",
    "Replica_SQL_Running",
    "Last_Errno",
    "Last_Error",
    "Skip_Counter",
    "Exec_Source_Log_Pos",
    "Relay_Log_Space",
    "Source_SSL_Allowed",
    "Source_SSL_CA_File",
    "Seconds_Behind_Source",
    "Source_SSL_Verify_Server_Cert",
    "Last_IO_Errno",
    "Last_IO_Error",
    "Last_SQL_Errno",
    "Last_SQL_Error",
    "Source_Server_Id",
    "Source_UUID",
    "SQL_Delay",
    "SQL_Remaining_Delay",
    "Replica_SQL_Running_State",
    "Source_Retry_Count",
    "Retrieved_Gtid_Set",
    "Executed_Gtid_Set",
    "Auto_Position",
    "Channel_Name",
];

/// The columns of SHOW BINARY LOG STATUS.
pub const WRITTEN: &[&str] = &[
    "File",
    "Position",
    "Binlog_Do_DB",
    "Binlog_Ignore_DB",
    "Executed_Gtid_Set",
];

/// The columns of SHOW RELAYLOG EVENTS.
pub const EVENTS: &[&str] = &[
    "Log_name",
    "Pos",
    "Event_type",
    "Server_id",
    "End_log_pos",
    "Info",
];

/// A column's name before 8.0.22.
pub fn older(column: &str) -> String {
    column
        .replace("Source", "Master")
        .replace("Replica", "Slave")
}

/// A statement in the newest words, as hookbox should say it to a server of this version: in the
/// newest that this one understands.
pub fn words_for(version: Version, newest: &str) -> String {
    let mut words = newest.to_owned();
    if version < SOURCE {
        words = words.replace("REPLICATION SOURCE", "MASTER");
        words = words.replace("SOURCE_", "MASTER_");
    }
    if version < REPLICA {
        words = words.replace("REPLICA ", "SLAVE ");
    }
    words
}
