//! Values that are each well formed and still cannot be meant.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, Mysql, OnLag, Peer, Require, Tls};
use crate::witness::Witness;

/// Clients wait while the neighbours are asked.
const LONGEST_PROBE: Duration = Duration::from_secs(1);

/// Keys that cannot be meant as they are.
pub struct Contradiction {
    /// In dotted form; the first that is given is the one to show.
    pub keys: Vec<String>,
    /// What is wrong with them.
    pub what: String,
    /// What to do about it, where that is not plain from it.
    pub advice: Option<String>,
}

/// The first contradiction in `config`.
pub fn contradiction(config: &Config) -> Option<Contradiction> {
    empty_or_zero(config)
        .or_else(|| limits(config))
        .or_else(|| losses(config))
        .or_else(|| network(config))
        .or_else(|| witnesses(config))
        .or_else(|| password_sources(config))
        .or_else(|| certificates(config))
        .or_else(|| relative_paths(config))
        .or_else(|| super::role::contradiction(config))
}

pub(super) fn found(keys: &[&str], what: impl Into<String>) -> Option<Contradiction> {
    Some(Contradiction {
        keys: keys.iter().map(|key| key.to_string()).collect(),
        what: what.into(),
        advice: None,
    })
}

fn empty_or_zero(config: &Config) -> Option<Contradiction> {
    let mut texts = vec![
        ("mysql.host".to_owned(), config.mysql.host.as_deref()),
        ("mysql.user".to_owned(), config.mysql.user.as_deref()),
        ("rejoin.user".to_owned(), config.rejoin.user.as_deref()),
        ("mha.user".to_owned(), config.mha.user.as_deref()),
        ("ssh.user".to_owned(), config.ssh.user.as_deref()),
    ];
    let mut ports = vec![("mysql.port".to_owned(), config.mysql.port)];
    for (n, peer) in config.peer.iter().enumerate() {
        texts.push((format!("peer.{n}.host"), Some(peer.host.as_str())));
        texts.push((format!("peer.{n}.user"), peer.user.as_deref()));
        ports.push((format!("peer.{n}.port"), peer.port));
    }
    let check = &config.check;
    let limits = [
        ("check.deadline", check.deadline),
        ("check.witness_limit", check.witness_limit),
        ("check.write_limit", check.write_limit),
        ("promote.limit", config.promote.limit),
        ("promote.peer_limit", config.promote.peer_limit),
        ("demote.limit", config.demote.limit),
        ("demote.stop_limit", config.demote.stop_limit),
        ("rejoin.limit", config.rejoin.limit),
        ("mha.limit", config.mha.limit),
        ("ssh.connect", config.ssh.connect),
        ("guard.limit", config.guard.limit),
    ];
    for (key, text) in texts {
        if text.is_some_and(|text| text.trim().is_empty()) {
            return found(&[&key], format!("`{}` is empty", last(&key)));
        }
    }
    for (key, port) in ports {
        if port == 0 {
            return found(&[&key], "`port` cannot be 0");
        }
    }
    for (key, limit) in limits {
        if limit.is_zero() {
            return found(&[key], format!("`{}` cannot be 0", last(key)));
        }
    }
    let rejoin = &config.rejoin;
    if rejoin.tls == Some(false) && rejoin.tls_ca.is_some() {
        return found(&["rejoin.tls_ca"], "`tls_ca` without `tls`");
    }
    let words: Vec<&str> = check.write_table.split('.').collect();
    if !check.write_table.is_empty() && (words.len() != 2 || words.contains(&"")) {
        return found(
            &["check.write_table"],
            "`write_table` must be `schema.table`",
        );
    }
    None
}

fn limits(config: &Config) -> Option<Contradiction> {
    let (check, demote) = (&config.check, &config.demote);
    let show = |limit: Duration| humantime::format_duration(limit).to_string();
    let deadline = ("check.deadline", check.deadline);
    let mut within = vec![
        (("check.confirm", check.confirm), deadline),
        (
            ("demote.grace", demote.grace),
            ("demote.limit", demote.limit),
        ),
    ];
    // The defaults of what is not asked contradict nothing.
    if !check.witness.is_empty() {
        within.push((("check.witness_limit", check.witness_limit), deadline));
    }
    if !check.write_table.is_empty() {
        within.push((("check.write_limit", check.write_limit), deadline));
    }
    let ((part, short), (whole, long)) =
        (within.into_iter()).find(|((_, part), (_, whole))| part >= whole)?;
    let what = format!(
        "`{}` ({}) must be shorter than `{}` ({})",
        last(part),
        show(short),
        last(whole),
        show(long)
    );
    found(&[part, whole], what)
}

fn network(config: &Config) -> Option<Contradiction> {
    let network = &config.network;
    if network.probe > LONGEST_PROBE {
        return found(&["network.probe"], "`probe` cannot be longer than 1s");
    }
    found(&["network.announce"], network.fault_of_announce()?)
}

fn witnesses(config: &Config) -> Option<Contradiction> {
    let faults = config
        .check
        .witness
        .iter()
        .map(|text| Witness::parse(text).err());
    let (n, fault) = (faults.enumerate()).find_map(|(n, fault)| Some((n, fault?)))?;
    found(&[&format!("check.witness.{n}")], fault.chain())
}

