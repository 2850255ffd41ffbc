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
    /// What it takes: MySQL to 5.7 and MariaDB to 10.4; MySQL from 8.0; MariaDB from 10.5.
    words: [&'static str; 3],
}

/// MySQL split SUPER in 8.0; the reference manual names what each statement takes. MariaDB split it
/// in 10.5.2, from 10.11 on READ_ONLY ADMIN is not in SUPER.
const NEEDS: &[Need] = &[
    Need {
        what: "closes writes and opens them",
        to_peers: true,
        words: ["SUPER", "SYSTEM_VARIABLES_ADMIN", "READ_ONLY ADMIN"],
    },
    Need {
        what: "ends sessions; is let in when all connections are taken",
        to_peers: true,
        words: ["SUPER", "CONNECTION_ADMIN", "CONNECTION ADMIN"],
    },
    Need {
        what: "ends sessions of root and its like",
        to_peers: true,
        words: ["SUPER", "SYSTEM_USER", "CONNECTION ADMIN"],
    },
    Need {
        what: "sees the sessions and transactions of others",
        to_peers: true,
        words: ["PROCESS", "PROCESS", "PROCESS"],
    },
    Need {
        what: "asks how replication stands",
        to_peers: true,
        words: ["REPLICATION CLIENT", "REPLICATION CLIENT", "SLAVE MONITOR"],
    },
    Need {
        what: "asks for the end of the binary log",
        to_peers: true,
        words: ["REPLICATION CLIENT", "REPLICATION CLIENT", "BINLOG MONITOR"],
    },
    Need {
        what: "starts and stops replication, and sets it up (rejoin)",
        to_peers: false,
        words: [
            "SUPER",
            "REPLICATION_SLAVE_ADMIN",
            "REPLICATION SLAVE ADMIN",
        ],
    },
    Need {
        what: "switches semi-sync's source side",
        to_peers: false,
        words: [
            "SUPER",
            "SYSTEM_VARIABLES_ADMIN",
            "REPLICATION MASTER ADMIN",
        ],
    },
    Need {
        what: "reads the relay log, for a transaction of which only the beginning came",
        to_peers: false,
        words: [
            "REPLICATION SLAVE",
            "REPLICATION SLAVE",
            "REPLICATION SLAVE ADMIN",
        ],
    },
    Need {
        what: "forgets the source (RESET SLAVE ALL)",
        to_peers: false,
        words: ["RELOAD", "RELOAD", "RELOAD"],
    },
];

/// The privileges of `role` on `*.*`, each with what is done by it.
pub fn privileges(version: Version, role: Role) -> Vec<(&'static str, String)> {
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
        word => word,
    };
    let needs = match role {
        Role::Replication => {
            return vec![("REPLICATION SLAVE", "fetches the binary log".to_owned())];
        }
        Role::Mha => {
            let why = "MHA applies the difference of relay logs, which may hold any statement";
            return vec![("ALL PRIVILEGES", why.to_owned())];
        }
        Role::Own => NEEDS.iter().collect::<Vec<_>>(),
        Role::Peer => NEEDS.iter().filter(|need| need.to_peers).collect(),
    };
    let mut privileges: Vec<(&str, String)> = Vec::new();
    for need in needs {
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

/// What it takes to switch the event scheduler, and to enable an event that somebody else defined.
fn events(version: Version) -> &'static str {
    match (version.flavor, version.number) {
        (Flavor::MariaDb, number) if number >= (10, 5, 2) => "EVENT, SET USER, SUPER",
        (Flavor::MySql, number) if number >= (8, 2, 0) => "EVENT, SET_ANY_DEFINER",
        (Flavor::MySql, number) if number >= (8, 0, 0) => "EVENT, SET_USER_ID",
        _ => "EVENT",
    }
}

/// The statements that make an account, one a host that it comes from; `table` is one more that it
/// writes to, as `schema.table`.
pub fn statements(
    version: Version,
    role: Role,
    user: &str,
    hosts: &[String],
    table: Option<&str>,
) -> String {
    let names: Vec<String> = hosts
        .iter()
        .map(|host| format!("{}@{}", quote(user), quote(host)))
        .collect();
    let mut text = String::new();
    for name in &names {
        text += &format!("CREATE USER {name} IDENTIFIED BY '{PLACEHOLDER}';\n");
    }
    let privileges = privileges(version, role);
    for (word, what) in &privileges {
        text += &format!("--   {word}: {what}\n");
    }
    let words: Vec<&str> = privileges.iter().map(|(word, _)| *word).collect();
    if role == Role::Own {
        let words = events(version);
        text += &format!(
            "-- Where events are used, to switch the scheduler and let them go on as whoever\n-- defined them: {words}\n"
        );
    }
    for name in &names {
        text += &format!("GRANT {}\n    ON *.* TO {name};\n", words.join(", "));
        if let Some((schema, table)) = table.and_then(|table| table.split_once('.')) {
            text += &format!("GRANT INSERT, DELETE ON `{schema}`.`{table}` TO {name};\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(version: &str, role: Role) -> Vec<&'static str> {
        let privileges = privileges(Version::parse(version), role);
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
}
