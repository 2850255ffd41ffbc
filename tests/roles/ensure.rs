//! `vip ensure`: an address is where it belongs, never twice, and never where it is doubtful.

use std::process::Stdio;
use std::time::Duration;

use crate::lab::{Mha, VIP, wait_until};
use crate::site::{
    ADMIN, CONFIG, READER, Said, Site, TOML, pause, put_on, run, take_off, take_vip_off,
};

const JOURNAL: &str = "/var/log/hookbox/journal.jsonl";

fn ensure(site: &Site, number: usize) -> Said {
    site.run(number, &["vip", "ensure"])
}

/// One after the other on all database hosts, as their timers would.
fn everywhere(site: &Site) {
    for number in [1, 2, 3] {
        ensure(site, number);
    }
}

#[track_caller]
fn all_in_place(site: &Site, reader: &[u32]) {
    assert_eq!(site.holders(VIP), [1]);
    assert_eq!(site.holders(ADMIN), [1]);
    assert_eq!(site.holders(READER), reader);
}

#[test]
fn where_all_is_well_nothing_is_done_and_nothing_written_down() {
    let Some(site) = Site::new() else { return };
    for number in [1, 2, 3] {
        let said = ensure(&site, number);
        said.assert(0, &[]);
        assert_eq!(said.text, "");
        assert_eq!(site.db(number).host.read(JOURNAL), "");
    }
    all_in_place(&site, &[3]);
    let dry = site.run(1, &["vip", "ensure", "--dry-run"]);
    dry.assert(0, &["the primary's addresses: here, as it should be"]);
    let dry = site.run(2, &["vip", "ensure", "--dry-run"]);
    dry.assert(
        0,
        &["not here, as it should be: the server here takes no writes"],
    );
    site.run(1, &["vip", "ensure", "none"])
        .assert(2, &["there is no role none"]);
    let manager = run(&site.cluster().manager, &["vip", "ensure"]);
    manager.assert(3, &["there is no server on this host"]);
}

#[test]
fn what_a_network_restart_took_away_comes_back_on_the_primary_and_is_announced() {
    let Some(site) = Site::new() else { return };
    let client = site.cluster().client.clone();
    client.sh(&format!("ping -q -c1 -W2 {VIP} > /dev/null"));
    take_vip_off(&site.db(1).host);
    take_off(&site.db(1).host, ADMIN);
    let dry = site.run(1, &["vip", "ensure", "--dry-run"]);
    dry.assert(0, &["would do", "add 10.77.0.100/24 dev eth0"]);
    assert_eq!(site.holders(VIP), [] as [u32; 0]);
    for number in [2, 3] {
        ensure(&site, number).assert(0, &[]);
    }
    assert_eq!(site.holders(VIP), [] as [u32; 0]);
    ensure(&site, 1).assert(
        0,
        &[
            "add 10.77.0.100/24 dev eth0",
            "announce 10.77.0.100/24 dev eth0, 10.77.0.102/24",
        ],
    );
    all_in_place(&site, &[3]);
    client.sh(&format!("ping -q -c1 -W2 {VIP} > /dev/null"));
    let said = ensure(&site, 1);
    said.assert(0, &[]);
    assert_eq!(said.text, "");
}

#[test]
fn an_address_leaves_an_interface_that_lost_its_carrier_for_the_fallback() {
    let Some(site) = Site::new() else { return };
    let db1 = &site.db(1).host;
    take_vip_off(db1);
    let vip = format!("{VIP}/32 dev bond0 fallback eth0");
    site.configure(&CONFIG.replace(&format!("{VIP}/24 dev eth0"), &vip));
    db1.sh(&format!(
        "ip link add bond0 type veth peer name port0
         ip link set bond0 up; ip link set port0 up; ip addr add {VIP}/32 dev bond0"
    ));
    let before = ensure(&site, 1);
    db1.sh("ip link set port0 down");
    let moved = ensure(&site, 1);
    let on_bond = db1.sh("ip -o addr show dev bond0");
    let holders = site.holders(VIP);
    let again = ensure(&site, 1);
    db1.sh(&format!("ip link del bond0; ip addr del {VIP}/32 dev eth0"));
    before.assert(0, &[]);
    assert_eq!(before.text, "");
    moved.assert(
        0,
        &["bond0 has no carrier", &format!("add {VIP}/32 dev eth0")],
    );
    assert_eq!(holders, [1]);
    assert!(!on_bond.contains(VIP), "{on_bond}");
    again.assert(0, &[]);
    assert_eq!(again.text, "");
}

