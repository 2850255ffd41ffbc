//! One command after the other: what is said, and how it ends when nothing is said.

use std::cell::Cell;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hookbox::config::{self, Network};
use hookbox::error::{Error, Kind};
use hookbox::link::{Link, Remote};
use hookbox::run::Changed;
use hookbox::ssh::{Place, Shell};
use hookbox::time::Deadline;

use crate::lab::{as_root_of, wait_until};
use crate::site::{DB1, Site, mute_listener, operator, root_at, vip};

#[test]
fn what_a_command_says_is_told_apart_from_everything_else() {
    let Some(site) = Site::new() else {
        return;
    };
    let place = operator(&site);
    site.on_manager(|deadline| {
        let mut shell = Shell::open(&place, &site.how(), None, deadline).unwrap();
        let words = ["printf", "%s", "it's \"$HOME\"\n`id`\\ "];
        let said = shell.run(&words).unwrap();
        assert_eq!((said.status, said.output.as_str()), (0, words[2]));
        assert_eq!(said.errors, "");
        let said = shell
            .script("cat; echo out; echo err >&2; (exit 7)")
            .unwrap();
        assert_eq!((said.status, said.output.as_str()), (7, "out\n"));
        assert_eq!(said.errors, "err\n");
        let said = shell.script("seq 100000").unwrap();
        assert!(said.output.ends_with("\n100000\n"));
        let long = "x".repeat(300_000);
        assert_eq!(shell.run(&["echo", &long]).unwrap().output.len(), 300_001);
        let said = shell.script("sleep 60 & echo on").unwrap();
        assert_eq!(said.output, "on\n");
    });
    site.nothing_is_left();
}

#[test]
fn a_host_that_stops_in_the_middle_of_a_command_ends_it_in_time_and_can_be_asked_again() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let address = vip("10.77.0.100/24 dev eth0");
    site.with_db1(&site.how(), |db1| {
        db1.log_in().unwrap();
        site.sshd.freeze();
        let started = Instant::now();
        let error = db1.add(&address).unwrap_err();
        println!("{:?}: {}", started.elapsed(), error.chain());
        assert_eq!(error.kind(), Kind::Unreachable);
        assert!(
            error.chain().contains("not responding"),
            "{}",
            error.chain()
        );
        assert!(started.elapsed() < Duration::from_millis(5200));
        site.nothing_is_left();

        site.sshd.thaw();
        db1.del(&address).unwrap();
        assert!(!db1.has(&address).unwrap());
    });
    site.on_manager(|deadline| {
        let mut shell = Shell::open(&root_at(DB1), &site.how(), None, deadline).unwrap();
        shell.ready().unwrap();
        deadline.renew(Duration::from_secs(1));
        let started = Instant::now();
        let error = shell.run(&["sleep", "60"]).unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert!(
            error.chain().contains("no answer within"),
            "{}",
            error.chain()
        );
        assert!(started.elapsed() < Duration::from_millis(1400));
    });
    site.nothing_is_left();
}

#[test]
fn a_command_that_was_given_up_is_not_carried_out_later() {
    for site in [Site::with_hookbox(), Site::new()] {
        let Some(site) = site else {
            return;
        };
        for cut in ["frozen", "cut off"] {
            site.on_manager(|deadline| {
                let db1 = Remote::open(&root_at(DB1), &site.how(), None, deadline).unwrap();
                db1.log_in().unwrap();
                deadline.renew(Duration::from_secs(2));
                match cut {
                    "frozen" => site.sshd.freeze(),
                    _ => site.switch.block(&site.db1),
                }
                let error = db1.add(&vip("10.77.0.100/24 dev eth0")).unwrap_err();
                assert_eq!(error.kind(), Kind::Timeout, "{}", error.chain());
            });
            // What it may be late by: as much as the login took.
            sleep(Duration::from_secs(4));
            site.sshd.thaw();
            site.switch.heal(&site.db1);
            wait_until(
                "what was on its way arrived",
                Duration::from_secs(20),
                || site.sshd.sessions() == 0,
            );
            sleep(Duration::from_millis(300));
            assert_eq!(site.addresses(), "10.77.0.11/24", "{cut}");
        }
    }
}

#[test]
fn what_is_taken_back_is_not_done_again_by_the_command_that_was_given_up() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let address = vip("10.77.0.100/24 dev eth0");
    site.with_db1(&site.how(), |db1| {
        db1.log_in().unwrap();
        // The shell alone: it has the command, and does not read it yet.
        site.db1.sh("kill -s STOP $(pgrep -fx 'sh -s [0-9a-f]*')");
        let started = Instant::now();
        assert_eq!(db1.add(&address).unwrap_err().kind(), Kind::Timeout);
        assert!(started.elapsed() < Duration::from_millis(5200));
        assert_eq!(db1.del(&address).unwrap(), Changed::AlreadySo);
        site.db1.sh("! pgrep -r T");
    });
    assert_eq!(site.addresses(), "10.77.0.11/24");
}

