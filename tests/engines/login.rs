//! Who is let in by the servers, and what can be heard of it on the way.

use std::path::PathBuf;
use std::time::Duration;

use hookbox::config::Tls;
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::error::{Kind, Result};
use hookbox::secret::{Encryption, Login, Password};
use hookbox::time::Deadline;
use mysql::prelude::Queryable;

use crate::engine::Engine;
use crate::site::Site;

const PASSWORD: &str = "it's a \\secret";

/// What db1 answers to somebody on db2, by TCP.
fn asked(site: &Site, login: Login, question: &str) -> Result<String> {
    let endpoint = Endpoint::Tcp(site.db1.address.clone(), 3306);
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            site.db2.host.enter_network();
            ask(endpoint, login, question)
        });
        inside.join().unwrap()
    })
}

fn ask(endpoint: Endpoint, login: Login, question: &str) -> Result<String> {
    let server = Server::new(endpoint, login, Deadline::after(Duration::from_secs(10)));
    let answer = server.ask(question)?;
    let row = answer.first().expect("a row");
    // `SHOW STATUS` has the value behind its name.
    Ok(row.at(1).or(row.at(0)).unwrap_or_default().to_owned())
}

fn login(user: &str, password: &str, tls: Tls, ca: Option<PathBuf>) -> Login {
    Login {
        user: user.to_owned(),
        password: Password::new(password),
        encryption: Encryption { tls, ca },
        ..Login::default()
    }
}

/// Asserts that an attempt fails in one line because of `what`, and that it is no silence.
fn assert_refused(result: Result<String>, what: &str) {
    let error = result.unwrap_err();
    let line = error.chain();
    assert!(line.contains(what), "{line}");
    assert_eq!(
        (error.kind(), line.lines().count()),
        (Kind::Denied, 1),
        "{line}"
    );
    assert!(error.advice().is_some(), "{line}");
}

pub fn tls_is_spoken_where_the_server_can(site: &mut Site) -> String {
    let ca = site.db1.host.path("/var/lib/mysql/ca.pem");
    let spoken = |tls, status: &str| {
        let login = login("hookbox", "change-me", tls, Some(ca.clone()));
        asked(site, login, &format!("SHOW STATUS LIKE '{status}'"))
    };
    assert_eq!(spoken(Tls::Off, "Ssl_cipher").unwrap(), "");
    let version = spoken(Tls::Preferred, "Ssl_version").unwrap();
    if version.is_empty() {
        assert_refused(spoken(Tls::Required, "Ssl_version"), "offers no TLS");
        return "none without certificates".to_owned();
    }
    assert_eq!(spoken(Tls::Required, "Ssl_version").unwrap(), version);
    if !ca.exists() {
        return version;
    }
    assert_eq!(spoken(Tls::VerifyCa, "Ssl_version").unwrap(), version);
    let named = spoken(Tls::VerifyIdentity, "Ssl_version");
    assert_refused(named, "has no subjectAltName");
    format!("{version}, verified by its own ca.pem")
}

/// An account on db1 that is there as long as this value.
struct Account<'a>(&'a Site, &'static str);

impl Account<'_> {
    /// `identified` is what follows its name, with `?` for the password.
    fn new<'a>(site: &'a Site, host: &'static str, identified: &str) -> Account<'a> {
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "''");
        let identified = identified.replace('?', &format!("'{password}'"));
        let account = Account(site, host);
        account.run(&[
            &format!("CREATE USER somebody@'{host}' {identified}"),
            &format!("GRANT PROCESS ON *.* TO somebody@'{host}'"),
        ]);
        account
    }

    fn run(&self, statements: &[&str]) {
        let mut root = self.0.db1.root();
        root.query_drop("SET SESSION sql_log_bin = 0").unwrap();
        for statement in statements {
            root.query_drop(statement).expect(statement);
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.run(&[&format!("DROP USER somebody@'{}'", self.1)]);
        }
    }
}

/// The ways of MySQL's and MariaDB's login plugins that are spoken here: how an account gets one, and
/// whether the server has it.
fn plugins(site: &Site) -> Vec<(&'static str, &'static str)> {
    let native = ("mysql_native_password", "IDENTIFIED BY ?");
    let sha256 = ("sha256_password", "IDENTIFIED WITH sha256_password BY ?");
    match site.engine {
        // Its sha256_password takes more than one statement to give it a password.
        Engine::MySql56 => vec![native],
        Engine::MySql57 => vec![native, sha256],
        Engine::MySql97 => vec![("caching_sha2_password", "IDENTIFIED BY ?"), sha256],
        _ => {
            let mut all = vec![native];
            if has(site, "ed25519", "auth_ed25519") {
                let identified = "IDENTIFIED VIA ed25519 USING PASSWORD(?)";
                all.push(("ed25519", identified));
            }
            if has(site, "parsec", "auth_parsec") {
                all.push(("parsec", "IDENTIFIED VIA parsec USING PASSWORD(?)"));
            }
            all
        }
    }
}

