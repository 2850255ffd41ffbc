//! Who else has an address.

use std::time::{Duration, Instant};

use hookbox::error::Result;
use hookbox::link::{Host, Owner, Vip};
use hookbox::time::Deadline;

use crate::net::{Namespace, two_hosts};

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