#[test]
fn an_address_that_another_host_answers_for_is_not_added() {
    let Some(site) = Site::new() else { return };
    take_vip_off(&site.db(1).host);
    let client = &site.cluster().client;
    put_on(client, VIP);
    let refused = ensure(&site, 1);
    take_vip_off(client);
    refused.assert(3, &["an unknown host (", ") has 10.77.0.100"]);
    assert_eq!(site.holders(VIP), [] as [u32; 0]);

    put_on(&site.db(2).host, VIP);
    ensure(&site, 1).assert(3, &["db2 has 10.77.0.100"]);
    assert_eq!(site.holders(VIP), [2]);
    let why = "db1 takes writes, and the server here does not";
    ensure(&site, 2).assert(0, &[why, "delete 10.77.0.100/24"]);
    ensure(&site, 1).assert(0, &[]);
    all_in_place(&site, &[3]);

    put_on(&site.db(3).host, VIP);
    ensure(&site, 1).assert(3, &["db3 has 10.77.0.100 as well"]);
    ensure(&site, 3).assert(0, &["delete 10.77.0.100/24"]);
    all_in_place(&site, &[3]);
}

#[test]
fn a_primary_that_is_not_the_only_one_or_hears_nobody_adds_nothing() {
    let Some(site) = Site::new() else { return };
    take_vip_off(&site.db(1).host);
    site.db(2).sql("SET GLOBAL read_only = 0");
    for number in [1, 2] {
        ensure(&site, number).assert(3, &["take"]);
    }
    // A replica that somebody opened is no primary, though the primary is silent.
    site.db(1).freeze();
    let replica = ensure(&site, 2);
    site.db(1).thaw();
    replica.assert(
        3,
        &["the server here takes writes and replicates from 10.77.0.11:3306"],
    );
    site.db(2).sql("SET GLOBAL read_only = 1");
    assert_eq!(site.holders(VIP), [] as [u32; 0]);

    site.cluster().switch.block(&site.db(1).host);
    ensure(&site, 1).assert(3, &["nobody answers"]);
    assert_eq!(site.holders(VIP), [] as [u32; 0]);
    site.cluster().switch.heal(&site.db(1).host);
    ensure(&site, 1).assert(0, &[]);
    all_in_place(&site, &[3]);
}

#[test]
fn a_closed_server_keeps_the_address_while_no_other_is_the_primary() {
    let Some(site) = Site::new() else { return };
    site.db(1).sql("SET GLOBAL read_only = 1");
    ensure(&site, 1).assert(0, &["they stay here: no server is known to take writes"]);
    assert_eq!(site.holders(VIP), [1]);
    let again = ensure(&site, 1);
    again.assert(0, &[]);
    assert_eq!(again.text, "", "it is said once");
}

