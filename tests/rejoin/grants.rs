//! What `grants` prints is enough, and is what the other tests run with.

use std::process::Command;

use crate::lab::{Replication, Server};
use crate::site::{Site, run_by_hand, succeed, told};
use crate::{DB1, DB2, assert_follows, rejoined, site};

const PATH: &str = "/etc/hookbox/hookbox.toml";

#[test]
fn the_accounts_of_the_examples_are_what_it_prints() {
    for (folder, whom) in [("keepalived", "mysql"), ("mha", "mha")] {
        let example = format!("{}/examples/{folder}", env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(env!("CARGO_BIN_EXE_hookbox"))
            .args(["grants", "--version", "10.11.6-MariaDB", "--for", whom])
            .args(["--from", "10.77.0.%"])
            .arg(format!("--config={example}/hookbox.toml"))
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let kept = std::fs::read_to_string(format!("{example}/account.sql")).unwrap();
        assert_eq!(printed, kept, "{folder}");
    }
}

#[test]
fn promoting_closing_checking_fencing_and_rejoining_need_no_more_than_it_prints() {
    site!(site, Replication::Gtid);
    for server in [&site.db1, &site.db2] {
        accounts(site, server);
    }
    site.write_events(1, 20);
    site.wait_until_applied();
    let check = |server: &Server| {
        let (status, stdout, stderr) = run_by_hand(server, &["check_mysql"]);
        assert_eq!(status, 0, "{stdout}{stderr}");
    };
    check(&site.db1);
    check(&site.db2);
    // db1 still takes writes, and is closed from db2.
    succeed(&site.db2, &["notify_master"]);
    assert!(!site.db1.is_writable(), "{}", told(&site.db2));
    site.db2.sql("INSERT INTO lab.e VALUES (9001, 'after')");
    let all = rejoined(&site.db1, DB2);
    assert_follows(&site.db1, &site.db2, &all);
    succeed(&site.db2, &["fence"]);
    succeed(&site.db1, &["notify_master"]);
    let all = rejoined(&site.db2, DB1);
    assert_follows(&site.db2, &site.db1, &all);
    check(&site.db2);
    for server in [&site.db1, &site.db2] {
        let all = told(server);
        for refusal in ["denied", "error 1227", "error 1045"] {
            assert!(!all.contains(refusal), "{all}");
        }
    }
}

#[test]
fn a_version_that_cannot_be_asked_or_read_is_one_clear_line() {
    site!(site, Replication::Gtid);
    let (status, stdout, stderr) = run_by_hand(&site.db1, &["grants", "--version", "new"]);
    assert_eq!((status, stdout.as_str()), (2, ""), "{stderr}");
    site.db1.stop();
    let (status, stdout, stderr) = run_by_hand(&site.db1, &["grants"]);
    assert_eq!((status, stdout.as_str()), (3, ""), "{stderr}");
    assert!(stderr.contains("--version 10.11.6-MariaDB"), "{stderr}");
}

/// Makes the accounts `least` and `puller` on `server` by what it prints there, and uses them.
fn accounts(site: &Site, server: &Server) {
    let peer = match server.id {
        1 => &site.db2.address,
        _ => &site.db1.address,
    };
    let toml = format!(
        "[mysql]\nuser = \"least\"\npassword_file = \"/etc/hookbox/password\"\n\
         [[peer]]\nhost = \"{peer}\"\n\
         [rejoin]\nuser = \"puller\"\npassword_file = \"/etc/hookbox/password\"\n"
    );
    server.host.write(PATH, toml, 0o644);
    // By the account of the other tests, since `least` is not there to ask by.
    let version = server.ask("SELECT VERSION()");
    server.host.sh(&format!(
        "(echo 'SET sql_log_bin = 0;'
          for account in least@localhost least@{peer} puller@{peer}; do
              echo \"DROP USER IF EXISTS $account;\"
          done
          hookbox grants --version {version} --events
          hookbox grants --version {version} --for replication) > /tmp/accounts.sql
         mariadb --abort-source-on-error < /tmp/accounts.sql"
    ));
}