/// Whether db1 has a plugin, built in or in `library`, by either of the ways to load it.
fn has(site: &Site, plugin: &str, library: &str) -> bool {
    let mut root = site.db1.root();
    let _ = root.query_drop(format!("INSTALL SONAME '{library}'"));
    let _ = root.query_drop(format!("INSTALL PLUGIN {plugin} SONAME '{library}.so'"));
    let active = format!(
        "SELECT COUNT(*) FROM information_schema.PLUGINS
         WHERE PLUGIN_STATUS = 'ACTIVE' AND PLUGIN_NAME = '{plugin}'"
    );
    site.db1.ask(&active) == "1"
}

const WHO: &str = "SELECT CURRENT_USER()";

/// The unix socket of db1.
fn socket(site: &Site) -> Endpoint {
    Endpoint::Socket(site.db1.host.path("/run/mysqld/mysqld.sock"))
}

#[track_caller]
fn assert_let_in(result: Result<String>, account: &str) {
    assert_eq!(result.map_err(|e| e.chain()), Ok(account.to_owned()));
}

pub fn every_login_plugin_that_is_spoken_lets_in(site: &mut Site) -> String {
    let known = login("hookbox", "change-me", Tls::Required, None);
    let ways = match asked(site, known, WHO) {
        Ok(_) => vec![Tls::Off, Tls::Required],
        Err(_) => vec![Tls::Off],
    };
    let mut found = Vec::new();
    for (plugin, identified) in plugins(site) {
        let account = Account::new(site, "10.77.0.%", identified);
        for tls in &ways {
            let attempt = |password| asked(site, login("somebody", password, *tls, None), WHO);
            // MySQL's servers remember who has logged in by sha2, and then ask for less.
            account.run(&["FLUSH PRIVILEGES"]);
            for _ in 0..2 {
                assert_let_in(attempt(PASSWORD), "somebody@10.77.0.%");
            }
            let error = attempt("wrong").expect_err("another password");
            assert_eq!(error.server_code(), Some(1045), "{}", error.chain());
        }
        drop(account);
        let account = Account::new(site, "localhost", identified);
        account.run(&["FLUSH PRIVILEGES"]);
        for _ in 0..2 {
            let login = login("somebody", PASSWORD, Tls::Off, None);
            assert_let_in(ask(socket(site), login, WHO), "somebody@localhost");
        }
        found.push(plugin);
    }
    found.extend(by_the_socket_alone(site));
    found.join(", ")
}

/// The kernel tells the server who is at the other end of the socket, and there is no password.
fn by_the_socket_alone(site: &Site) -> Option<&'static str> {
    if site.engine.is_mariadb() {
        // Only an account of the same name as the user, who is root here.
        let mut root = site.db1.root();
        let mut run = |sql: &str| root.query_drop(sql).expect(sql);
        run("SET SESSION sql_log_bin = 0");
        run("ALTER USER root@localhost IDENTIFIED VIA unix_socket");
        let by_socket = ask(socket(site), login("root", "", Tls::Off, None), WHO);
        run("ALTER USER root@localhost IDENTIFIED BY ''");
        assert_let_in(by_socket, "root@localhost");
        return Some("unix_socket");
    }
    if !has(site, "auth_socket", "auth_socket") {
        return None;
    }
    let identified = "IDENTIFIED WITH auth_socket AS 'root'";
    let _account = Account::new(site, "localhost", identified);
    let login = login("somebody", "", Tls::Off, None);
    assert_let_in(ask(socket(site), login, WHO), "somebody@localhost");
    Some("auth_socket")
}

pub fn a_login_plugin_that_is_not_spoken_is_an_error_in_one_line(site: &mut Site) -> String {
    if !site.engine.is_mariadb() || !has(site, "pam", "auth_pam") {
        return "none here".to_owned();
    }
    let _account = Account::new(site, "10.77.0.%", "IDENTIFIED VIA pam");
    let login = login("somebody", PASSWORD, Tls::Preferred, None);
    assert_refused(asked(site, login, WHO), "which is not supported");
    "pam: refused".to_owned()
}