#[test]
fn what_is_taken_back_is_not_done_afterwards_by_a_program_that_was_at_it() {
    let Some(site) = Site::with_hookbox() else {
        return;
    };
    let address = vip("10.77.0.100/24 dev eth0");
    let slow = Network {
        probe: Duration::from_secs(1),
        ..Network::default()
    };
    let as_operator = config::Ssh {
        become_root: "/usr/local/bin/as-root --reuid=0 --regid=0 --clear-groups".to_owned(),
        ..site.how()
    };
    let accounts = [(root_at(DB1), site.how()), (operator(&site), as_operator)];
    for (place, how) in accounts {
        site.on_manager(|deadline| {
            let db1 = Remote::open(&place, &how, None, deadline).unwrap();
            let db1 = db1.with(&slow);
            db1.log_in().unwrap();
            let until = Instant::now() + Duration::from_millis(400);
            deadline.watched_by(Rc::new(move || match Instant::now() < until {
                true => Ok(()),
                false => Err(Error::new(Kind::Overtaken, "SIGTERM arrived")),
            }));
            let error = db1.add(&address).unwrap_err();
            assert_eq!(error.kind(), Kind::Overtaken, "{}", error.chain());
            deadline.renew(Duration::from_secs(10));
            db1.del(&address).unwrap();
        });
        sleep(Duration::from_millis(1500));
        assert_eq!(site.addresses(), "10.77.0.11/24", "{:?}", place.user);
    }
}

#[test]
fn an_interrupted_caller_takes_its_client_along() {
    let Some(site) = Site::new() else {
        return;
    };
    site.on_manager(|deadline| {
        for stage in ["login", "command"] {
            let mut shell = Shell::open(&root_at(DB1), &site.how(), None, deadline).unwrap();
            if stage == "command" {
                shell.ready().unwrap();
            }
            let asked = Rc::new(Cell::new(0));
            let count = asked.clone();
            deadline.watched_by(Rc::new(move || {
                count.set(count.get() + 1);
                match count.get() < 4 {
                    true => Ok(()),
                    false => Err(Error::new(Kind::Overtaken, "SIGTERM arrived")),
                }
            }));
            let started = Instant::now();
            let error = shell.run(&["sleep", "60"]).unwrap_err();
            assert_eq!(error.kind(), Kind::Overtaken, "{}", error.chain());
            assert!(started.elapsed() < Duration::from_millis(500));
            drop(shell);
            site.nothing_is_left();
            deadline.renew(Duration::from_secs(20));
        }
    });
}

#[test]
fn a_killed_caller_leaves_no_client_for_long() {
    if let Ok(options) = std::env::var("CALLER_OPTIONS") {
        let how = config::Ssh {
            options: options.lines().map(str::to_owned).collect(),
            connect: Duration::from_secs(2),
            ..config::Ssh::default()
        };
        let port = std::env::var("CALLER_PORT").unwrap().parse().unwrap();
        let place = Place {
            port: Some(port),
            ..root_at(DB1)
        };
        let deadline = Deadline::after(Duration::from_secs(60));
        let mut shell = Shell::open(&place, &how, None, &deadline).unwrap();
        if port == 22 {
            shell.ready().unwrap();
        }
        println!("CALLER has begun");
        sleep(Duration::from_secs(60));
    }
    let Some(site) = Site::new() else {
        return;
    };
    let mute = mute_listener(&site);
    for port in ["22", "2222"] {
        let mut caller = std::process::Command::new("nsenter")
            .arg(format!("--target={}", site.manager.pid()))
            .arg("--net")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "session::a_killed_caller_leaves_no_client_for_long",
            ])
            .env("CALLER_OPTIONS", as_root_of(&site.manager).join("\n"))
            .env("CALLER_PORT", port)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let said = std::io::BufReader::new(caller.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(said).map_while(Result::ok);
        assert!(lines.any(|line| line.contains("CALLER has begun")));
        // Its command line is not there yet at the very moment that it is started.
        wait_until("its client is there", Duration::from_secs(1), || {
            site.clients().len() == 1
        });
        caller.kill().unwrap();
        caller.wait().unwrap();
        wait_until("its client ends", Duration::from_secs(4), || {
            site.clients().is_empty()
        });
    }
    mute.signal("KILL");
}
