//! Two hundred addresses at once.

use crate::*;

/// 200 of them, in the words of the command line.
fn two_hundred() -> Vec<Vip> {
    (1..=200)
        .map(|n| format!("10.9.0.{n}/32 dev a0").parse().unwrap())
        .collect()
}

#[test]
fn two_hundred_addresses_come_are_announced_and_go_in_one_conversation_each() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let capture = capture(&there);
    let took = here.run(|| {
        let host = Host::open(&Deadline::after(Duration::from_secs(20))).unwrap();
        let vips = two_hundred();
        let began = Instant::now();
        assert_eq!(host.add_all(&vips).unwrap(), Changed::Yes);
        assert_eq!(host.announce_all(&vips).unwrap(), Changed::Yes);
        let took = began.elapsed();
        assert_eq!(host.add_all(&vips).unwrap(), Changed::AlreadySo);
        let held = host.list().unwrap();
        assert!(vips.iter().all(|vip| held.contains(vip)));
        assert!(host.holds("10.9.0.200".parse().unwrap()).unwrap());
        assert!(!host.holds("10.9.0.201".parse().unwrap()).unwrap());
        let began = Instant::now();
        assert_eq!(host.del_all(&vips).unwrap(), Changed::Yes);
        let took = took + began.elapsed();
        assert_eq!(host.del_all(&vips).unwrap(), Changed::AlreadySo);
        assert!(!host.list().unwrap().iter().any(|held| vips.contains(held)));
        took
    });
    let expected: Vec<Vec<u8>> = (1..=200)
        .flat_map(|n| [(1, [0; 6], n), (2, A0, n)])
        .map(|(operation, target, n)| gratuitous(operation, target, [10, 9, 0, n]))
        .collect();
    assert_eq!(frames(&capture, ARP), expected);
    // Far from what it takes, 50 ms at most: this is a debug build on a busy machine.
    assert!(took < Duration::from_secs(2), "{took:?}");
    println!("200 addresses came, were announced and went in {took:?}");
}

#[test]
fn of_two_hundred_addresses_all_come_or_none() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    there.sh("ip address add 10.9.0.150/32 dev b0");
    let text: Vec<String> = two_hundred().iter().map(Vip::to_string).collect();
    let text = text.join(" and ");
    refused(
        &here,
        3,
        &format!("add {text}"),
        "10.9.0.150 is at 02:00:00:00:00:0b",
    );
    there.sh("ip address del 10.9.0.150/32 dev b0");
    here.sh("ip address add 10.9.0.150/24 dev a0");
    refused(
        &here,
        3,
        &format!("add {text}"),
        "10.9.0.150 is on this host as",
    );
    here.sh("ip address del 10.9.0.150/24 dev a0; ip address add 10.9.0.7/32 dev a0");
    let said = done(&here, &format!("add {text}"));
    assert!(
        said.contains("add 10.9.0.1/32 dev a0 and 198 more"),
        "{said}"
    );
    done(&here, &format!("show {text}"));
    done(&here, &format!("del {text}"));
    assert!(!addresses(&here).contains("10.9.0."));
}

#[test]
fn when_one_cannot_be_added_the_others_are_taken_off_again() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    // IPv6 is off on the interface, which shows only when the kernel is asked to add.
    here.sh("echo 1 > /proc/sys/net/ipv6/conf/a0/disable_ipv6");
    let before = addresses(&here);
    let said = vip(
        &here,
        "add 10.7.0.98/24 dev a0 and fd08::100/64 dev a0 --probe 0s",
    );
    assert_eq!(said.status, 4, "{}", said.stderr);
    assert!(
        said.stderr.contains("add fd08::100/64 dev a0"),
        "{}",
        said.stderr
    );
    assert_eq!(addresses(&here), before);
}