fn losses(config: &Config) -> Option<Contradiction> {
    let promote = &config.promote;
    let both = promote.require == Require::Proven && promote.on_lag == OnLag::Force;
    let what = "`require` = \"proven\" and `on_lag` = \"force\" exclude each other";
    both.then(|| found(&["promote.require", "promote.on_lag"], what))
        .flatten()
}

fn password_sources(config: &Config) -> Option<Contradiction> {
    let Mysql {
        password_file,
        password_env,
        ..
    } = &config.mysql;
    let (rejoin, mha) = (&config.rejoin, &config.mha);
    let mut logins = vec![
        ("mysql".to_owned(), password_file, password_env),
        (
            "rejoin".to_owned(),
            &rejoin.password_file,
            &rejoin.password_env,
        ),
        ("mha".to_owned(), &mha.password_file, &mha.password_env),
    ];
    for (n, peer) in config.peer.iter().enumerate() {
        logins.push((format!("peer.{n}"), &peer.password_file, &peer.password_env));
    }
    for (table, file, env) in logins {
        let env_key = format!("{table}.password_env");
        if let Some(name) = env {
            // Not repeated in the message: people put the password itself here.
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(fits) {
                return found(
                    &[&env_key],
                    "`password_env` must be the name of an environment variable",
                );
            }
            if file.is_some() {
                let what = "both `password_file` and `password_env` are given";
                return found(&[&env_key], what);
            }
        }
    }
    None
}

/// Nobody may believe that a server has to show who it is when it has not.
fn certificates(config: &Config) -> Option<Contradiction> {
    let (mysql, mha) = (&config.mysql, &config.mha);
    let usual = |peer: &Peer| match (peer.tls, mysql.tls.verifies()) {
        (Some(tls), _) => tls,
        (None, true) => mysql.tls,
        (None, false) => mha.tls,
    };
    let mut all = vec![
        ("mysql".to_owned(), mysql.tls, &mysql.tls_ca, false),
        ("mha".to_owned(), mha.tls, &mha.tls_ca, false),
    ];
    let elsewhere = mysql.tls_ca.is_some() || mha.tls_ca.is_some();
    for (n, peer) in config.peer.iter().enumerate() {
        all.push((format!("peer.{n}"), usual(peer), &peer.tls_ca, elsewhere));
    }
    for (table, tls, ca, elsewhere) in all {
        let (tls_key, ca_key) = (format!("{table}.tls"), format!("{table}.tls_ca"));
        if tls.verifies() && ca.is_none() && !elsewhere {
            let what = "`tls` is to verify the server, and there is no `tls_ca` to verify it by";
            return found(&[&tls_key], what);
        }
        if matches!(tls, Tls::Preferred | Tls::Required) && ca.is_some() {
            let what = "`tls_ca` does nothing unless `tls` is verify_ca or verify_identity";
            return found(&[&ca_key], what);
        }
    }
    None
}

/// keepalived starts hooks in `/`, people start them anywhere.
fn relative_paths(config: &Config) -> Option<Contradiction> {
    let (mysql, check, paths) = (&config.mysql, &config.check, &config.paths);
    let mut all = vec![
        ("mysql.socket".to_owned(), Some(&mysql.socket)),
        (
            "mysql.defaults_file".to_owned(),
            mysql.defaults_file.as_ref(),
        ),
        (
            "mysql.password_file".to_owned(),
            mysql.password_file.as_ref(),
        ),
        (
            "check.disk_path".to_owned(),
            Some(&check.disk_path).filter(|path| **path != Path::new("")),
        ),
        ("mysql.tls_ca".to_owned(), mysql.tls_ca.as_ref()),
        ("mha.tls_ca".to_owned(), config.mha.tls_ca.as_ref()),
        (
            "rejoin.defaults_file".to_owned(),
            config.rejoin.defaults_file.as_ref(),
        ),
        (
            "rejoin.password_file".to_owned(),
            config.rejoin.password_file.as_ref(),
        ),
        ("rejoin.tls_ca".to_owned(), config.rejoin.tls_ca.as_ref()),
        (
            "mha.defaults_file".to_owned(),
            config.mha.defaults_file.as_ref(),
        ),
        (
            "mha.password_file".to_owned(),
            config.mha.password_file.as_ref(),
        ),
        ("ssh.program".to_owned(), Some(&config.ssh.program)),
        ("ssh.hookbox".to_owned(), Some(&config.ssh.hookbox)),
        ("paths.run".to_owned(), Some(&paths.run)),
        ("paths.state".to_owned(), Some(&paths.state)),
        ("paths.journal".to_owned(), Some(&paths.journal)),
        ("paths.keepalived".to_owned(), Some(&paths.keepalived)),
        (
            "paths.keepalived_pid".to_owned(),
            Some(&paths.keepalived_pid),
        ),
    ];
    for (n, peer) in config.peer.iter().enumerate() {
        all.push((
            format!("peer.{n}.defaults_file"),
            peer.defaults_file.as_ref(),
        ));
        all.push((format!("peer.{n}.tls_ca"), peer.tls_ca.as_ref()));
        all.push((
            format!("peer.{n}.password_file"),
            peer.password_file.as_ref(),
        ));
    }
    let relative = |path: Option<&PathBuf>| path.is_some_and(|path| !path.is_absolute());
    let (key, _) = all.into_iter().find(|(_, path)| relative(*path))?;
    found(&[&key], format!("`{}` must begin with /", last(&key)))
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
