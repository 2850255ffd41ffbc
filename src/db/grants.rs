//! The least that hookbox's accounts must be allowed, in the words of each flavour and version.

use super::dialect::{Flavor, Version, quote};

/// The password to be replaced by a person: hookbox never shows one.
pub const PLACEHOLDER: &str = "change-me";

/// Who uses an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// hookbox, on the server of its own host.
    Own,
    /// hookbox on another host: it asks, and closes a server that must not take writes.
    Peer,
    /// A replica.
    Replication,
    /// MHA's manager, and hookbox as its hooks.
    Mha,
}

/// What is done with a privilege.
struct Need {
    what: &'static str,
    /// Whether it is done to the servers of other hosts, too.
    to_peers: bool,
    /// Whether it is done only where there are events.
    for_events: bool,
    /// What it takes: MySQL to 5.7 and MariaDB to 10.4; MySQL from 8.0; MariaDB from 10.5.
    words: [&'static str; 3],
}

/// MySQL split SUPER in 8.0; the reference manual names what each statement takes. MariaDB split it
/// in 10.5.2, from 10.11 on READ_ONLY ADMIN is not in SUPER.
const NEEDS: &[Need] = &[
    Need {
        what: "closes writes and opens them",
        to_peers: true,
        for_events: false,
        words: ["SUPER", "SYSTEM_VARIABLES_ADMIN", "READ_ONLY ADMIN"],
    },
    Need {
        what: "ends sessions; is let in when all connections are taken",
        to_peers: true,
        for_events: false,
        words: ["SUPER", "CONNECTION_ADMIN", "CONNECTION ADMIN"],
    },
    Need {
        what: "ends sessions of root and its like",
        to_peers: true,
        for_events: false,
        words: ["SUPER", "SYSTEM_USER", "CONNECTION ADMIN"],
    },
    Need {
        what: "sees the sessions and transactions of others",
        to_peers: true,
        for_events: false,
        words: ["PROCESS", "PROCESS", "PROCESS"],
    },
    Need {
        what: "asks how replication stands",
        to_peers: true,
        for_events: false,
        words: ["REPLICATION CLIENT", "REPLICATION CLIENT", "SLAVE MONITOR"],
    },
    Need {
        what: "asks for the end of the binary log",
        to_peers: true,
        for_events: false,
        words: ["REPLICATION CLIENT", "REPLICATION CLIENT", "BINLOG MONITOR"],
    },
    Need {
        what: "starts and stops replication, and sets it up (rejoin)",
        to_peers: false,
        for_events: false,
        words: [
            "SUPER",
            "REPLICATION_SLAVE_ADMIN",
            "REPLICATION SLAVE ADMIN",
        ],
    },
    Need {
        what: "switches semi-sync's source side, for which commits wait",
        to_peers: true,
        for_events: false,
        words: [
            "SUPER",
            "SYSTEM_VARIABLES_ADMIN",
            "REPLICATION MASTER ADMIN",
        ],
    },
    Need {
        what: "reads the relay log, for a transaction of which only the beginning came",
        to_peers: false,
        for_events: false,
        words: [
            "REPLICATION SLAVE",
            "REPLICATION SLAVE",
            "REPLICATION SLAVE ADMIN",
        ],
    },
    Need {
        what: "forgets the source (RESET SLAVE ALL)",
        to_peers: false,
        for_events: false,
        words: ["RELOAD", "RELOAD", "RELOAD"],
    },
    Need {
        what: "sees events, and enables them",
        to_peers: true,
        for_events: true,
        words: ["EVENT", "EVENT", "EVENT"],
    },
    Need {
        what: "starts and stops the event scheduler",
        to_peers: true,
        for_events: true,
        words: ["SUPER", "SYSTEM_VARIABLES_ADMIN", "SUPER"],
    },
    Need {
        what: "lets events go on as whoever defined them",
        to_peers: false,
        for_events: true,
        words: ["SUPER", "SET_USER_ID", "SET USER"],
    },
];

/// An account that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Who uses it.
    pub role: Role,
    /// Its name.
    pub user: &'a str,
    /// The hosts that it comes from.
    pub hosts: &'a [String],
    /// A table that it writes to, as `schema.table`.
    pub table: Option<&'a str>,
    /// Whether there are events.
    pub events: bool,
}

/// The privileges of `role` on `*.*`, each with what is done by it.
pub fn privileges(version: Version, role: Role, events: bool) -> Vec<(&'static str, String)> {
    let column = match (version.flavor, version.number) {
        (Flavor::MySql, number) if number >= (8, 0, 0) => 1,
        (Flavor::MariaDb, number) if number >= (10, 5, 2) => 2,
        _ => 0,
    };
    let word = |need: &Need| match need.words[column] {
        // SHOW SLAVE STATUS had no privilege of its own before.
        "SLAVE MONITOR" if version.number < (10, 5, 9) => "REPLICATION SLAVE ADMIN",
        // Accounts that have it are protected from others only since then.
        "SYSTEM_USER" if version.number < (8, 0, 16) => "CONNECTION_ADMIN",
        "SET_USER_ID" if version.number >= (8, 2, 0) => "SET_ANY_DEFINER",
        word => word,
    };
    match role {
        Role::Replication => {
            return vec![("REPLICATION SLAVE", "fetches the binary log".to_owned())];
        }
        Role::Mha => {
            let why = "MHA applies the difference of relay logs, which may hold any statement";
            return vec![("ALL PRIVILEGES", why.to_owned())];
        }
        Role::Own | Role::Peer => {}
    }
    let mut privileges: Vec<(&str, String)> = Vec::new();
    let is_needed =
        |need: &&Need| (role == Role::Own || need.to_peers) && (events || !need.for_events);
    for need in NEEDS.iter().filter(is_needed) {
        let known = privileges
            .iter_mut()
            .find(|(known, _)| *known == word(need));
        match known {
            Some((_, whats)) => *whats = format!("{whats}; {}", need.what),
            None => privileges.push((word(need), need.what.to_owned())),
        }
    }
    privileges
}

