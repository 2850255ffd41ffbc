//! `[role.NAME]`.

use std::time::Duration;

use hookbox::config::{Config, On};

use crate::{complaint, parse};

const READER: &str = "[role.reader]\nvip = [\"10.0.0.101/24 dev eth0\"]\n";

#[test]
fn the_addresses_of_all_roles_on_the_primary_belong_together() {
    let text = format!(
        "vip = ['10.0.0.100/24 dev eth0', '10.1.0.100/24 dev eth1']\n{READER}on = 'replica'
         [role.admin]\nvip = ['10.0.0.102/32 dev eth0']\non = 'primary'
         [role.report]\nvip = ['fd00::9/64 dev eth0']\non = ['db3', 'db2']\nor_primary = true
         max_lag = '30s'"
    );
    let config = parse(&text, None).unwrap();
    let on_primary = config.vips_of_primary().unwrap();
    let on_primary: Vec<String> = on_primary
        .iter()
        .map(|vip| vip.address.to_string())
        .collect();
    assert_eq!(on_primary, ["10.0.0.100", "10.1.0.100", "10.0.0.102"]);
    let roles = config.roles().unwrap();
    let names: Vec<&str> = roles.iter().map(|role| role.name).collect();
    assert_eq!(names, ["writer", "admin", "reader", "report"]);
    let report = &roles[3];
    assert_eq!(
        *report.on,
        On::Hosts(vec!["db3".to_owned(), "db2".to_owned()])
    );
    assert!(report.or_primary && report.max_lag == Duration::from_secs(30));
    assert!(Config::default().roles().unwrap().is_empty());
}

#[test]
fn a_role_that_cannot_be_meant_is_shown_in_one_message() {
    let cases = [
        ("", "`on` is missing in [role.reader]"),
        (
            "on = 'standby'",
            "unknown word `standby` for `on` in [role.reader]",
        ),
        ("on = []", "`on` is empty"),
        ("on = ['db2', 'db2']", "`on` has db2 twice"),
        (
            "on = 3",
            "expected \"primary\", \"replica\" or a list of hosts",
        ),
        (
            "on = 'primary'\nor_primary = true",
            "`or_primary` does nothing",
        ),
        ("on = 'primary'\nmax_lag = '1s'", "`max_lag` does nothing"),
        (
            "on = 'replica'\nmaxlag = '1s'",
            "unknown key `maxlag` in [role.reader]",
        ),
    ];
    for (rest, expected) in cases {
        let message = complaint(&format!("{READER}{rest}\n"), None);
        assert!(message.contains(expected), "{rest}: {message}");
    }
    let wrong = [
        (
            "vip = ['10.0.0.100 dev eth0']",
            "vip = [",
            "has no prefix length",
        ),
        (
            "vip = ['10.0.0.255/24 dev eth0']",
            "vip = [",
            "10.0.0.255 is the broadcast address of its subnet",
        ),
        (
            "[role.a]\nvip = ['10.0.0.0/24 dev eth0']\non = 'replica'",
            "vip = [",
            "10.0.0.0 is the network address of its subnet",
        ),
        (
            "vip = ['10.0.0.1/24 dev eth0', '10.0.0.1/32 dev lo']",
            "vip = [",
            "10.0.0.1 is there twice",
        ),
        (
            "[role.writer]\nvip = ['10.0.0.1/24 dev eth0']\non = 'primary'",
            "[role.writer]",
            "`writer` is the role of `vip`",
        ),
        (
            "[role.'a b']\nvip = ['10.0.0.1/24 dev eth0']\non = 'primary'",
            "[role.'a b']",
            "may only have a-z",
        ),
        (
            "[role.a]\nvip = []\non = 'primary'",
            "vip = []",
            "`vip` is empty",
        ),
        (
            "[[peer]]\nhost = 'a'\n[[peer]]\nhost = 'b'\nname = 'a'",
            "name = 'a'",
            "two of [[peer]] are called a",
        ),
    ];
    for (text, line, expected) in wrong {
        let message = complaint(text, None);
        assert!(
            message.contains(expected) && message.contains(line),
            "{text}: {message}"
        );
    }
}

#[test]
fn two_roles_do_not_share_an_address() {
    let text = format!("vip = ['10.0.0.101/32 dev eth1']\n{READER}on = 'replica'\n");
    let message = complaint(&text, None);
    let expected = "10.0.0.101 is an address of the role writer already";
    assert!(
        message.starts_with(&format!("hookbox.toml:3:8: {expected}")),
        "{message}"
    );
}

#[test]
fn an_address_that_no_host_can_have_comes_with_those_that_one_can() {
    let error = parse("vip = ['10.0.0.255/24 dev eth0']", None).unwrap_err();
    assert_eq!(error.advice(), Some("take one from 10.0.0.1 to 10.0.0.254"));
}
