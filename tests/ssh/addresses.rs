//! Virtual addresses of another host, by hookbox there and without it.

use std::time::{Duration, Instant};

use hookbox::config;
use hookbox::error::Kind;
use hookbox::link::{Link, Remote};
use hookbox::run::{Changed, Mark};

use crate::lab::wait_until;
use crate::site::{AS_ROOT, DB1, Site, operator, root_at, vip};

/// The whole life of an address, whoever does it there.
fn an_address_comes_and_goes(site: &Site, how: &config::Ssh) {
    let address = vip("10.77.0.100/24 dev eth0 label eth0:vip");
    let neighbour = vip("10.77.0.10/24 dev eth0");
    site.with_db1(how, |db1| {
        db1.ready(&address).unwrap();
        assert!(!db1.has(&address).unwrap());
        assert_eq!(db1.del(&address).unwrap(), Changed::AlreadySo);
        assert_eq!(site.addresses(), "10.77.0.11/24");

        assert_eq!(db1.add(&address).unwrap(), Changed::Yes);
        assert_eq!(db1.add(&address).unwrap(), Changed::AlreadySo);
        db1.announce(&address).unwrap();
        assert!(db1.has(&address).unwrap());
        assert!(!db1.has(&neighbour).unwrap());
        assert!(db1.list().unwrap().contains(&address));
        assert_eq!(db1.del(&neighbour).unwrap(), Changed::AlreadySo);
        assert_eq!(site.addresses(), "10.77.0.100/24 10.77.0.11/24");

        for (wrong, why) in [
            (
                "10.77.0.100/32 dev eth0",
                "is on this host as 10.77.0.100/24",
            ),
            ("10.77.0.100/24 dev lo", "is on this host as 10.77.0.100/24"),
        ] {
            for error in [
                db1.ready(&vip(wrong)).unwrap_err(),
                db1.add(&vip(wrong)).unwrap_err(),
                db1.del(&vip(wrong)).unwrap_err(),
            ] {
                assert_eq!(error.kind(), Kind::Refused);
                let line = error.chain();
                assert!(line.starts_with("db1: ") && line.contains(why), "{line}");
                assert!(error.advice().unwrap().starts_with("on db1: "));
            }
        }
        let error = db1.ready(&vip("10.77.0.101/24 dev eth9")).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.chain().contains("eth9"), "{}", error.chain());

        assert_eq!(db1.del(&address).unwrap(), Changed::Yes);
        assert_eq!(db1.del(&address).unwrap(), Changed::AlreadySo);
        assert_eq!(site.addresses(), "10.77.0.11/24");

        let fallback = vip("10.77.0.102/32 dev gone fallback eth0");
        assert_eq!(db1.add(&fallback).unwrap(), Changed::Yes);
        let said = db1.timeline().into_iter().map(|entry| entry.step);
        let instead = "10.77.0.102 goes to eth0 instead";
        assert!(said.into_iter().any(|step| step.contains(instead)));
        assert!(db1.has(&fallback).unwrap());
        db1.announce(&fallback).unwrap();
        assert_eq!(db1.del(&fallback).unwrap(), Changed::Yes);

        site.db1.sh("ip link add down0 type bridge");
        let error = db1.add(&vip("10.77.0.101/24 dev down0")).unwrap_err();
        assert!(error.chain().contains("down0 is down"), "{}", error.chain());
        site.db1
            .sh("echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
        let six = vip("fd07::100/64 dev eth0");
        assert_eq!(db1.add(&six).unwrap(), Changed::Yes);
        assert!(db1.has(&six).unwrap());
        assert_eq!(db1.del(&six).unwrap(), Changed::Yes);
    });
    site.nothing_is_left();
}

