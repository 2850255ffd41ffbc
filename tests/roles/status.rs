//! What `hookbox status` and `hookbox vip status` tell, in every form.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::VIP;
use crate::site::{CONFIG, PATIENT, READER, Said, Site, TOML, put_on, run, take_vip_off};

/// One limit for all hosts, and what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(2);
const BUSY: Duration = Duration::from_secs(4);

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.text).unwrap_or_else(|e| panic!("{e}: {}", said.text))
}

fn vip<'a>(status: &'a Value, address: &str) -> &'a Value {
    let vips = status["vips"].as_array().unwrap();
    let is_it = |vip: &&Value| vip["vip"].as_str().unwrap().starts_with(address);
    vips.iter().find(is_it).unwrap()
}

fn host<'a>(status: &'a Value, name: &str) -> &'a Value {
    let hosts = status["hosts"].as_array().unwrap();
    hosts.iter().find(|host| host["host"] == name).unwrap()
}

#[test]
fn every_address_is_told_with_its_host_its_server_and_whether_that_is_right() {
    let Some(site) = Site::new() else { return };
    for number in [1, 2, 3] {
        let said = site.run(number, &["vip", "status", "--json", PATIENT]);
        said.assert(0, &[]);
        let status = json(&said);
        for (address, on) in [(VIP, "db1"), ("10.77.0.102", "db1"), (READER, "db3")] {
            let vip = vip(&status, address);
            assert_eq!(vip["here"], on == format!("db{number}"), "{status}");
            assert_eq!(vip["on"], serde_json::json!([on]), "{status}");
            for key in ["server", "expected"] {
                assert_eq!(vip[key], on, "{key}: {status}");
            }
            assert_eq!(vip["answers"], true, "{status}");
            assert_eq!(vip["writable"], on == "db1", "{status}");
            assert_eq!(vip["wrong"], Value::Null, "{status}");
        }
        assert_eq!(host(&status, "db1")["role"], "primary");
        assert_eq!(host(&status, "db2")["replicates"], true);
        assert_eq!(host(&status, "db3")["lag_seconds"], 0);
        let has = serde_json::json!([VIP, "10.77.0.102"]);
        assert_eq!(host(&status, "db1")["has"], has, "{status}");
    }
    // The manager has no server and no addresses, and asks by MHA's account and by ssh.
    let said = run(&site.cluster().manager, &["vip", "status", PATIENT]);
    let line = format!("vip {VIP}/24 dev eth0: not here, on db1 (");
    said.assert(0, &[&line, "db1 answers, writes open"]);
}

#[test]
fn without_ssh_the_network_tells_where_an_address_is() {
    let Some(site) = Site::new() else { return };
    let (first, rest) = CONFIG.split_once("[mha]").unwrap();
    let rest = rest.split_once("[check]").unwrap().1;
    site.configure(&format!("{first}[check]{rest}"));
    let status = json(&site.run(2, &["vip", "status", "--json", PATIENT]));
    let writer = vip(&status, VIP);
    assert_eq!(writer["mac_of"], "db1", "{status}");
    assert_eq!(writer["on"], serde_json::json!([]), "{status}");
    let address = site.db(1).host.read("/sys/class/net/eth0/address");
    assert_eq!(writer["mac"].as_str().unwrap(), address.trim());
    assert_eq!(host(&status, "db1")["has"], Value::Null);
    assert_eq!(writer["wrong"], Value::Null, "{status}");
}