/// Whether the threads of a channel are found in performance_schema, which takes a privilege of its
/// own.
fn has_status_tables(version: Version) -> bool {
    version.flavor == Flavor::MySql && version.number >= (5, 7, 0)
}

/// The statements that make an account, one a host that it comes from.
pub fn statements(version: Version, account: Account<'_>) -> String {
    let names: Vec<String> = account
        .hosts
        .iter()
        .map(|host| format!("{}@{}", quote(account.user), quote(host)))
        .collect();
    let mut text = String::new();
    for name in &names {
        text += &format!("CREATE USER {name} IDENTIFIED BY '{PLACEHOLDER}';\n");
    }
    let privileges = privileges(version, account.role, account.events);
    for (word, what) in &privileges {
        text += &format!("--   {word}: {what}\n");
    }
    let words: Vec<&str> = privileges.iter().map(|(word, _)| *word).collect();
    for name in &names {
        text += &format!("GRANT {}\n    ON *.* TO {name};\n", words.join(", "));
        if let Some((schema, table)) = account.table.and_then(|table| table.split_once('.')) {
            text += &format!("GRANT INSERT, DELETE ON `{schema}`.`{table}` TO {name};\n");
        }
    }
    if account.role == Role::Own && has_status_tables(version) {
        text += "--   performance_schema: finds a replication thread that does not stop\n";
        for name in &names {
            text += &format!("GRANT SELECT ON performance_schema.* TO {name};\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(version: &str, role: Role) -> Vec<&'static str> {
        of_events(version, role, false)
    }

    fn of_events(version: &str, role: Role, events: bool) -> Vec<&'static str> {
        let privileges = privileges(Version::parse(version), role, events);
        privileges.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn each_series_has_its_own_words_and_none_twice() {
        assert_eq!(
            words("5.7.29-log", Role::Own),
            [
                "SUPER",
                "PROCESS",
                "REPLICATION CLIENT",
                "REPLICATION SLAVE",
                "RELOAD"
            ]
        );
        assert_eq!(
            words("8.0.36", Role::Peer),
            [
                "SYSTEM_VARIABLES_ADMIN",
                "CONNECTION_ADMIN",
                "SYSTEM_USER",
                "PROCESS",
                "REPLICATION CLIENT"
            ]
        );
        assert!(!words("8.0.15", Role::Own).contains(&"SYSTEM_USER"));
        assert!(words("10.5.8-MariaDB", Role::Peer).contains(&"REPLICATION SLAVE ADMIN"));
        assert!(!words("11.8.6-MariaDB", Role::Peer).contains(&"REPLICATION SLAVE ADMIN"));
        assert!(!words("11.8.6-MariaDB", Role::Own).contains(&"SUPER"));
        assert_eq!(words("9.7.4", Role::Replication), ["REPLICATION SLAVE"]);
    }

    #[test]
    fn events_take_more_here_and_where_a_primary_is_closed() {
        let more = |version, role| -> Vec<&str> {
            let without = words(version, role);
            let with = of_events(version, role, true).into_iter();
            with.filter(|word| !without.contains(word)).collect()
        };
        assert_eq!(more("5.7.29", Role::Own), ["EVENT"]);
        assert_eq!(more("8.0.36", Role::Own), ["EVENT", "SET_USER_ID"]);
        assert_eq!(more("9.7.4", Role::Own), ["EVENT", "SET_ANY_DEFINER"]);
        assert_eq!(more("9.7.4", Role::Peer), ["EVENT"]);
        let mariadb = "10.11.6-MariaDB";
        assert_eq!(more(mariadb, Role::Own), ["EVENT", "SUPER", "SET USER"]);
        assert_eq!(more(mariadb, Role::Peer), ["EVENT", "SUPER"]);
    }

    #[test]
    fn the_status_tables_are_for_hookbox_on_its_own_server() {
        let has = |version, role| {
            let hosts = ["h".to_owned()];
            let account = Account {
                role,
                user: "u",
                hosts: &hosts,
                table: None,
                events: false,
            };
            statements(Version::parse(version), account)
                .contains("GRANT SELECT ON performance_schema.* TO 'u'@'h';")
        };
        assert!(has("5.7.29", Role::Own) && has("9.7.4", Role::Own));
        assert!(!has("9.7.4", Role::Peer) && !has("9.7.4", Role::Replication));
        assert!(!has("5.6.24", Role::Own) && !has("11.8.6-MariaDB", Role::Own));
    }
}