#[test]
fn the_reader_leaves_a_replica_that_dies_and_does_not_come_back_with_it() {
    let Some(mut site) = Site::new() else { return };
    site.cluster_mut().db3.kill();
    ensure(&site, 2).assert(0, &["it belongs here, and db3 has it still"]);
    assert_eq!(site.holders(READER), [3]);
    let dry = site.run(3, &["vip", "ensure", "--dry-run"]);
    let words = "the primary's addresses: not here, and not added: the server here does not answer";
    dry.assert(0, &[words]);
    ensure(&site, 3).assert(0, &["it belongs on db2", "delete 10.77.0.101/24"]);
    ensure(&site, 2).assert(0, &["add 10.77.0.101/24"]);
    all_in_place(&site, &[2]);
    site.cluster_mut().db3.start();
    site.db(3).sql("SET GLOBAL read_only = 1");
    wait_until("db3 replicates", Duration::from_secs(20), || {
        site.run(1, &["vip", "status"])
            .text
            .contains("db3: replica, writes closed, 0 s behind")
    });
    for _ in 0..3 {
        everywhere(&site);
        all_in_place(&site, &[2]);
    }
}

#[test]
fn a_list_is_an_order_and_the_primary_may_have_it_when_no_replica_is_fit() {
    let Some(mut site) = Site::new() else { return };
    let on = "on = ['db2', 'db3']\nor_primary = true";
    site.configure(&CONFIG.replace("on = 'replica'", on));
    // Unlike a healthy holder of "any replica", db3 hands it over.
    everywhere(&site);
    everywhere(&site);
    all_in_place(&site, &[2]);
    site.db(2).sql("STOP SLAVE SQL_THREAD");
    everywhere(&site);
    everywhere(&site);
    all_in_place(&site, &[3]);
    site.cluster_mut().db3.kill();
    everywhere(&site);
    everywhere(&site);
    all_in_place(&site, &[1]);
    site.db(2).sql("START SLAVE");
    everywhere(&site);
    everywhere(&site);
    all_in_place(&site, &[2]);
    let unknown = CONFIG.replace("on = 'replica'", "on = ['db9']");
    site.configure(&unknown);
    ensure(&site, 1).assert(
        2,
        &["role reader: db9 is neither in [[peer]] nor this host"],
    );
}

#[test]
fn a_replica_that_is_cut_off_gives_the_reader_up_and_another_takes_it() {
    let Some(site) = Site::new() else { return };
    let switch = &site.cluster().switch;
    switch.block(&site.db(3).host);
    // A break shorter than [guard] grace changes nothing.
    let db3 = site.db(3).host.clone();
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| run(&db3, &["vip", "ensure"]));
        pause(1500);
        switch.heal(&db3);
        looking.join().unwrap().assert(0, &[]);
    });
    assert_eq!(site.holders(READER), [3]);

    switch.block(&db3);
    ensure(&site, 3).assert(0, &["nobody answers", "delete 10.77.0.101/24"]);
    ensure(&site, 2).assert(0, &["add 10.77.0.101/24"]);
    switch.heal(&db3);
    everywhere(&site);
    all_in_place(&site, &[2]);
}

#[test]
fn of_two_hosts_that_take_it_at_the_same_time_the_one_with_the_lower_mac_keeps_it() {
    let Some(site) = Site::new() else { return };
    // Each believes that it is the one: no agreement but on the wire.
    for (number, own) in [(2, "['db2']"), (3, "['db3']")] {
        let toml = CONFIG.replace("on = 'replica'", &format!("on = {own}"));
        site.db(number).host.write(TOML, toml, 0o644);
    }
    let mac = |number| site.db(number).host.sh("ip -br link show dev eth0");
    let mac = |number| mac(number).split_whitespace().nth(2).unwrap().to_owned();
    let lower = if mac(2) < mac(3) { 2 } else { 3 };
    // They meet only if both add it within the millisecond that lies between asking and telling.
    let has_met = (0..100).any(|_| {
        for number in [2, 3] {
            take_off(&site.db(number).host, READER);
        }
        let start = |number: usize| {
            let mut command = site.db(number).host.command("/usr/sbin/hookbox");
            let command = command.args(["vip", "ensure", "reader"]);
            command.stderr(Stdio::null()).spawn().unwrap()
        };
        let (mut two, mut three) = (start(2), start(3));
        let ended = [two.wait().unwrap(), three.wait().unwrap()].map(|end| end.code().unwrap());
        let holders = site.holders(READER);
        assert_eq!(holders.len(), 1, "{holders:?} {ended:?}");
        // One of them added it and took it back.
        ended.contains(&4) && holders == [lower]
    });
    assert!(has_met, "they never met");
    // And where both have had it for long, as after a cable was cut and mended.
    for number in [2, 3] {
        take_off(&site.db(number).host, READER);
        put_on(&site.db(number).host, READER);
    }
    for number in [2, 3] {
        site.run(number, &["vip", "ensure", "reader"]);
    }
    assert_eq!(site.holders(READER), [lower]);
}

