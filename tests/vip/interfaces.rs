//! Which interfaces can take an address.

use std::io::Write;

use crate::*;

#[test]
fn a_link_that_cannot_carry_the_address_is_refused() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    refused(
        &here,
        3,
        "add 10.7.0.100/24 dev gone",
        "there is no interface gone",
    );
    assert!(done(&here, "del 10.7.0.100/24 dev gone").contains("was so      delete"));
    there.sh("ip link set b0 down");
    refused(&here, 3, "add 10.7.0.100/24 dev a0", "a0 has no carrier");
    here.sh("ip link set a0 down");
    refused(&here, 3, "add 10.7.0.100/24 dev a0", "a0 is down");
    refused(&here, 3, "add 10.7.0.100/24 dev a0 --dry-run", "a0 is down");
}

/// A second wire between the two, a1 and b1.
fn second_wire(here: &Namespace, there: &Namespace) {
    here.sh(&format!(
        "ip link add a1 address 02:00:00:00:00:1a type veth peer name b1
         ip link set b1 netns {}
         ip link set a1 up",
        there.path
    ));
    there.sh("ip link set b1 up");
    here.sh("until ip link show a1 | grep -q 'state UP'; do sleep 0.02; done");
}

fn lose_carrier(here: &Namespace, there: &Namespace) {
    there.sh("ip link set b0 down");
    here.sh("while ip link show a0 | grep -q LOWER_UP; do sleep 0.02; done");
}

#[test]
fn without_carrier_the_address_goes_to_the_fallback_interface_and_that_is_said() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    second_wire(&here, &there);
    let address = "10.7.5.100/24 dev a0 fallback gone,a1";
    let add = format!("add {address} --announce 0");
    assert!(!done(&here, &add).contains("goes to"));
    assert!(addresses(&here).contains("a0    inet 10.7.5.100/24"));
    lose_carrier(&here, &there);
    refused(
        &here,
        3,
        "add 10.7.5.101/24 dev a0 fallback gone",
        "no interface can take",
    );

    let capture = capture(&there);
    let said = done(&here, &add);
    let why = "interface a0 has no carrier, there is no interface gone on this host: \
               10.7.5.100 goes to a1 instead";
    assert!(said.contains(why), "{said}");
    let now = addresses(&here);
    assert!(now.contains("a1    inet 10.7.5.100/24"), "{now}");
    assert_eq!(now.matches("10.7.5.100").count(), 1, "{now}");
    let mac = [2, 0, 0, 0, 0, 0x1a];
    assert_eq!(frames_from(&capture, mac, ARP).len(), 2);

    let shown = done(&here, &format!("show {address}"));
    assert!(shown.contains("10.7.5.100/24 dev a1\n"), "{shown}");
    there.sh("ip link set b0 up");
    here.sh("until ip link show a0 | grep -q LOWER_UP; do sleep 0.02; done");
    // It works where it is.
    assert!(done(&here, &add).contains("was so      add"));
    refused(
        &here,
        3,
        "del 10.7.5.100/24 dev a0",
        "on this host as 10.7.5.100/24 dev a1",
    );
    assert!(done(&here, &format!("del {address}")).contains("done        delete"));
    assert!(!addresses(&here).contains("10.7.5.100"));
}

#[test]
fn a_tunnel_that_has_no_hardware_address_is_an_interface_all_the_same() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    if !is_made(&here, "ip tuntap add mode tun t0; ip link set t0 up") {
        return;
    }
    // Nobody has opened it.
    refused(&here, 3, "add 10.9.0.1/32 dev t0", "t0 has no carrier");
}

/// Whether the kernel has what `script` makes; says so loudly if not.
fn is_made(host: &Namespace, script: &str) -> bool {
    let script = script.to_owned();
    let made = host.run(move || Command::new("sh").args(["-ec", &script]).output().unwrap());
    if !made.status.success() {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let why = String::from_utf8_lossy(&made.stderr).replace('\n', " ");
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: this kernel has none: {why}"
        );
    }
    made.status.success()
}

