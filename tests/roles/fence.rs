//! `vip add --on-conflict fence`: another host of the cluster has the address.

use crate::lab::{VIP, add_vip};
use crate::site::{PATIENT, Said, Site, has};

/// `vip add` on db2, which fences whoever has the address.
fn fence(site: &Site, more: &[&str]) -> Said {
    site.run(2, &[&add_vip("fence")[..], &[PATIENT], more].concat())
}

/// Where in `text` each of `words` is; they have to come in this order.
#[track_caller]
fn in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let Some((_, after)) = rest.split_once(word) else {
            panic!("no {word:?} there in\n{text}");
        };
        rest = after;
    }
}

#[test]
fn an_owner_that_takes_writes_is_closed_and_loses_the_address_by_ssh_before_it_comes_here() {
    let Some(site) = Site::new() else { return };
    let said = fence(&site, &["--dry-run"]);
    said.assert(0, &["10.77.0.100 is at", "(db1)"]);
    assert_eq!(site.holders(VIP), [1]);
    assert_eq!(site.db(1).ask("SELECT @@read_only"), "0");

    let said = fence(&site, &[]);
    said.assert(0, &[]);
    in_order(
        &said.text,
        &[
            "(db1)",
            "close writes on 10.77.0.11:3306",
            "take 10.77.0.100/24 dev eth0 off db1",
            "db1: delete 10.77.0.100/24 dev eth0",
            "nobody else has 10.77.0.100",
            "add 10.77.0.100/24 dev eth0",
        ],
    );
    assert_eq!(site.holders(VIP), [2]);
    assert_eq!(site.db(1).ask("SELECT @@read_only"), "1");
    // Who becomes the primary is not for this to say.
    assert_eq!(site.db(2).ask("SELECT @@read_only"), "1");
    fence(&site, &[]).assert(0, &["was so"]);
}

#[test]
fn an_owner_whose_server_is_dead_loses_the_address_all_the_same() {
    let Some(mut site) = Site::new() else { return };
    site.cluster_mut().db1.kill();
    let said = fence(&site, &[]);
    said.assert(0, &["10.77.0.11:3306 does not answer"]);
    assert!(!has(&site.db(1).host, VIP));
    assert!(has(&site.db(2).host, VIP));
}

#[test]
fn an_owner_that_cannot_be_closed_keeps_the_address() {
    let Some(site) = Site::new() else { return };
    site.db(2)
        .host
        .write("/etc/hookbox/password", "wrong", 0o600);
    let said = fence(&site, &[]);
    site.db(2)
        .host
        .write("/etc/hookbox/password", "change-me\n", 0o600);
    said.assert(3, &["10.77.0.11:3306 takes no writes", "[[peer]]"]);
    assert_eq!(site.holders(VIP), [1]);
    assert_eq!(site.db(1).ask("SELECT @@read_only"), "0");
}