#[test]
fn what_keepalived_owns_is_left_to_it_in_one_clear_line() {
    let Some(site) = Site::new() else { return };
    let db1 = &site.db(1).host;
    db1.write(
        "/etc/keepalived/keepalived.conf",
        "include conf.d/*.conf\n",
        0o644,
    );
    let conf =
        format!("vrrp_instance mysql {{\n virtual_ipaddress {{\n {VIP}/24 dev eth0\n }}\n}}");
    db1.write("/etc/keepalived/conf.d/mysql.conf", conf, 0o644);
    take_vip_off(db1);
    let refused = ensure(&site, 1);
    let reader = site.run(1, &["vip", "ensure", "reader"]);
    db1.sh("rm -rf /etc/keepalived");
    refused.assert(
        3,
        &["10.77.0.100 is keepalived's, by /etc/keepalived/keepalived.conf"],
    );
    reader.assert(0, &[]);
    assert_eq!(site.holders(VIP), [] as [u32; 0]);
    // The prefix of an address is not the address.
    let other = "virtual_ipaddress {\n 10.77.0.10/24\n}\n";
    db1.write("/etc/keepalived/keepalived.conf", other, 0o644);
    let added = ensure(&site, 1);
    db1.sh("rm -rf /etc/keepalived");
    added.assert(0, &[]);
    all_in_place(&site, &[3]);
}

#[test]
fn during_maintenance_and_while_mha_switches_nothing_is_done() {
    let Some(site) = Site::new() else { return };
    take_vip_off(&site.db(1).host);
    site.run(1, &["maintenance", "on", "--for", "10m"])
        .assert(0, &[]);
    ensure(&site, 1).assert(0, &["maintenance until ", ": nothing is done"]);
    site.run(1, &["maintenance", "off"]).assert(0, &[]);
    let mha = Mha::new(site.cluster());
    let stopped = mha.online_hook("stop").end();
    assert_eq!(stopped.status, 0, "{}", stopped.said);
    let open = run(&site.cluster().manager, &["vip", "ensure"]);
    open.assert(0, &["a switch from 10.77.0.11 is open: nothing is done"]);
    run(&site.cluster().manager, &["undo"]).assert(0, &[]);

    let lock = "mariadb -e \"SELECT GET_LOCK('MHA_Master_High_Availability_Failover', 0);
                SELECT SLEEP(600)\"";
    let mha = site
        .db(2)
        .host
        .start("sh", &["-c", lock], "/var/log/lock.log");
    wait_until("the lock is held", Duration::from_secs(10), || {
        let held = "SELECT IS_USED_LOCK('MHA_Master_High_Availability_Failover') IS NOT NULL";
        site.db(2).ask(held) == "1"
    });
    let waits = ensure(&site, 1);
    mha.signal_group("KILL");
    waits.assert(0, &["MHA is switching: nothing is done"]);
    assert_eq!(site.holders(VIP), [] as [u32; 0]);
    wait_until("the lock is gone", Duration::from_secs(10), || {
        ensure(&site, 1);
        site.holders(VIP) == [1]
    });
}