#[test]
fn addresses_come_and_go_by_the_hookbox_that_is_there() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    an_address_comes_and_goes(&site, &site.how());
    assert_eq!(site.sshd.log().matches("Accepted publickey").count(), 1);
    let journal = site.db1.read("/var/log/hookbox/journal.jsonl");
    assert!(journal.contains("add 10.77.0.100/24 dev eth0"), "{journal}");
}

#[test]
fn addresses_come_and_go_by_ip_where_there_is_no_hookbox() {
    let Some(site) = Site::new() else {
        return;
    };
    an_address_comes_and_goes(&site, &site.how());
    assert_eq!(site.sshd.log().matches("Accepted publickey").count(), 1);
    site.with_db1(&site.how(), |db1| {
        assert_eq!(db1.hookbox_version().unwrap(), None);
        assert!(db1.timeline().is_empty());
    });
}

#[test]
fn what_was_done_there_is_told_step_by_step() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    site.with_db1(&site.how(), |db1| {
        let version = db1.hookbox_version().unwrap();
        assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        let address = vip("10.77.0.100/24 dev eth0");
        db1.ready(&address).unwrap();
        assert!(db1.timeline().is_empty(), "a question is no deed");
        db1.add(&address).unwrap();
        // What is noted hangs on this machine's own settings.
        let steps = |db1: &Remote| -> Vec<(Mark, String)> {
            let entries = db1.timeline().into_iter();
            let steps = entries.filter(|entry| entry.mark != Mark::Note);
            steps.map(|entry| (entry.mark, entry.step)).collect()
        };
        assert_eq!(
            steps(db1),
            [
                (Mark::Done, "eth0 can take 10.77.0.100".to_owned()),
                (Mark::Done, "nobody else has 10.77.0.100".to_owned()),
                (Mark::Done, format!("add {address}")),
                (Mark::Done, format!("announce {address}")),
                (
                    Mark::Done,
                    "nobody else has 10.77.0.100 even now".to_owned()
                ),
            ]
        );
        assert_eq!(db1.announce(&address).unwrap(), Changed::AlreadySo);
        assert!(
            db1.timeline().is_empty(),
            "it was announced when it was added"
        );
        db1.announce(&address).unwrap();
        assert_eq!(steps(db1).last().unwrap().1, format!("announce {address}"));
        db1.add(&vip("10.77.0.100/32 dev eth0")).unwrap_err();
        assert_eq!(steps(db1)[0].0, Mark::Failed);
    });
}

#[test]
fn schedule_and_policy_go_along_and_several_addresses_are_one_command() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let network = config::Network {
        on_conflict: config::OnConflict::Take,
        announce: vec![0, 300],
        ..config::Network::default()
    };
    let addresses = [
        vip("10.77.0.100/24 dev eth0"),
        vip("10.77.0.101/32 dev gone fallback eth0"),
    ];
    site.manager.sh("ip addr add 10.77.0.100/32 dev eth0");
    site.on_manager(|deadline| {
        let db1 = Remote::open(&root_at(DB1), &site.how(), None, deadline).unwrap();
        let error = db1.add_all(&addresses).unwrap_err();
        assert!(
            error.chain().contains("10.77.0.100 is at "),
            "{}",
            error.chain()
        );
        assert!(!db1.has(&addresses[1]).unwrap(), "all or none");
        let db1 = db1.with(&network);
        assert_eq!(db1.add_all(&addresses).unwrap(), Changed::Yes);
        let said: Vec<String> = db1.timeline().into_iter().map(|e| e.step).collect();
        let said = said.join("\n");
        assert!(said.contains("TAKEN ALL THE SAME"), "{said}");
        assert!(said.contains("10.77.0.101 goes to eth0 instead"), "{said}");
        assert!(addresses.iter().all(|vip| db1.has(vip).unwrap()));
        assert_eq!(db1.del_all(&addresses).unwrap(), Changed::Yes);
    });
    assert_eq!(site.addresses(), "10.77.0.11/24");
}