/// The address comes to `link`, which is made of a0 by `script`, and the neighbour hears of it.
fn works_on(link: &str, mac: [u8; 6], script: &str, there_script: &str) {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    if !is_made(&here, script) {
        return;
    }
    there.sh(there_script);
    here.sh(&format!(
        "until ip link show {link} | grep -q LOWER_UP; do sleep 0.02; done"
    ));
    let capture = capture(&there);
    done(
        &here,
        &format!("add 10.7.6.100/24 dev {link} and fd06::100/64 dev {link}"),
    );
    let told = frames_from(&capture, mac, ARP);
    assert!(!told.is_empty());
    assert!(told.iter().all(|frame| frame[28..32] == [10, 7, 6, 100]));
    done(
        &here,
        &format!("del 10.7.6.100/24 dev {link} and fd06::100/64 dev {link}"),
    );
}

#[test]
fn a_bridge_can_take_an_address() {
    let script = "ip link add br0 address 02:00:00:00:00:b0 type bridge
                  ip link set a0 master br0; ip link set br0 up";
    works_on("br0", [2, 0, 0, 0, 0, 0xb0], script, "true");
}

#[test]
fn a_macvlan_can_take_an_address() {
    let script = "ip link add mv0 link a0 address 02:00:00:00:00:c0 type macvlan mode bridge
                  ip link set mv0 up";
    works_on("mv0", [2, 0, 0, 0, 0, 0xc0], script, "true");
}

#[test]
fn a_bond_can_take_an_address() {
    let script =
        "ip link add bond0 address 02:00:00:00:00:d0 type bond mode active-backup miimon 50
                  ip link set a0 down; ip link set a0 master bond0; ip link set bond0 up";
    works_on("bond0", [2, 0, 0, 0, 0, 0xd0], script, "true");
}

#[test]
fn a_vlan_can_take_an_address() {
    let script = "ip link add link a0 name a0.5 type vlan id 5; ip link set a0.5 up";
    let there = "ip link add link b0 name b0.5 type vlan id 5; ip link set b0.5 up";
    works_on("a0.5", A0, script, there);
}

#[test]
fn an_ipv6_address_is_never_chosen_as_source() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    done(&here, "add fd07::100/64 dev a0");
    let held = addresses(&here);
    let vip = held.lines().find(|line| line.contains("fd07::100/64"));
    assert!(vip.unwrap().contains("deprecated"), "{held}");
    let route = here.sh("ip -6 route get fd07::2");
    assert!(route.contains("src fd07::1 "), "{route}");
    done(&here, "add 10.7.0.100/32 dev a0 preferred_lft 0");
    assert!(addresses(&here).contains("10.7.0.100/32 scope global deprecated a0"));
}

#[test]
fn an_address_that_becomes_the_first_of_its_subnet_or_hangs_on_another_is_warned_of() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    here.sh("echo 0 > /proc/sys/net/ipv4/conf/all/promote_secondaries
         echo 0 > /proc/sys/net/ipv4/conf/a0/promote_secondaries");
    let said = done(&here, "add 10.8.0.100/24 dev a0 --dry-run");
    assert!(said.contains("10.8.0.100 becomes the first address of its subnet on a0"));
    let said = done(&here, "add 10.7.0.100/24 dev a0 --dry-run");
    assert!(
        said.contains("10.7.0.100 will go away when 10.7.0.1 does"),
        "{said}"
    );
    here.sh("echo 1 > /proc/sys/net/ipv4/conf/a0/promote_secondaries");
    for harmless in ["10.7.0.100/24", "10.8.0.100/32", "fd08::100/64"] {
        let said = done(&here, &format!("add {harmless} dev a0 --dry-run"));
        assert!(!said.contains("note"), "{said}");
    }
}