#[test]
fn an_address_in_the_wrong_place_is_told_by_people_json_and_nagios() {
    let Some(site) = Site::new() else { return };
    let nagios = |words: &str, status: i32| {
        let said = site.run(2, &["vip", "status", "--format", "nagios", PATIENT]);
        said.assert(status, &[words]);
        assert_eq!(said.text.lines().count(), 1, "{}", said.text);
        let (_, perfdata) = said.text.split_once('|').unwrap();
        assert!(perfdata.contains("'lag db3'=0s;;;0;"), "{perfdata}");
    };
    nagios("HOOKBOX OK - writer 10.77.0.100 on db1, ", 0);

    // A reader on the primary serves, though not where it should.
    let db3 = &site.db(3).host;
    db3.sh(&format!("ip addr del {READER}/24 dev eth0"));
    put_on(&site.db(1).host, READER);
    nagios(
        "HOOKBOX WARNING - reader 10.77.0.101: it is on db1 and belongs on db2",
        1,
    );
    site.db(1)
        .host
        .sh(&format!("ip addr del {READER}/24 dev eth0"));
    nagios(
        "HOOKBOX CRITICAL - reader 10.77.0.101: nobody has it; it belongs on db2",
        2,
    );
    put_on(db3, READER);

    take_vip_off(&site.db(1).host);
    put_on(db3, VIP);
    nagios(
        "HOOKBOX CRITICAL - writer 10.77.0.100: it is on db3 and belongs on db1",
        2,
    );
    let said = site.run(2, &["vip", "status", PATIENT]);
    said.assert(3, &["  WRONG: it is on db3 and belongs on db1"]);

    put_on(&site.db(1).host, VIP);
    let said = site.run(1, &["vip", "status", PATIENT]);
    said.assert(3, &["WRONG: more than one host has it: db1, db3"]);
    let broken = site.run(
        1,
        &["vip", "status", "--format", "nagios", "--config", "/none"],
    );
    broken.assert(3, &["HOOKBOX UNKNOWN - "]);
}

/// The samples of a page in Prometheus's text format, which must be well formed.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut current = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            current = help.split(' ').next().unwrap().to_owned();
            assert!(help.len() > current.len() + 1, "no text: {line}");
            let expected = format!("# TYPE {current} gauge");
            assert_eq!(lines.next(), Some(expected.as_str()));
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        let name = key.split('{').next().unwrap();
        assert_eq!(name, current, "a sample outside its block: {line}");
        if let Some(labels) = key.strip_prefix(name).unwrap().strip_prefix('{') {
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',') {
                let (name, value) = label.split_once('=').unwrap();
                assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
                assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'));
            }
        }
        let before = samples.insert(key.to_owned(), value.parse().unwrap());
        assert_eq!(before, None, "twice: {key}");
    }
    samples
}

#[test]
fn prometheus_reads_a_file_that_is_replaced_whole() {
    let Some(mut site) = Site::new() else { return };
    let file = "/var/lib/node_exporter/hookbox.prom";
    let db2 = site.db(2).host.clone();
    db2.sh("mkdir -p /var/lib/node_exporter");
    let tell = [
        "status",
        "--format",
        "prometheus",
        "--output",
        file,
        PATIENT,
    ];
    run(&db2, &tell).assert(0, &[]);
    let page = db2.read(file);
    assert!(page.ends_with('\n'));
    let seen = samples(&page);
    let expect = |seen: &BTreeMap<String, f64>, key: &str, value: f64| {
        assert_eq!(seen.get(key), Some(&value), "{key} in {seen:?}");
    };
    expect(&seen, "hookbox_server_up{host=\"db1\"}", 1.0);
    expect(&seen, "hookbox_server_writable{host=\"db1\"}", 1.0);
    expect(&seen, "hookbox_server_writable{host=\"db3\"}", 0.0);
    expect(&seen, "hookbox_server_lag_seconds{host=\"db3\"}", 0.0);
    let writer = format!("{{vip=\"{VIP}\",role=\"writer\"}}");
    for metric in ["answers", "server_up", "writable", "expected"] {
        expect(&seen, &format!("hookbox_vip_{metric}{writer}"), 1.0);
    }
    expect(&seen, &format!("hookbox_vip_here{writer}"), 0.0);
    expect(&seen, "hookbox_primary_known", 1.0);
    expect(&seen, "hookbox_maintenance", 0.0);
    let mode = std::fs::metadata(db2.path(file))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);

    site.cluster_mut().db1.kill();
    run(&db2, &tell).assert(0, &[]);
    let seen = samples(&db2.read(file));
    expect(&seen, "hookbox_server_up{host=\"db1\"}", 0.0);
    expect(&seen, &format!("hookbox_vip_server_up{writer}"), 0.0);
    expect(&seen, &format!("hookbox_vip_expected{writer}"), 0.0);
    expect(&seen, "hookbox_primary_known", 0.0);
    let left = db2.sh("ls -A /var/lib/node_exporter");
    assert_eq!(left.trim(), "hookbox.prom");
    let nowhere = ["status", "--format", "prometheus", "--output", "/none/x"];
    run(&db2, &nowhere).assert(3, &["/none/x"]);
}

