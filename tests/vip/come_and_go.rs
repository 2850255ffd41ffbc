//! Addresses come to a host and leave it.

use crate::*;

#[test]
fn adding_and_deleting_twice_is_no_failure_and_no_change() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    for vip in ["10.7.0.100/24 dev a0", "fd07::100/64 dev a0"] {
        let before = addresses(&here);
        assert!(done(&here, &format!("add {vip}")).contains(&format!("done        add {vip}")));
        let with = addresses(&here);
        assert_ne!(with, before);
        assert!(done(&here, &format!("add {vip}")).contains(&format!("was so      add {vip}")));
        assert_eq!(addresses(&here), with);
        assert!(done(&here, &format!("del {vip}")).contains("done        delete"));
        assert_eq!(addresses(&here), before);
        assert!(done(&here, &format!("del {vip}")).contains("was so      delete"));
        assert_eq!(addresses(&here), before);
    }
}

#[test]
fn addresses_are_compared_as_addresses() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    done(&here, "add 192.168.1.100/24 dev a0");
    refused(&here, 3, "show 192.168.1.10/24 dev a0", "not on this host");
    refused(&here, 3, "show 92.168.1.100/24 dev a0", "not on this host");
    refused(&here, 3, "show 192.168.1.100/24 dev lo", "not on this host");
    assert!(done(&here, "del 192.168.1.10/24 dev a0").contains("was so      delete"));
    done(&here, "show 192.168.1.100/24 dev a0");
    done(&here, "add 192.168.1.10/24 dev a0");
    done(&here, "del 192.168.1.10/24 dev a0");
    assert!(addresses(&here).contains("192.168.1.100/24"));
    done(&here, "add fd07:0:0::0a0/64 dev a0");
    done(&here, "show fd07::a0/64 dev a0");
}

#[test]
fn the_same_address_with_another_prefix_or_elsewhere_is_refused_not_overlooked() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    done(&here, "add 10.7.0.100/32 dev a0");
    for elsewhere in [
        "10.7.0.100/24 dev a0",
        "10.7.0.100/32 dev lo",
        "10.7.0.100/32 dev gone",
    ] {
        refused(&here, 3, &format!("show {elsewhere}"), "not on this host");
        let why = "10.7.0.100 is on this host as 10.7.0.100/32 dev a0";
        refused(&here, 3, &format!("del {elsewhere}"), why);
        if !elsewhere.ends_with("gone") {
            refused(&here, 3, &format!("add {elsewhere}"), why);
        }
    }
}

#[test]
fn a_label_is_set_and_does_not_matter_when_deleting() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    done(&here, "add 10.7.0.100/24 dev a0 --label a0:vip");
    assert!(addresses(&here).contains("a0:vip"));
    assert!(done(&here, "show").contains("10.7.0.100/24 dev a0 label a0:vip\n"));
    assert!(done(&here, "add 10.7.0.100/24 dev a0").contains("was so      add"));
    assert!(done(&here, "del 10.7.0.100/24 dev a0").contains("done        delete"));
}

#[test]
fn an_address_that_would_take_others_with_it_is_not_deleted() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    here.sh("echo 0 > /proc/sys/net/ipv4/conf/all/promote_secondaries");
    here.sh("echo 0 > /proc/sys/net/ipv4/conf/a0/promote_secondaries");
    here.sh("ip address add 10.8.0.100/24 dev a0; ip address add 10.8.0.1/24 dev a0");
    refused(
        &here,
        3,
        "del 10.8.0.100/24 dev a0",
        "10.8.0.1 would go away with",
    );
    here.sh("echo 1 > /proc/sys/net/ipv4/conf/a0/promote_secondaries");
    done(&here, "del 10.8.0.100/24 dev a0");
    assert!(addresses(&here).contains("10.8.0.1/24"));
}

#[test]
fn an_announcement_that_fails_takes_the_address_off_again() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let before = addresses(&here);
    let said = here.run(|| {
        hookbox(Command::new("setpriv"))
            .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"])
            .arg(HOOKBOX)
            .args(["vip", "add", "10.7.0.100/24", "dev", "a0", "--probe", "0s"])
            .output()
            .unwrap()
    });
    assert_eq!(said.status.code(), Some(4));
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(stderr.contains("CAP_NET_RAW"), "{stderr}");
    assert_eq!(addresses(&here), before);
}
