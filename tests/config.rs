//! What a configuration file may say, and what is said when it is wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod scratch;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookbox::config::{Config, On, OnLag, instances, load};
use hookbox::error::{Error, Kind};
use hookbox::verdict::Class;
use scratch::Scratch;

/// Writes a file that everybody may read.
fn write(dir: &Scratch, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

fn parse(text: &str, instance: Option<&str>) -> Result<Config, Error> {
    let dir = Scratch::new();
    load(Some(&write(&dir, "hookbox.toml", text)), instance)
}

/// The message for a wrong file, with the file's directory cut off.
fn complaint(text: &str, instance: Option<&str>) -> String {
    let error = parse(text, instance).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    let message = error.chain();
    let at = message.find("hookbox.toml").unwrap();
    message[at..].to_owned()
}

#[track_caller]
fn complains(text: &str, expected: &[&str]) {
    let expected = expected.join("\n");
    assert_eq!(complaint(text, None), expected, "\nof:\n{text}");
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(parse("", None).unwrap(), Config::default());
}

#[test]
fn a_named_file_that_is_missing_is_an_error() {
    let error = load(Some(Path::new("/nonexistent/hookbox.toml")), None).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(
        error
            .chain()
            .starts_with("/nonexistent/hookbox.toml: No such file")
    );
    assert!(error.advice().unwrap().contains("--config FILE"));
}

#[test]
fn a_fifo_or_a_directory_in_its_place_is_an_error_at_once() {
    let dir = Scratch::new();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [fifo.as_path(), dir.path()] {
        let error = load(Some(path), None).unwrap_err();
        assert!(
            error.chain().ends_with("not a regular file"),
            "{}",
            error.chain()
        );
    }
}

#[test]
fn an_unknown_key_is_shown_with_its_line_and_the_nearest_known_one() {
    complains(
        "[mysql]\nport = 3308\n\n[check]\n# soon\nconfirm = \"100ms\"\ndedline = \"900ms\"\n",
        &[
            "hookbox.toml:7:1: unknown key `dedline` in [check]",
            "  7 | dedline = \"900ms\"",
            "    | ^^^^^^^ did you mean `deadline`?",
        ],
    );
    complains(
        "[chek]\n",
        &[
            "hookbox.toml:1:2: unknown key `chek` at the top",
            "  1 | [chek]",
            "    |  ^^^^ did you mean `check`?",
        ],
    );
    complains(
        "[[peer]]\nhost = \"db2\"\n[[peer]]\nhost = \"db3\"\nprot = 3308\n",
        &[
            "hookbox.toml:5:1: unknown key `prot` in [peer]",
            "  5 | prot = 3308",
            "    | ^^^^ did you mean `port`?",
        ],
    );
    complains(
        "check = { deadline = \"900ms\", xyzzy = 3 }\n",
        &[
            "hookbox.toml:1:31: unknown key `xyzzy` in [check]",
            "  1 | check = { deadline = \"900ms\", xyzzy = 3 }",
            "    |                               ^^^^^",
        ],
    );
}

#[test]
fn what_must_be_a_list_is_said_as_people_say_it() {
    complains(
        "vip = \"10.0.0.5/24 dev eth0\"\n",
        &[
            "hookbox.toml:1:7: `vip`: invalid type: string \"10.0.0.5/24 dev eth0\", \
             expected a list in [ ]",
            "  1 | vip = \"10.0.0.5/24 dev eth0\"",
            "    |       ^^^^^^^^^^^^^^^^^^^^^^",
        ],
    );
}

#[test]
fn a_witness_that_cannot_be_asked_is_shown_where_it_stands() {
    complains(
        "[check]\nwitness = [\"10.0.0.1\", \"tcp:10.0.0.12\"]\n",
        &[
            "hookbox.toml:2:24: witness `tcp:10.0.0.12`: `10.0.0.12` is not an address with a port",
            "  2 | witness = [\"10.0.0.1\", \"tcp:10.0.0.12\"]",
            "    |                        ^^^^^^^^^^^^^^^",
        ],
    );
}

#[test]
fn a_file_that_is_no_text_is_an_error_that_says_so() {
    let dir = Scratch::new();
    let path = dir.path().join("binary");
    fs::write(&path, [0xff, 0xfe, 0x00, 0x9f]).unwrap();
    let error = load(Some(&path), None).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.chain().ends_with("not a text file (UTF-8)"));
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    complains(
        "[mysql]\nport = 3306\nvip = [\"10.0.0.5/24 dev eth0\"]\n",
        &[
            "hookbox.toml:3:1: unknown key `vip` in [mysql]",
            "  3 | vip = [\"10.0.0.5/24 dev eth0\"]",
            "    | ^^^ belongs above the first [table]",
        ],
    );
    complains(
        "forget_source = false\n",
        &[
            "hookbox.toml:1:1: unknown key `forget_source` at the top",
            "  1 | forget_source = false",
            "    | ^^^^^^^^^^^^^ belongs in [promote]",
        ],
    );
}