#[test]
fn a_known_host_that_has_the_address_is_fenced_if_so_configured() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let program = std::fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
    site.manager.write("/usr/sbin/hookbox", program, 0o755);
    let config = format!("[network]\non_conflict = \"fence\"\n[[peer]]\nhost = \"{DB1}\"\n");
    site.manager
        .write("/etc/hookbox/hookbox.toml", config, 0o644);
    site.db1.sh("ip addr add 10.77.0.100/24 dev eth0");
    let said = (site.manager).sh("hookbox vip add 10.77.0.100/24 dev eth0 2>&1");
    assert!(said.contains(&format!("({DB1})")), "{said}");
    assert!(
        said.contains(&format!("take 10.77.0.100/24 dev eth0 off {DB1}")),
        "{said}"
    );
    assert_eq!(site.addresses(), "10.77.0.11/24");
    site.manager.sh("hookbox vip show 10.77.0.100/24 dev eth0");
}

#[test]
fn neighbours_learn_the_address_by_arping_without_the_caller_waiting_for_it() {
    let Some(site) = Site::new() else {
        return;
    };
    // An entry that there is, of another host: gratuitous ARP changes it, and makes none.
    site.manager
        .sh("ip neigh replace 10.77.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
    site.with_db1(&site.how(), |db1| {
        let address = vip("10.77.0.100/24 dev eth0");
        db1.add(&address).unwrap();
        let started = Instant::now();
        assert_eq!(db1.announce(&address).unwrap(), Changed::Yes);
        assert!(started.elapsed() < Duration::from_millis(1500));
    });
    let mac = site.db1.sh("cat /sys/class/net/eth0/address");
    wait_until("the manager knows", Duration::from_secs(5), || {
        site.manager
            .sh("ip neigh show 10.77.0.100")
            .contains(mac.trim())
    });
    wait_until("arping ends", Duration::from_secs(8), || {
        site.db1.sh("pgrep -x arping || true").is_empty()
    });
    site.db1.sh("rm $(command -v arping)");
    site.with_db1(&site.how(), |db1| {
        let address = vip("10.77.0.101/24 dev eth0");
        let error = db1.ready(&address).unwrap_err();
        assert!(error.advice().unwrap().contains("iputils-arping"));
        db1.announce(&address).unwrap_err();
    });
}

#[test]
fn the_only_address_of_a_subnet_does_not_take_others_with_it() {
    let Some(site) = Site::new() else {
        return;
    };
    site.db1
        .sh("ip addr add 10.9.0.1/24 dev eth0; ip addr add 10.9.0.2/24 dev eth0");
    let first = vip("10.9.0.1/24 dev eth0");
    let setting = "/proc/sys/net/ipv4/conf/all/promote_secondaries";
    site.db1.sh(&format!(
        "echo 0 > {setting}; echo 0 > {}",
        setting.replace("all", "eth0")
    ));
    site.with_db1(&site.how(), |db1| {
        let error = db1.del(&first).unwrap_err();
        assert!(
            error.chain().contains("10.9.0.2 would go away"),
            "{}",
            error.chain()
        );
        assert!(db1.has(&first).unwrap());
        site.db1.sh(&format!("echo 1 > {setting}"));
        assert_eq!(db1.del(&first).unwrap(), Changed::Yes);
        assert!(db1.has(&vip("10.9.0.2/24 dev eth0")).unwrap());
    });
}

#[test]
fn an_account_that_is_not_root_becomes_it_for_every_command() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let place = operator(&site);
    let address = vip("10.77.0.100/24 dev eth0");
    let no = "#!/bin/sh\necho 'sudo: a password is required' >&2; exit 1\n";
    site.db1.write("/usr/local/bin/sudo", no, 0o755);
    for hookbox in ["/usr/sbin/hookbox", "/nowhere/hookbox"] {
        let how = |become_root: &str| config::Ssh {
            become_root: become_root.to_owned(),
            hookbox: hookbox.into(),
            ..site.how()
        };
        site.on_manager(|deadline| {
            let open = |how| Remote::open(&place, &how, None, deadline).unwrap();
            for (who, reason) in [("", "ermi"), ("sudo -n", "sudo: a password is required")] {
                let error = open(how(who)).add(&address).unwrap_err();
                assert_eq!(error.kind(), Kind::Denied, "{}", error.chain());
                assert!(error.chain().contains(reason), "{}", error.chain());
                assert!(error.advice().is_some());
            }
            assert_eq!(site.addresses(), "10.77.0.11/24");
            let db1 = open(how(AS_ROOT));
            assert_eq!(db1.add(&address).unwrap(), Changed::Yes);
            assert_eq!(db1.del(&address).unwrap(), Changed::Yes);
        });
    }
    site.nothing_is_left();
}

