//! What a configuration file may say, and what is said when it is wrong.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../scratch/mod.rs"]
mod scratch;

mod instances;
mod roles;
mod sense;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookbox::config::{Config, load};
use hookbox::error::{Error, Kind};
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
