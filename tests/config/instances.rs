//! `[instance.NAME]`: what it takes from the tables above it, and what it has of its own.

use std::path::Path;
use std::time::Duration;

use hookbox::config::{Config, OnLag, instances};
use hookbox::verdict::Class;

use crate::scratch::Scratch;
use crate::{complaint, parse, write};

const TWO: &str = r#"
vip = ["10.0.0.5/24 dev eth0"]

[mysql]
socket = "/run/mysqld/mysqld.sock"
user = "ha"
password_env = "HA_PASSWORD"

[check]
deadline = "800ms"
pass_on = ["auth"]

[promote]
on_lag = "force"

[instance.orders]
vip = ["10.0.0.6/24 dev eth0", "10.0.0.7/24 dev eth0"]

[instance.orders.mysql]
host = "127.0.0.1"
port = 3308
password_file = "/etc/hookbox/orders.pw"

[instance.orders.check]
pass_on = []

[[instance.orders.peer]]
host = "db2"
port = 3308

[instance.third.paths]
run = "/run/third"
"#;

#[test]
fn an_instance_takes_from_the_shared_tables_what_it_does_not_give() {
    let shared = parse(TWO, None).unwrap();
    assert_eq!(shared.vip.len(), 1);
    assert_eq!(shared.peer, []);
    assert_eq!(shared.paths, Config::default().paths);

    let orders = parse(TWO, Some("orders")).unwrap();
    assert_eq!(orders.vip.len(), 2);
    assert_eq!(orders.mysql.port, 3308);
    assert_eq!(orders.mysql.user.as_deref(), Some("ha"));
    // One password source takes the place of another.
    assert_eq!(
        orders.mysql.password_file,
        Some("/etc/hookbox/orders.pw".into())
    );
    assert_eq!(orders.mysql.password_env, None);
    assert_eq!(orders.check.pass_on, [] as [Class; 0]);
    assert_eq!(orders.check.deadline, Duration::from_millis(800));
    assert_eq!(orders.promote.on_lag, OnLag::Force);
    assert_eq!(orders.peer[0].host, "db2");
}

#[test]
fn every_instance_has_its_own_state_unless_it_says_where() {
    let orders = parse(TWO, Some("orders")).unwrap().paths;
    assert_eq!(orders.run, Path::new("/run/hookbox/orders"));
    assert_eq!(orders.state, Path::new("/var/lib/hookbox/orders"));
    assert_eq!(orders.journal, Config::default().paths.journal);
    let third = parse(TWO, Some("third")).unwrap().paths;
    assert_eq!(third.run, Path::new("/run/third"));
    assert_eq!(third.state, Path::new("/var/lib/hookbox/third"));
}

#[test]
fn an_unknown_instance_is_told_the_known_ones() {
    assert_eq!(
        complaint(TWO, Some("order")),
        "hookbox.toml: no [instance.order]: known are orders, third"
    );
    assert_eq!(
        complaint("", Some("a")),
        "hookbox.toml: no [instance.a]: none is configured"
    );
    let dir = Scratch::new();
    let path = write(&dir, "hookbox.toml", TWO);
    assert_eq!(instances(Some(&path)).unwrap(), ["orders", "third"]);
}

#[test]
fn a_slip_in_an_instance_is_shown_in_its_own_lines_and_spares_the_others() {
    let text = format!("{TWO}\n[instance.orders.promote]\nlimits = \"60s\"\n");
    parse(&text, None).unwrap();
    parse(&text, Some("third")).unwrap();
    let line = text.lines().count();
    let expected = [
        format!("hookbox.toml:{line}:1: unknown key `limits` in [instance.orders.promote]"),
        format!("  {line} | limits = \"60s\""),
        "     | ^^^^^^ did you mean `limit`?".to_owned(),
    ];
    assert_eq!(complaint(&text, Some("orders")), expected.join("\n"));
    // A value that is wrong only together with a shared one.
    let text = "[check]\ndeadline = \"800ms\"\n[instance.a.check]\nconfirm = \"800ms\"\n";
    let message = complaint(text, Some("a"));
    assert!(
        message.starts_with("hookbox.toml:4:11: `confirm` (800ms)"),
        "{message}"
    );
    // The same key in both places: the instance's is the wrong one.
    let text = "[check]\nfence = true\n[instance.a.check]\nfence = 1\n";
    let message = complaint(text, Some("a"));
    assert!(
        message.starts_with("hookbox.toml:4:9: `fence` in [instance.a.check]"),
        "{message}"
    );
}

#[test]
fn an_instance_name_is_plain() {
    for (text, instance, what) in [
        (
            "[instance.\"../x\".mysql]",
            Some("../x"),
            "1:11: the instance name `../x`",
        ),
        ("instance = 3", None, "1:1: `instance` must hold"),
        ("instance.a = 3", Some("a"), "1:10: an instance must"),
    ] {
        let message = complaint(text, instance);
        assert!(
            message.starts_with(&format!("hookbox.toml:{what}")),
            "{message}"
        );
    }
}