#[test]
fn told_to_end_after_it_added_it_takes_all_of_them_off_again_and_does_nothing_more() {
    let Some(site) = Site::new() else { return };
    let db1 = &site.db(1).host;
    for signal in ["INT", "TERM"] {
        for address in [VIP, ADMIN] {
            take_off(db1, address);
        }
        // It would be taken off next.
        for number in [2, 3] {
            take_off(&site.db(number).host, READER);
        }
        put_on(db1, READER);
        let is_added =
            |line: &str| line.contains("done  ") && line.contains("announce 10.77.0.100");
        let (status, text) = db1.hookbox_until(&["vip", "ensure"], signal, is_added);
        assert_eq!(status, Some(4), "{text}");
        let why = format!("SIG{signal} arrived");
        assert!(text.contains(&why) && !text.contains("try:"), "{text}");
        assert!(text.contains("undone  "), "{text}");
        let last = text.lines().last().unwrap();
        assert!(last.ends_with(&why), "{text}");
        for address in [VIP, ADMIN] {
            assert_eq!(site.holders(address), [] as [u32; 0], "{text}");
        }
        assert_eq!(site.holders(READER), [1], "{text}");
        ensure(&site, 1).assert(0, &["add 10.77.0.100/24 dev eth0", "delete 10.77.0.101/24"]);
        ensure(&site, 2);
        ensure(&site, 3);
        assert_eq!(site.holders(VIP), [1]);
        assert_eq!(site.holders(ADMIN), [1]);
    }
}

/// Ends `vip ensure` on a host so long after its start.
fn ended_after(site: &Site, number: usize, signal: &str, millis: u64) -> Said {
    let seconds = format!("{}.{:03}", millis / 1000, millis % 1000);
    let words = [
        "--preserve-status",
        "-s",
        signal,
        &seconds,
        "/usr/sbin/hookbox",
    ];
    let mut command = site.db(number).host.command("timeout");
    Said::from(command.args(words).args(["vip", "ensure"]))
}

#[test]
fn told_to_end_while_it_waits_whether_it_is_alone_it_removes_nothing() {
    let Some(site) = Site::new() else { return };
    site.configure(&format!("{CONFIG}[guard]\ngrace = '10s'\n"));
    let db3 = &site.db(3).host;
    for signal in ["INT", "TERM"] {
        site.cluster().switch.block(db3);
        let ended = ended_after(&site, 3, signal, 6000);
        site.cluster().switch.heal(db3);
        ended.assert(3, &[&format!("SIG{signal} arrived")]);
        assert_eq!(ended.text.lines().count(), 1, "{}", ended.text);
        assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
        assert_eq!(site.holders(READER), [3]);
    }
    ensure(&site, 3).assert(0, &[]);
    all_in_place(&site, &[3]);
}

#[test]
fn told_to_end_at_any_moment_it_does_not_take_that_for_a_reason_to_give_way() {
    let Some(site) = Site::new() else { return };
    let mac = |number: usize| {
        site.db(number)
            .host
            .sh("ip -br link show dev eth0 | awk '{print $3}'")
    };
    // Of two that have it this one keeps it.
    let (keeps, other) = if mac(2) < mac(3) { (2, 3) } else { (3, 2) };
    // For what nobody answers the neighbours have all of their time, and it can end in there.
    let second = "10.77.0.103";
    let both = format!("'{READER}/24 dev eth0', '{second}/24 dev eth0'");
    site.configure(&CONFIG.replace(&format!("'{READER}/24 dev eth0'"), &both));
    put_on(&site.db(keeps).host, second);
    for number in [2, 3] {
        take_off(&site.db(number).host, READER);
        put_on(&site.db(number).host, READER);
    }
    for millis in (10..).step_by(15) {
        let ended = ended_after(&site, keeps, "TERM", millis);
        assert!(
            super::site::has(&site.db(keeps).host, READER),
            "{millis} ms: {}",
            ended.text
        );
        if ended.text.contains("is to give way") {
            break;
        }
        assert!(millis < 3000, "{}", ended.text);
    }
    take_off(&site.db(other).host, READER);
    take_off(&site.db(keeps).host, second);
}
