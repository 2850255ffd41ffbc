//! The example configuration says every key with its default.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use hookbox::config::{Config, Host, Peer, Role};
use serde_json::Value;
use toml::Table;

const EXAMPLE: &str = include_str!("../examples/hookbox.toml");

/// The example with the lines that begin with `mark` taken in, if TOML follows.
fn uncommented(mark: &str) -> String {
    let take = |line: &str| {
        let Some(toml) = line.strip_prefix(mark) else {
            return line.to_owned();
        };
        let key = toml.split(" = ").next().unwrap();
        let is_key = key != toml && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        match is_key || (toml.starts_with('[') && toml.ends_with(']')) {
            true => toml.to_owned(),
            false => line.to_owned(),
        }
    };
    EXAMPLE.lines().map(take).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_as_it_stands_is_all_defaults() {
    assert_eq!(
        toml::from_str::<Config>(EXAMPLE).unwrap(),
        Config::default()
    );
}

#[test]
fn every_default_in_the_example_is_the_default_of_the_program() {
    let defaults = uncommented("#");
    assert_eq!(
        toml::from_str::<Config>(&defaults).unwrap(),
        Config::default()
    );
    let shown: Table = defaults.parse().unwrap();
    let known = serde_json::to_value(Config::default()).unwrap();
    for (table, keys) in known.as_object().unwrap() {
        // Peers, hosts and roles are shown as examples.
        if ["peer", "host", "role"].contains(&table.as_str()) {
            continue;
        }
        let shown = shown
            .get(table)
            .unwrap_or_else(|| panic!("`{table}` is not shown"));
        for (key, default) in keys.as_object().into_iter().flatten() {
            let is_shown = shown.get(key).is_some();
            assert_eq!(is_shown, *default != Value::Null, "`{key}` in [{table}]");
        }
    }
}

#[test]
fn every_key_without_a_default_is_shown_as_an_example() {
    let keys = |value: &Value, only_null: bool| -> Vec<String> {
        let keys = value.as_object().unwrap().iter();
        keys.filter(|(_, value)| !only_null || value.is_null())
            .map(|(key, _)| key.clone())
            .collect()
    };
    let examples = uncommented("# ");
    let section = |from: &str, to: &str| -> Table {
        let start = examples.find(from).unwrap();
        let end = start + examples[start..].find(to).unwrap();
        examples[start..end].parse().unwrap()
    };
    let config = serde_json::to_value(Config::default()).unwrap();
    let mysql = section("\n[mysql]", "\n[[peer]]");
    for key in keys(&config["mysql"], true) {
        assert!(mysql["mysql"].get(&key).is_some(), "`{key}` in [mysql]");
    }
    let mha = section("\n[rejoin]", "\n[guard]");
    for table in ["rejoin", "mha", "ssh"] {
        for key in keys(&config[table], true) {
            assert!(mha[table].get(&key).is_some(), "`{key}` in [{table}]");
        }
    }
    for key in keys(&serde_json::to_value(Host::default()).unwrap(), false) {
        assert!(mha["host"]["db1"].get(&key).is_some(), "`{key}` in [host]");
    }
    let role: Role = toml::from_str("vip = []\non = 'replica'").unwrap();
    let shown = section("\n[role.reader]", "\n[mysql]");
    for key in keys(&serde_json::to_value(role).unwrap(), false) {
        assert!(
            shown["role"]["reader"].get(&key).is_some(),
            "`{key}` in [role]"
        );
    }
    let peer: Peer = toml::from_str("host = 'db2'").unwrap();
    let shown = section("\n[[peer]]", "\n[check]");
    for key in keys(&serde_json::to_value(peer).unwrap(), false) {
        assert!(shown["peer"][0].get(&key).is_some(), "`{key}` in [[peer]]");
    }
}

#[test]
fn every_example_parses() {
    let mut all: Table = uncommented("# ").parse().unwrap();
    let instances = all.remove("instance").unwrap();
    let config: Config = all.try_into().unwrap();
    assert_eq!(config.peer.len(), 1);
    assert_ne!(config.check.witness, [] as [String; 0]);
    for (_, instance) in instances.as_table().unwrap() {
        instance.clone().try_into::<Config>().unwrap();
    }
}

#[test]
fn every_key_in_the_example_has_a_line_above_it_that_says_why() {
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for pair in lines.windows(2) {
        let is_default = pair[1].strip_prefix('#').is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.contains(" = ")
        });
        if is_default {
            assert!(pair[0].starts_with("# "), "nothing above {}", pair[1]);
        }
    }
}