#[test]
fn a_wrong_type_or_word_is_shown_at_the_value() {
    complains(
        "[check]\ndeadline = 900\n",
        &[
            "hookbox.toml:2:12: `deadline` in [check]: invalid type: integer `900`, \
             expected a duration such as \"900ms\" or \"1m 30s\"",
            "  2 | deadline = 900",
            "    |            ^^^",
        ],
    );
    complains(
        "[check]\npass_on = [\"auth\", \"conections\"]\n",
        &[
            "hookbox.toml:2:20: unknown word `conections` for `pass_on` in [check]",
            "  2 | pass_on = [\"auth\", \"conections\"]",
            "    |                    ^^^^^^^^^^^^ did you mean `connections`?",
        ],
    );
    complains(
        "[promote]\non_lag = \"wait\"\n",
        &[
            "hookbox.toml:2:10: unknown word `wait` for `on_lag` in [promote]",
            "  2 | on_lag = \"wait\"",
            "    |          ^^^^^^ known are abort, force",
        ],
    );
    complains(
        "[mysql]\nport = 65536\n",
        &[
            "hookbox.toml:2:8: `port` in [mysql]: invalid value: integer `65536`, expected u16",
            "  2 | port = 65536",
            "    |        ^^^^^",
        ],
    );
    complains(
        "check = 3\n",
        &[
            "hookbox.toml:1:9: `check`: invalid type: integer `3`, expected a table",
            "  1 | check = 3",
            "    |         ^",
        ],
    );
    complains(
        "[[peer]]\nport = 3306\n",
        &[
            "hookbox.toml:1:1: `host` is missing in [peer]",
            "  1 | [[peer]]",
            "    | ^^^^^^^^",
        ],
    );
}

#[test]
fn a_duration_is_between_nothing_and_a_day() {
    let day = parse("[check]\nmax_lag = \"1day\"\n", None).unwrap();
    assert_eq!(day.check.max_lag, Duration::from_secs(86_400));
    let never = parse("[check]\nconfirm = \"0s\"\n", None).unwrap();
    assert_eq!(never.check.confirm, Duration::ZERO);
    complains(
        "[check]\nmax_lag = \"1day 1ms\"\n",
        &[
            "hookbox.toml:2:11: `max_lag` in [check]: longer than a day",
            "  2 | max_lag = \"1day 1ms\"",
            "    |           ^^^^^^^^^^",
        ],
    );
    for bad in [
        "-1s",
        "900",
        "900 ms ms",
        "",
        "9e9s",
        "99999999999999999999s",
    ] {
        let message = complaint(&format!("[check]\nmax_lag = \"{bad}\"\n"), None);
        assert!(
            message.starts_with("hookbox.toml:2:11: `max_lag` in [check]: "),
            "{message}"
        );
    }
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    complains(
        "[check\ndeadline = \"900ms\"\n",
        &[
            "hookbox.toml:1:7: unclosed table, expected `]`",
            "  1 | [check",
            "    |       ^",
        ],
    );
    complains(
        "[check]\nfence = true\nfence = false\n",
        &[
            "hookbox.toml:3:1: duplicate key",
            "  3 | fence = false",
            "    | ^^^^^",
        ],
    );
}

