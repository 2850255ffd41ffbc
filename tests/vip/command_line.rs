//! What is typed and what is said.

use crate::*;

#[test]
fn a_dry_run_asks_everything_and_changes_nothing() {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let before = addresses(&here);
    let capture = capture(&there);
    let said = done(&here, "add 10.7.0.79/24 dev a0 --dry-run");
    assert!(
        said.contains("would do    add 10.7.0.79/24 dev a0"),
        "{said}"
    );
    assert!(said.contains("would do    announce"), "{said}");
    done(&here, "announce 10.7.0.1/24 dev a0 --dry-run");
    assert!(done(&here, "del 10.7.0.1/24 dev a0 --dry-run").contains("would do    delete"));
    assert_eq!(addresses(&here), before);
    assert!(frames(&capture, ARP).is_empty());
    assert!(announcers(&here).is_empty());
}

#[test]
fn json_is_one_line_of_a_stable_form() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let json = |args: &str| -> Value {
        let said = vip(&here, args);
        assert_eq!(said.stdout.lines().count(), 1, "{}", said.stdout);
        serde_json::from_str(&said.stdout).unwrap()
    };
    let added = json("add 10.7.0.100/24 dev a0 --json");
    assert_eq!(added["v"], 1);
    assert_eq!(added["hookbox"], env!("CARGO_PKG_VERSION"));
    assert_eq!(added["outcome"], "done");
    assert_eq!(added["changed"], true);
    assert_eq!(added["vips"][0], "10.7.0.100/24 dev a0");
    let steps = added["timeline"].as_array().unwrap();
    let adding = steps
        .iter()
        .find(|step| step["step"] == "add 10.7.0.100/24 dev a0");
    assert_eq!(adding.unwrap()["mark"], "done");
    assert_eq!(added["error"], Value::Null);
    assert_eq!(json("add 10.7.0.100/24 dev a0 --json")["changed"], false);
    let all = json("show --json");
    assert!(
        all["vips"]
            .as_array()
            .unwrap()
            .contains(&"10.7.0.1/24 dev a0".into()),
        "{all}"
    );
    let refused = json("add 10.7.0.100/32 dev a0 --json");
    assert_eq!(refused["outcome"], "refused");
    assert!(
        refused["error"]
            .as_str()
            .unwrap()
            .contains("is on this host")
    );
    assert!(
        refused["advice"]
            .as_str()
            .unwrap()
            .starts_with("hookbox vip del")
    );
    let bad = json("add 10.7.0.100 dev a0 --json");
    assert!(bad["error"].as_str().unwrap().contains("no prefix length"));
}

#[test]
fn an_account_without_rights_is_told_what_it_lacks() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    let said = here.run(|| {
        hookbox(Command::new("setpriv"))
            .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"])
            .arg(HOOKBOX)
            .args(["vip", "add", "10.7.0.100/24", "dev", "a0"])
            .output()
            .unwrap()
    });
    let stderr = String::from_utf8(said.stderr).unwrap();
    assert!(stderr.contains("CAP_NET_ADMIN"), "{stderr}");
    assert!(!addresses(&here).contains("10.7.0.100"));
}

#[test]
fn what_belongs_to_a_whole_subnet_is_not_added_but_taken_off() {
    let Some((here, _there)) = two_hosts() else {
        return;
    };
    for (address, why) in [
        (
            "10.7.0.255/24 dev a0",
            "10.7.0.255 is the broadcast address",
        ),
        ("10.7.0.0/24 dev a0", "10.7.0.0 is the network address"),
        ("224.0.0.18/24 dev a0", "cannot be a virtual address"),
        ("ff02::12/64 dev a0", "cannot be a virtual address"),
    ] {
        refused(&here, 2, &format!("add {address}"), why);
    }
    let said = vip(&here, "add 10.7.0.255/24 dev a0").stderr;
    assert!(
        said.contains("try: take one from 10.7.0.1 to 10.7.0.254"),
        "{said}"
    );
    here.sh("ip address add 10.7.0.255/24 dev a0");
    done(&here, "show 10.7.0.255/24 dev a0");
    done(&here, "del 10.7.0.255/24 dev a0");
    assert!(!addresses(&here).contains("10.7.0.255/"));
}

#[test]
fn wrong_arguments_get_one_line_and_status_2() {
    for args in [
        "add 10.7.0.100 dev a0",
        "del 10.7.0.100/33 dev a0",
        "add 10.7.0.255/24 dev a0",
        "announce 10.7.0.0/24 dev a0",
        "show a0",
    ] {
        let output = hookbox(Command::new(HOOKBOX))
            .arg("vip")
            .args(args.split(' '))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("vip: "), "{stderr}");
        assert_eq!(
            stderr.lines().count(),
            2,
            "the fault, and what to try: {stderr}"
        );
    }
    for args in [
        &["vip"][..],
        &["vip", "add"],
        &["vip", "move"],
        &["vip", "add", "--limit", "x"],
    ] {
        let output = hookbox(Command::new(HOOKBOX)).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}
