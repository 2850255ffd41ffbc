//! Another host has the address.

use hookbox::error::Result;
use hookbox::link::Owner;

use crate::*;

/// Asks in the namespace; gives the answer and how long it took.
fn who_has(host: &Namespace, vip: &str) -> (Result<Option<Owner>>, Duration) {
    let vip: Vip = vip.parse().unwrap();
    host.run(move || {
        let host = Host::open(&Deadline::after(Duration::from_secs(5))).unwrap();
        let began = Instant::now();
        (host.who_has(&vip), began.elapsed())
    })
}

#[test]
fn a_neighbour_that_has_the_address_is_known_by_its_mac() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    there.sh("ip address add 10.7.0.100/32 dev b0; ip address add fd07::100/128 dev b0 nodad");
    for vip in ["10.7.0.100/24 dev a0", "fd07::100/64 dev a0"] {
        let owner = who_has(&here, vip).0.unwrap();
        assert_eq!(owner.unwrap().to_string(), "02:00:00:00:00:0b", "{vip}");
    }
    for vip in ["10.7.0.10/24 dev a0", "fd07::10/64 dev a0"] {
        let (owner, took) = who_has(&here, vip);
        assert_eq!(owner.unwrap(), None, "{vip}");
        assert!(took < Duration::from_millis(600), "{took:?}");
    }
    for vip in ["10.7.0.100/24 dev lo", "fd07::100/64 dev lo"] {
        assert_eq!(who_has(&here, vip).0.unwrap(), None, "{vip}");
    }
    assert!(who_has(&here, "10.7.0.100/24 dev gone").0.is_err());
}

#[test]
fn this_host_is_no_other_though_it_has_the_address_itself_on_two_interfaces_of_one_network() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    // Both of its interfaces hear the question of the other and answer it.
    here.sh(&format!(
        "ip link add a1 type veth peer name b1
         ip link set b1 netns {}
         ip link set a1 up
         ip address add 10.7.0.100/24 dev a0",
        there.path
    ));
    there.sh("ip link add br0 type bridge
         ip link set b0 master br0; ip link set b1 master br0
         ip link set br0 up; ip link set b1 up");
    here.sh("until ip link show a1 | grep -q 'state UP'; do sleep 0.02; done");
    for link in ["a0", "a1"] {
        let (owner, _) = who_has(&here, &format!("10.7.0.100/24 dev {link}"));
        assert_eq!(owner.unwrap(), None, "{link}");
    }
}

/// Another host with these addresses, and a `--config` here that knows it as a peer.
fn second_owner(there: &Namespace) -> String {
    there.sh("ip address add 10.7.0.100/32 dev b0; ip address add fd07::100/128 dev b0 nodad");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let config = place.join("vip-peer.toml");
    let journal = place.join("vip-journal.jsonl");
    let text = format!(
        "[paths]\njournal = {journal:?}\n[[peer]]\nhost = \"10.7.0.2\"\nport = 9\n\
         [ssh]\nprogram = \"/bin/false\"\n"
    );
    std::fs::write(&config, text).unwrap();
    format!("--config {}", config.display())
}

#[test]
fn an_address_that_another_host_has_does_not_come_here() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let config = second_owner(&there);
    let capture = capture(&there);
    for address in ["10.7.0.100/24 dev a0", "fd07::100/64 dev a0"] {
        let ip = address.split('/').next().unwrap();
        let why = format!("{ip} is at 02:00:00:00:00:0b");
        refused(&here, 3, &format!("add {address}"), &why);
        refused(&here, 3, &format!("add {address} --dry-run"), &why);
    }
    let known = "10.7.0.100 is at 02:00:00:00:00:0b (10.7.0.2)";
    refused(
        &here,
        3,
        &format!("add 10.7.0.100/24 dev a0 {config}"),
        known,
    );
    let both = "add 10.7.0.99/24 dev a0 and 10.7.0.100/24 dev a0";
    refused(&here, 3, both, "10.7.0.100 is at");
    assert!(frames(&capture, ARP).is_empty());
    assert!(advertisements(&capture).is_empty());
    assert!(announcers(&here).is_empty());
    // It is nobody's business to ask about one that is here already.
    done(&here, "add 10.7.0.1/24 dev a0");
}

#[test]
fn it_is_taken_all_the_same_on_record_if_so_configured() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let config = second_owner(&there);
    for address in ["10.7.0.100/24 dev a0", "fd07::100/64 dev a0"] {
        let said = done(&here, &format!("add {address} --on-conflict take {config}"));
        assert!(said.contains("TAKEN ALL THE SAME"), "{said}");
        done(&here, &format!("show {address}"));
    }
    here.run(|| std::net::TcpListener::bind("[fd07::100]:3306").expect("usable"));
}

#[test]
fn fencing_refuses_where_the_other_host_cannot_be_reached_or_is_not_known() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let config = second_owner(&there);
    let add = "add 10.7.0.100/24 dev a0 --on-conflict fence";
    refused(&here, 3, add, "10.7.0.100 is at 02:00:00:00:00:0b");
    // Its server is down, and ssh does not get there.
    refused(&here, 3, &format!("{add} {config}"), "10.7.0.2");
}

#[test]
fn whoever_comes_with_the_address_at_the_same_moment_is_noticed_and_ours_taken_back() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let other = std::thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(20);
        while frames(&capture, ARP).is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(1));
        }
        there.sh("ip address add 10.7.0.100/32 dev b0; arping -q -c 1 -U -I b0 10.7.0.100");
        (there, capture)
    });
    let said = vip(&here, "add 10.7.0.100/24 dev a0 --probe 900ms --limit 20s");
    let (_there, capture) = other.join().unwrap();
    assert_eq!(said.status, 4, "{}", said.stderr);
    let why = "10.7.0.100 is at 02:00:00:00:00:0b";
    assert!(said.stderr.contains(why), "{}", said.stderr);
    assert!(
        said.stderr.contains("undone      delete"),
        "{}",
        said.stderr
    );
    assert!(!addresses(&here).contains("10.7.0.100"));
    // Whoever believed us is told that the other one has it.
    let last = frames(&capture, ARP).pop().unwrap();
    assert_eq!(last[6..12], A0);
    assert_eq!(last[22..32], [2, 0, 0, 0, 0, 0x0b, 10, 7, 0, 100]);
}

#[test]
fn an_ipv6_address_that_failed_its_own_detection_is_not_taken_for_one_that_is_here() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    there.sh("ip address add fd07::100/128 dev b0 nodad");
    here.sh("ip address add fd07::100/64 dev a0
         until ip address show dev a0 | grep -q dadfailed; do sleep 0.05; done");
    let add = "add fd07::100/64 dev a0";
    refused(
        &here,
        3,
        add,
        "is unusable here: another host answers for it",
    );
    done(&here, "del fd07::100/64 dev a0");
    refused(&here, 3, add, "fd07::100 is at 02:00:00:00:00:0b");
}