#[test]
fn contradictions_are_shown_at_one_of_their_keys() {
    complains(
        "[check]\ndeadline = \"500ms\"\nconfirm = \"500ms\"\n",
        &[
            "hookbox.toml:3:11: `confirm` (500ms) must be shorter than `deadline` (500ms)",
            "  3 | confirm = \"500ms\"",
            "    |           ^^^^^^^",
        ],
    );
    // The other side of the contradiction is a default.
    complains(
        "[check]\ndeadline = \"150ms\"\n",
        &[
            "hookbox.toml:2:12: `confirm` (200ms) must be shorter than `deadline` (150ms)",
            "  2 | deadline = \"150ms\"",
            "    |            ^^^^^^^",
        ],
    );
    complains(
        "[[peer]]\nhost = \"db2\"\n\n[[peer]]\nhost = \" \"\n",
        &[
            "hookbox.toml:5:8: `host` is empty",
            "  5 | host = \" \"",
            "    |        ^^^",
        ],
    );
    complains(
        "[paths]\nrun = \"run\"\n",
        &[
            "hookbox.toml:2:7: `run` must begin with /",
            "  2 | run = \"run\"",
            "    |       ^^^^^",
        ],
    );
    for (text, what) in [
        ("[mysql]\nport = 0", "2:8: `port` cannot be 0"),
        (
            "[network]\nprobe = '2s'",
            "2:9: `probe` cannot be longer than 1s",
        ),
        (
            "[network]\nannounce = [200]",
            "2:12: `announce` must begin with 0",
        ),
        (
            "[network]\nannounce = [0, 9, 9]",
            "2:12: `announce` must be in ascending order",
        ),
        (
            "[network]\nannounce = [0, 60001]",
            "2:12: `announce` goes beyond 60000 ms",
        ),
        (
            "[mysql]\ntls = 'verify_ca'",
            "2:7: `tls` is to verify the server, and there is no `tls_ca`",
        ),
        (
            "[[peer]]\nhost = 'db2'\ntls = 'verify_identity'",
            "3:7: `tls` is to verify the server, and there is no `tls_ca`",
        ),
        (
            "[mysql]\ntls_ca = '/ca.pem'",
            "2:10: `tls_ca` does nothing unless `tls` is",
        ),
        (
            "[[peer]]\nhost = 'db2'\ntls_ca = '/ca.pem'",
            "3:10: `tls_ca` does nothing unless `tls` is",
        ),
        (
            "[mha]\ntls = 'verify_ca'\ntls_ca = 'ca.pem'",
            "3:10: `tls_ca` must begin with /",
        ),
        (
            "[check]\ndeadline = \"0s\"\nconfirm=\"0s\"",
            "2:12: `deadline` cannot be 0",
        ),
        (
            "[check]\nwrite_table = \"heartbeat\"",
            "2:15: `write_table` must be",
        ),
        (
            "[check]\nwrite_table = \"a.b.c\"",
            "2:15: `write_table` must be",
        ),
        (
            "[demote]\ngrace = \"10s\"",
            "2:9: `grace` (10s) must be shorter than `limit` (10s)",
        ),
        (
            "[check]\nwrite_table = \"a.b\"\nwrite_limit = \"1s\"",
            "3:15: `write_limit` (1s) must be shorter than `deadline` (700ms)",
        ),
        (
            "[check]\nwitness = [\"10.0.0.1\"]\nwitness_limit = \"1s\"",
            "3:17: `witness_limit` (1s) must be shorter than `deadline` (700ms)",
        ),
        (
            "[mysql]\npassword_file = \"/p\"\npassword_env = \"P\"",
            "3:16: both `password_file` and",
        ),
        (
            "[mysql]\npassword_file = \"p\"",
            "2:17: `password_file` must begin with /",
        ),
        ("[mysql]\nuser = \"\"", "2:8: `user` is empty"),
    ] {
        let message = complaint(text, None);
        assert!(
            message.starts_with(&format!("hookbox.toml:{what}")),
            "{message}"
        );
    }
}

#[test]
fn a_limit_of_what_is_not_asked_contradicts_nothing() {
    let text = "[check]\ndeadline = \"300ms\"\n[demote]\ngrace = \"2s\"\n";
    parse(text, None).unwrap();
}

#[test]
fn a_password_in_the_configuration_is_never_repeated() {
    for text in [
        "[mysql]\npassword = \"s3cret\"\n",
        "mysql = { password = 's3cret' }\n",
        "[mysql]\npassword = 's3cret\n",
        "[mysql]\npassword_env = \"s3cret!\"\n",
        "[mysql]\npassword_env = ['s3cret']\n",
        "[[peer]]\nhost = 'x'\npassword = 's3cret'\n",
    ] {
        let message = complaint(text, None);
        assert!(!message.contains("s3cret"), "{message}");
    }
    complains(
        "[mysql]\npassword = \"s3cret\"\n",
        &[
            "hookbox.toml:2:1: unknown key `password` in [mysql]",
            "  2 | password = ***",
            "    | ^ it stands in a file of its own: `password_file`",
        ],
    );
}

#[test]
fn every_variable_with_a_password_is_known_whoever_it_is_for() {
    let text = "[mysql]\npassword_env = 'A'\n[mha]\npassword_env = 'B'\n\
                [[peer]]\nhost = 'x'\npassword_env = 'C'\n\
                [instance.one.mysql]\npassword_env = 'D'\n\
                [[instance.two.peer]]\nhost = 'y'\npassword_env = 'E'\n";
    for instance in [None, Some("one")] {
        let mut withheld = parse(text, instance).unwrap().ssh.withheld;
        withheld.sort();
        assert_eq!(withheld, ["A", "B", "C", "D", "E"]);
    }
}

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

#[test]
fn an_option_file_says_how_to_reach_the_server_where_the_configuration_does_not() {
    let dir = Scratch::new();
    let client = write(
        &dir,
        "my.cnf",
        "[client]\nhost=10.0.0.9\nport=3308\nsocket=/run/x.sock\n",
    );
    let with = |more: &str| {
        let text = format!("[mysql]\ndefaults_file = \"{}\"\n{more}", client.display());
        parse(&text, None).unwrap().mysql
    };
    let mysql = with("");
    assert_eq!(
        (mysql.host.as_deref(), mysql.port),
        (Some("10.0.0.9"), 3308)
    );
    assert_eq!(mysql.socket, Path::new("/run/x.sock"));
    let mysql = with("socket = \"/run/y.sock\"\nport = 3309\n");
    assert_eq!((mysql.host, mysql.port), (None, 3309));
    assert_eq!(mysql.socket, Path::new("/run/y.sock"));

    let text = format!(
        "[[peer]]\nhost = \"db2\"\ndefaults_file = \"{}\"\n",
        client.display()
    );
    assert_eq!(parse(&text, None).unwrap().peer[0].port, 3308);
    let text = "[mysql]\ndefaults_file = \"/nonexistent/my.cnf\"\n";
    assert_eq!(parse(text, None).unwrap_err().kind(), Kind::Config);
}

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
