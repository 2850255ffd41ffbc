//! What the neighbours are told, byte by byte.

use crate::*;

#[test]
fn an_added_address_is_announced_in_both_forms_until_it_leaves() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let began = Instant::now();
    let ip = [10, 7, 0, 77];
    let said = vip(&here, "add 10.7.0.77/24 dev a0 --probe 0s");
    assert_eq!(said.status, 0, "{}", said.stderr);
    assert!(
        said.took < Duration::from_millis(190),
        "the caller was held {:?}",
        said.took
    );
    let pair = [gratuitous(1, [0; 6], ip), gratuitous(2, A0, ip)];
    assert_eq!(frames(&capture, ARP), pair);
    let pids = announcers(&here);
    assert_eq!(pids.len(), 1);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0])).unwrap();
    let group = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .nth(2)
        .unwrap();
    assert_eq!(group, pids[0].to_string(), "a process group of its own");
    let environment = std::fs::read(format!("/proc/{}/environ", pids[0])).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("s3cret"));

    for at_ms in [500, 1500, 2500] {
        sleep_until(began, at_ms);
        assert_eq!(frames(&capture, ARP), pair, "until {at_ms} ms");
    }
    done(&here, "del 10.7.0.77/24 dev a0");
    sleep_until(began, 5500);
    assert!(frames(&capture, ARP).is_empty(), "the address has left");
    assert!(announcers(&here).is_empty());
}

#[test]
fn what_the_caller_holds_is_not_held_by_the_process_that_announces_again() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let lock = std::env::temp_dir().join(format!("hookbox-vip-lock-{}", std::process::id()));
    let lock = lock.display().to_string();
    let script = format!("exec 9> {lock}; flock 9; {HOOKBOX} vip add 10.7.0.79/24 dev a0");
    let added = here.run(move || hookbox(Command::new("sh")).args(["-c", &script]).output());
    assert!(added.unwrap().status.success());
    assert_eq!(announcers(&here).len(), 1);
    here.sh(&format!("flock -w 2 {lock} rm {lock}"));
    assert_eq!(announcers(&here).len(), 1, "it goes on");
}

#[test]
fn the_last_repeat_comes_after_five_seconds() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let began = Instant::now();
    done(&here, "add 10.7.0.78/32 dev a0");
    sleep_until(began, 4500);
    let capture = capture(&there);
    sleep_until(began, 5500);
    assert_eq!(frames(&capture, ARP).len(), 2);
    assert!(announcers(&here).is_empty());
}

#[test]
fn a_neighbour_with_a_stale_entry_learns_the_new_place_at_once() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    there.sh(
        "ip neighbour replace 10.7.0.100 lladdr 02:de:ad:00:00:01 dev b0 nud reachable
         ip neighbour replace fd07::100 lladdr 02:de:ad:00:00:01 dev b0 nud reachable",
    );
    done(&here, "add 10.7.0.100/24 dev a0");
    done(&here, "add fd07::100/64 dev a0");
    let neighbours = there.sh("ip neighbour show dev b0");
    assert!(!neighbours.contains("02:de:ad"), "{neighbours}");
    for address in ["10.7.0.100", "fd07::100"] {
        assert!(
            neighbours.contains(&format!("{address} lladdr 02:00:00:00:00:0a")),
            "{neighbours}"
        );
    }
}

#[test]
fn an_ipv6_address_is_usable_at_once_and_advertised_to_all_nodes() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let began = Instant::now();
    done(&here, "add fd07::100/64 dev a0");
    here.run(|| std::net::TcpListener::bind("[fd07::100]:3306").expect("not tentative"));
    let advertisements = || advertisements(&capture);
    let first = advertisements();
    assert_eq!(first.len(), 1);
    let vip = "fd07::100".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let all_nodes = "ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let frame = &first[0];
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frame[18..22], [0, 32, 58, 255], "length, ICMPv6, hop limit");
    assert_eq!(frame[22..54], [vip, all_nodes].concat());
    assert_eq!(frame[58], 0x20, "override alone");
    assert_eq!(frame[62..], [&vip[..], &[2, 1], &A0].concat());
    sleep_until(began, 1500);
    assert_eq!(advertisements(), first);
    sleep_until(began, 2500);
    assert_eq!(advertisements(), first, "three times in all");
    assert!(announcers(&here).is_empty());
}

#[test]
fn the_schedule_is_as_configured() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let began = Instant::now();
    done(&here, "add 10.7.0.77/24 dev a0 --announce 0,900");
    assert_eq!(frames(&capture, ARP).len(), 2);
    assert_eq!(announcers(&here).len(), 1);
    sleep_until(began, 2500);
    assert_eq!(frames(&capture, ARP).len(), 2);
    assert!(announcers(&here).is_empty());
    done(&here, "add 10.7.0.78/24 dev a0 --announce 0");
    assert!(announcers(&here).is_empty());
    refused(
        &here,
        2,
        "add 10.7.0.79/24 dev a0 --announce 200",
        "must begin with 0",
    );
    refused(
        &here,
        2,
        "add 10.7.0.79/24 dev a0 --announce 0,9,8",
        "in ascending order",
    );
}

#[test]
fn the_first_packet_after_the_move_arrives_at_the_new_host() {
    let Some((old, new, client)) = three_hosts_on_a_switch() else {
        return;
    };
    let address = "10.7.0.100/24 dev a0";
    done(&old, &format!("add {address}"));
    let receive = |host: &Namespace| {
        host.run(|| {
            let socket = std::net::UdpSocket::bind("10.7.0.100:9").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            socket
        })
    };
    let send = |what: &'static [u8]| {
        client.run(move || {
            let socket = std::net::UdpSocket::bind("10.7.0.3:0").unwrap();
            socket.send_to(what, "10.7.0.100:9").unwrap();
        });
    };
    let at_old = receive(&old);
    send(b"before");
    assert_eq!(at_old.recv(&mut [0; 10]).unwrap(), 6);
    // A client whose entry stands, and an old primary that cannot say goodbye.
    client.sh("ip neighbour replace 10.7.0.100 lladdr 02:00:00:00:00:0a dev a0 nud reachable");
    old.sh("ip address del 10.7.0.100/24 dev a0");
    done(&new, &format!("add {address}"));
    let at_new = receive(&new);
    send(b"after");
    assert_eq!(at_new.recv(&mut [0; 10]).unwrap(), 5);
}

#[test]
fn an_address_that_another_program_took_away_is_not_announced_and_not_missed() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let began = Instant::now();
    done(
        &here,
        "add 10.7.0.77/24 dev a0 and fd07::77/64 dev a0 --announce 0,600,1200",
    );
    // As NetworkManager does it for a profile that does not have it.
    here.sh("ip address flush dev a0 to 10.7.0.77; ip address flush dev a0 to fd07::77");
    frames(&capture, ARP);
    sleep_until(began, 2000);
    assert!(frames(&capture, ARP).is_empty());
    assert!(announcers(&here).is_empty());
    let said = done(&here, "del 10.7.0.77/24 dev a0 and fd07::77/64 dev a0");
    assert!(said.contains("was so      delete"), "{said}");
}
