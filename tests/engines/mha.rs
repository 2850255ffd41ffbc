//! The hooks of an online change of MHA where there is no virtual address: writes, sessions and
//! accounts, with MHA's own words and its own kind of account.

use mysql::prelude::Queryable;

use crate::server::Server;
use crate::site::{Site, told};

const STATE: &str = "[mha]\nno_vip = true\nlock_accounts = ['app@localhost']\n";

/// What `undo`, to which MHA passes no account, needs besides.
const ACCOUNT: &str = "user = 'mha'\npassword_file = '/etc/hookbox/mha.password'\n";

const PASSWORD: &str = "it's $ecret";

/// `$ecret` and the blank as MHA escapes them, without the shell's quotes.
const ESCAPED: &str = "it's\\ \\$ecret";

/// Runs an applet on the host of db2; gives what it said.
fn hookbox(site: &Site, words: &[&str]) -> String {
    let mut command = site.db2.host.command("/usr/sbin/hookbox");
    let output = command.args(words).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words:?}: {said}");
    assert!(!said.contains("ecret"), "{said}");
    said
}

fn online_change(site: &Site, order: &str) {
    let mut words = vec!["master_ip_online_change".to_owned()];
    words.push(format!("--command={order}"));
    for (which, server) in [("orig", &site.db1), ("new", &site.db2)] {
        let address = &server.address;
        for (what, value) in [
            ("host", address.as_str()),
            ("ip", address),
            ("port", "3306"),
            ("user", "mha"),
            ("ssh_user", "root"),
            ("password", ESCAPED),
        ] {
            words.push(format!("--{which}_master_{what}={value}"));
        }
    }
    words.push("--orig_master_is_new_slave".to_owned());
    hookbox(site, &words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// MHA's account, with the rights that its manual asks for: all.
fn let_mha_in(server: &Server) {
    let mut root = server.root();
    for sql in [
        "SET GLOBAL read_only = 0",
        "SET SESSION sql_log_bin = 0",
        "DROP USER IF EXISTS mha@'10.77.0.%'",
        &format!("CREATE USER mha@'10.77.0.%' IDENTIFIED BY \"{PASSWORD}\""),
        "GRANT ALL PRIVILEGES ON *.* TO mha@'10.77.0.%'",
    ] {
        // MySQL 5.6 has no IF EXISTS, and no such account the first time.
        let result = root.query_drop(sql);
        assert!(
            result.is_ok() || sql.starts_with("DROP"),
            "{sql}: {result:?}"
        );
    }
    server
        .host
        .write("/etc/hookbox/mha.password", PASSWORD, 0o600);
}

/// All that it has written to its binary log.
fn logged(server: &Server) -> Vec<Vec<String>> {
    server.sql(server.engine.binlog_status())
}

fn app_can_log_in(server: &Server) -> bool {
    server.connect("app", Some("apppass")).is_ok()
}

fn insert(server: &Server, id: u32) -> mysql::Result<()> {
    let insert = format!("INSERT INTO lab.e VALUES ({id}, 'mha')");
    server.connect("app", Some("apppass"))?.query_drop(insert)
}

/// Whether it is as closed as this engine can be.
fn is_closed(site: &Site, server: &Server) -> bool {
    let variable = match site.has_super_read_only() {
        true => "super_read_only",
        false => "read_only",
    };
    server.ask(&format!("SELECT @@global.{variable}")) == "1"
}

pub fn an_online_change_of_mha_is_undone_and_done(site: &mut Site) -> String {
    for server in [&site.db1, &site.db2] {
        let_mha_in(server);
    }
    let close = match site.has_super_read_only() {
        true => "SET GLOBAL super_read_only = 1",
        false => "SET GLOBAL read_only = 1",
    };
    site.db2.sql(close);
    insert(&site.db1, 1).unwrap();
    site.db2.wait_until_applied(&site.db1, "");
    let before = (logged(&site.db1), logged(&site.db2));

    site.configure(STATE);
    let mut idle = site.db1.app();
    online_change(site, "stop");
    assert!(is_closed(site, &site.db1) && is_closed(site, &site.db2));
    assert!(!app_can_log_in(&site.db1) && app_can_log_in(&site.db2));
    assert!(idle.query_drop("SELECT 1").is_err());

    site.configure(&format!("{STATE}{ACCOUNT}"));
    hookbox(site, &["undo"]);
    assert!(site.db1.is_writable() && is_closed(site, &site.db2));
    assert!(app_can_log_in(&site.db1), "{}", told(&site.db2));
    assert_eq!((logged(&site.db1), logged(&site.db2)), before);

    site.configure(STATE);
    online_change(site, "stop");
    assert!(!app_can_log_in(&site.db1));
    online_change(site, "start");
    assert!(is_closed(site, &site.db1) && site.db2.is_writable());
    assert_eq!((logged(&site.db1), logged(&site.db2)), before);
    assert!(insert(&site.db1, 2).is_err());
    insert(&site.db2, 2).unwrap();
    assert!(app_can_log_in(&site.db1), "{}", told(&site.db2));
    "undone, then done; not in the binary log".to_owned()
}