#[test]
fn a_host_that_hangs_costs_no_more_than_the_limit_and_is_shown_as_such() {
    let Some(site) = Site::new() else { return };
    // The server accepts and says nothing; on db3 nothing passes at all.
    site.db(1).freeze();
    site.cluster().switch.block(&site.db(3).host);
    let said = site.run(2, &["vip", "status"]);
    site.db(1).thaw();
    said.assert(3, &["db1: cannot be asked: ", "db3: cannot be asked: "]);
    said.assert(
        3,
        &["db2 (this host): replica, writes closed", "NO PRIMARY: "],
    );
    assert!(said.took < LIMIT + BUSY, "{:?}", said.took);

    let own = |words: &[&str]| {
        site.db(2).freeze();
        let said = site.run(2, words);
        site.db(2).thaw();
        assert!(said.took < LIMIT + BUSY, "{:?}", said.took);
        said
    };
    own(&["status"]).assert(
        3,
        &["unknown at /run/mysqld/mysqld.sock", "cannot be asked: "],
    );
    let quick = own(&["vip", "status", "--json", "--limit", "300ms"]);
    let took = json(&quick)["took_ms"].as_u64().unwrap();
    assert!(took < 1800, "{took} ms with a limit of 300 ms");
}

#[test]
fn without_a_configuration_it_says_that_the_defaults_hold() {
    let Some(site) = Site::new() else { return };
    let line = "no configuration: /etc/hookbox/hookbox.toml is missing, so that all defaults hold";
    let with = site.run(1, &["status", PATIENT]);
    site.db(1).host.sh(&format!("mv {TOML} {TOML}.away"));
    let without = site.run(1, &["status", PATIENT]);
    let as_json = json(&site.run(1, &["status", "--json", PATIENT]));
    let of_vips = site.run(1, &["vip", "status", PATIENT]);
    site.db(1).host.sh(&format!("mv {TOML}.away {TOML}"));
    assert!(!with.text.contains("no configuration"), "{}", with.text);
    assert_eq!(without.text.lines().next(), Some(line));
    assert!(as_json.get("role").is_some());
    assert_eq!(of_vips.text.lines().next(), Some(line));
}

#[test]
fn a_picture_comes_every_second_until_ctrl_c() {
    let Some(site) = Site::new() else { return };
    let mut command = site.db(2).host.command("/usr/sbin/hookbox");
    let command = command.args(["vip", "status", "--watch"]);
    let mut watching = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let first = format!("vip {VIP}/24 dev eth0: not here, on db1");
    let mut seen = Vec::new();
    for line in lines.map_while(Result::ok) {
        if line.starts_with(&first) {
            seen.push(Instant::now());
        }
        if seen.len() == 5 {
            break;
        }
    }
    assert_eq!(seen.len(), 5);
    let apart = seen[4] - seen[0];
    // Of 4 s; each is told when it is there, and the first may have taken longer than the last.
    assert!(apart > Duration::from_secs(3), "{apart:?}");
    // nsenter waits for the program, which is its only child.
    let children = format!("/proc/{0}/task/{0}/children", watching.id());
    let pid = std::fs::read_to_string(children).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGINT).unwrap();
    let ended = watching.wait().unwrap();
    let by_signal = ended.signal() == Some(Signal::SIGINT as i32);
    assert!(by_signal || ended.code() == Some(130), "{ended:?}");
}

#[test]
fn the_names_that_scripts_know_are_still_there() {
    let Some(site) = Site::new() else { return };
    let status = json(&site.run(2, &["status", "--json", PATIENT]));
    for key in [
        "open_switch",
        "switch_error",
        "server",
        "version",
        "role",
        "writes",
        "error",
        "channels",
        "vips",
        "orchestrator_wants",
        "last_check",
        "maintenance_until",
        "last_run",
        "last_promotion",
    ] {
        assert!(status.get(key).is_some(), "{key} in {status}");
    }
    assert_eq!(status["role"], "replica");
    assert_eq!(status["channels"][0]["receiver"], "connected");
    assert_eq!(vip(&status, VIP)["here"], false);
}
