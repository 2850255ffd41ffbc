use std::process::Command as Process;

use super::*;

fn parse(words: &[&str]) -> ArgMatches {
    let command = command("master_ip_failover");
    let words: Vec<OsString> = [&["hook"], words]
        .concat()
        .iter()
        .map(OsString::from)
        .collect();
    let tidied = tidy(&command, &words);
    command.try_get_matches_from(tidied).unwrap()
}

fn read(words: &[&str]) -> Call {
    Call::read(&parse(words)).unwrap()
}

fn complaint(words: &[&str]) -> String {
    let error = Call::read(&parse(words)).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    error.chain()
}

const ORIG: [&str; 3] = [
    "--orig_master_host=db1",
    "--orig_master_ip=10.77.0.11",
    "--orig_master_port=3306",
];

fn with_orig<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&ORIG, words].concat()
}

#[test]
fn a_failover_start_as_mha_calls_it() {
    let call = read(&[
        "--command=start",
        "--ssh_user=root",
        "--orig_master_host=db1",
        "--orig_master_ip=10.77.0.11",
        "--orig_master_port=3306",
        "--new_master_host=db2",
        "--new_master_ip=10.77.0.12",
        "--new_master_port=3307",
        "--new_master_user=mha2",
        "--orig_master_ssh_host=db1-ssh",
        "--orig_master_ssh_ip=10.77.1.11",
        "--orig_master_ssh_port=2222",
        "--ssh_options=-o ServerAliveInterval=60  -i /root/.ssh/id_ed25519",
        "--new_master_ssh_host=db2-ssh",
        "--new_master_password=a\\ b'c\\\"d\\$e\\!f\\\\g\\;h\\&i\\*\\(j\\)",
    ]);
    assert_eq!(call.order, Order::Start);
    let options = [
        "-o",
        "ServerAliveInterval=60",
        "-i",
        "/root/.ssh/id_ed25519",
    ];
    let expected = Side {
        name: "db2".to_owned(),
        address: "10.77.0.12".to_owned(),
        port: 3307,
        ssh: Place {
            name: "db2".to_owned(),
            address: "db2-ssh".to_owned(),
            user: Some("root".to_owned()),
            port: None,
            options: options.map(str::to_owned).to_vec(),
        },
    };
    assert_eq!(call.new, Some(expected));
    assert_eq!(call.orig.ssh.address, "10.77.1.11");
    assert_eq!(call.orig.ssh.port, Some(2222));
    assert_eq!(call.orig_login, None);
    let login = call.new_login.unwrap();
    assert_eq!(login.user, "mha2");
    assert_eq!(login.password.reveal(), r#"a b'c"d$e!f\g;h&i*(j)"#);
    assert!(login.otherwise.is_some());
}

#[test]
fn an_online_change_as_mha_calls_it() {
    let call = read(&[
        "--command=stop",
        "--orig_master_host=db1",
        "--orig_master_ip=10.77.0.11",
        "--orig_master_port=3306",
        "--orig_master_user=mha",
        "--new_master_host=db2",
        "--new_master_ip=10.77.0.12",
        "--new_master_port=3306",
        "--new_master_user=mha",
        "--orig_master_ssh_user=one",
        "--new_master_ssh_user=two",
        "--orig_master_is_new_slave",
        "--orig_master_password=mhapass",
        "--new_master_password=",
    ]);
    assert_eq!(call.order, Order::Stop);
    assert!(call.orig_becomes_replica);
    assert_eq!(call.orig.ssh.user.as_deref(), Some("one"));
    assert_eq!(call.new.unwrap().ssh.user.as_deref(), Some("two"));
    let login = call.orig_login.unwrap();
    assert_eq!(
        (login.user.as_str(), login.password.reveal()),
        ("mha", "mhapass")
    );
    assert_eq!(login.otherwise, None);
    assert_eq!(call.new_login, None);
}

#[test]
fn a_failover_stop_has_neither_account_nor_ssh_user() {
    let call = read(&with_orig(&["--command=stop"]));
    assert_eq!((call.order, call.orig.ssh.user), (Order::Stop, None));
    assert_eq!((call.new, call.orig_login), (None, None));
}

#[test]
fn options_may_be_written_in_every_way_that_perl_takes() {
    let call = read(&[
        "-Orig_Master_Host",
        "db0",
        "--pid_file=/run/x.pid",
        "--orig_master_h=db1",
        "--ssh_user",
        "",
        "--orig_master_is_new_slave=1",
        "--new_master_",
        "stray",
        "--",
        "--COMMAND=start",
        "--new_master_host=db2",
        "--new_master_user=u",
        "--new_master_password",
        "-secret",
        "--frobnicate",
        "--new_master_port=",
        "--config=/etc/app1.toml",
        "--dry",
    ]);
    assert_eq!((call.orig.name.as_str(), call.orig.port), ("db1", 3306));
    assert_eq!(call.orig.ssh.address, "db1");
    assert_eq!(call.orig.ssh.user, None);
    assert!(call.orig_becomes_replica);
    assert_eq!(call.new.unwrap().name, "db2");
    assert_eq!(call.new_login.unwrap().password.reveal(), "-secret");
}

#[test]
fn own_options_are_taken_beside_those_of_mha() {
    let matches = parse(&["--instance", "a", "--dry-run", "--config=b", "--config=c"]);
    assert!(matches.get_flag("dry-run"));
    assert_eq!(matches.get_one::<String>("instance").unwrap(), "a");
    let config = matches.get_one::<std::path::PathBuf>("config").unwrap();
    assert_eq!(config.to_str(), Some("c"));
}

#[test]
fn what_is_missing_or_wrong_is_said_in_one_line() {
    assert_eq!(complaint(&ORIG), "--command is missing");
    assert_eq!(
        complaint(&["--command=status"]),
        "--orig_master_host is missing"
    );
    let start = with_orig(&["--command=start"]);
    assert_eq!(complaint(&start), "--new_master_host is missing");
    let go = with_orig(&["--command=go"]);
    assert_eq!(
        complaint(&go),
        "--command=go: not status, stop, stopssh or start"
    );
    let port = with_orig(&["--command=status", "--orig_master_port=0"]);
    assert_eq!(complaint(&port), "--orig_master_port=0: no port");
    let same = [
        "--command=stop",
        "--new_master_host=x",
        "--new_master_ip=10.77.0.11",
    ];
    assert_eq!(
        complaint(&with_orig(&same)),
        "old and new primary are the same server, 10.77.0.11:3306"
    );
}

#[test]
fn the_configuration_goes_before_what_mha_passes() {
    let call = read(&with_orig(&[
        "--command=stop",
        "--orig_master_ssh_user=mha",
        "--orig_master_ssh_port=2222",
        "--new_master_ip=10.77.0.12",
        "--new_master_user=u",
        "--new_master_password=p",
    ]));
    let config: Config = toml::from_str(
        "[mha]\nuser = 'v'\n[ssh]\nuser = 'hookbox'\nport = 22\n[host.db1]\nssh_port = 2200\n\
         ssh_host = 'db1-ssh'\n['host'.'10.77.0.12']\nssh_user = 'root'",
    )
    .unwrap();
    let call = call.configured(&config).unwrap();
    let ssh = call.orig.ssh;
    assert_eq!((ssh.address.as_str(), ssh.port), ("db1-ssh", Some(2200)));
    assert_eq!(ssh.user.as_deref(), Some("hookbox"));
    let ssh = call.new.unwrap().ssh;
    assert_eq!((ssh.address.as_str(), ssh.port), ("10.77.0.12", Some(22)));
    assert_eq!(ssh.user.as_deref(), Some("root"));
    let login = call.new_login.unwrap();
    assert_eq!((login.user.as_str(), login.password.reveal()), ("v", "p"));
    assert_eq!(call.orig_login, None);
}

/// What MHA's `escape_for_shell` makes of a value.
fn escape_for_shell(value: &str) -> String {
    let mut escaped = String::from("'");
    for c in value.chars() {
        match c {
            '\'' => escaped.push_str("'\\''"),
            '\\' => escaped.push_str("\\\\"),
            c if ESCAPED.contains(c) => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped + "'"
}

#[test]
fn unescaping_takes_back_what_mha_and_the_shell_do_to_a_password() {
    let alphabet: Vec<char> = ESCAPED.chars().chain("'\\a\n".chars()).collect();
    let longer = |words: &[String]| -> Vec<String> {
        let pairs = words
            .iter()
            .flat_map(|word| alphabet.iter().map(move |c| (word, c)));
        pairs.map(|(word, c)| format!("{word}{c}")).collect()
    };
    let one = longer(&[String::new()]);
    let two = longer(&one);
    let three = longer(&two);
    let all = [one, two, three].concat();
    assert_eq!(all.len(), 18_278);
    for batch in all.chunks(2000) {
        let words: Vec<String> = batch.iter().map(|word| escape_for_shell(word)).collect();
        let script = format!("printf '%s\\0' {}", words.join(" "));
        let shell = Process::new("/bin/sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        let passed = String::from_utf8(shell.stdout).unwrap();
        let passed: Vec<&str> = passed.trim_end_matches('\0').split('\0').collect();
        assert_eq!(passed.len(), batch.len());
        for (passed, password) in passed.into_iter().zip(batch) {
            assert_eq!(unescape(passed), *password, "{passed}");
        }
    }
}