#[test]
fn a_far_hookbox_that_is_newer_or_broken_is_named() {
    let Some(site) = Site::new() else {
        return;
    };
    let address = vip("10.77.0.100/24 dev eth0");
    for (program, kind, why) in [
        (
            r#"echo '{"v":2,"hookbox":"9.1.0","outcome":"wonderful"}'"#,
            Kind::Refused,
            "db1 has hookbox 9.1.0",
        ),
        (
            "echo 'bad interpreter' >&2; exit 126",
            Kind::Refused,
            "bad interpreter",
        ),
        (r#"echo '{"v":1}'"#, Kind::Bug, "missing field"),
    ] {
        let script = format!("#!/bin/sh\n{program}\n");
        site.db1.write("/usr/sbin/hookbox", script, 0o755);
        site.with_db1(&site.how(), |db1| {
            let error = db1.add(&address).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.chain().contains(why), "{}", error.chain());
        });
    }
    assert_eq!(site.addresses(), "10.77.0.11/24");
}

/// A hookbox that does not know `word`, in the place of the one on db1.
fn older(site: &Site, word: &str) {
    site.db1
        .sh("[ -e /usr/sbin/hookbox.new ] || mv /usr/sbin/hookbox /usr/sbin/hookbox.new");
    let script = format!(
        "#!/bin/sh
         case \" $* \" in *' {word} '*)
             echo \"vip: unexpected argument '{word}' found\" >&2
             echo 'vip: try: hookbox vip --help' >&2
             exit 2
         esac
         exec /usr/sbin/hookbox.new \"$@\"\n"
    );
    site.db1.write("/usr/sbin/hookbox", script, 0o755);
}

#[test]
fn a_far_hookbox_that_is_older_goes_by_itself_on_record_or_is_named() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let network = config::Network {
        probe: Duration::from_millis(90),
        ..config::Network::default()
    };
    let address = vip("10.77.0.100/24 dev eth0");
    let at_db1 = |job: &(dyn Fn(&Remote) + Sync)| {
        site.on_manager(|deadline| {
            let db1 = Remote::open(&root_at(DB1), &site.how(), None, deadline).unwrap();
            job(&db1.with(&network));
        });
    };
    older(&site, "--probe");
    at_db1(&|db1| {
        db1.ready(&address).unwrap();
        assert!(!db1.has(&address).unwrap(), "it was only asked about");
        assert_eq!(db1.add(&address).unwrap(), Changed::Yes);
        let told = db1.timeline();
        let note = "this hookbox is older and goes by itself: unexpected argument '--probe' found";
        assert_eq!(told[0].step, note);
        assert_eq!(db1.del(&address).unwrap(), Changed::Yes);
    });
    older(&site, "--limit");
    at_db1(&|db1| {
        let error = db1.add(&address).unwrap_err();
        let line = "db1 has an older hookbox: unexpected argument '--limit' found";
        assert_eq!(error.chain(), line);
        assert_eq!(error.advice().unwrap(), "install the same hookbox on db1");
    });
    assert_eq!(site.addresses(), "10.77.0.11/24");
}
