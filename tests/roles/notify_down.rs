//! `notify_down` and a real keepalived. This kernel may have no IPVS, so what `virtual_server` would
//! start is started by hand, and by keepalived on another occasion.

use std::time::Duration;

use crate::lab::{self, Host, Keepalived, Node, Pair, Replication, Shape, Switch, wait_until};
use crate::site::run;

const PID: &str = "/run/keepalived.pid";

fn runs(host: &Host) -> bool {
    host.path(PID).exists()
}

#[test]
fn keepalived_ends_hands_the_address_over_and_the_server_is_closed() {
    if !lab::is_possible() {
        return;
    }
    let program = env!("CARGO_BIN_EXE_hookbox");
    let shape = Shape::PrimaryAndReplica;
    let mut pair = Pair::new(shape, Replication::Gtid, program.as_ref());
    pair.start_keepalived();
    let Node { host, server, .. } = &pair.db1;

    let dry = run(host, &["notify_down", "--dry-run"]);
    dry.assert(0, &["would do", "stop keepalived, process "]);
    run(host, &["maintenance", "on", "--for", "10m"]).assert(0, &[]);
    run(host, &["notify_down"]).assert(0, &["maintenance until ", ": nothing is done"]);
    run(host, &["maintenance", "off"]).assert(0, &[]);
    assert!(runs(host) && pair.db1.is_primary());

    // A pid file that names something else ends nothing.
    let other = host.start("sleep", &["600"], "/dev/null");
    host.sh("pidof sleep > /run/other.pid");
    let toml = host.read("/etc/hookbox/hookbox.toml");
    let wrong = format!("{toml}\n[paths]\nkeepalived_pid = '/run/other.pid'\n");
    host.write("/etc/hookbox/wrong.toml", wrong, 0o644);
    let refused = run(
        host,
        &["notify_down", "--config", "/etc/hookbox/wrong.toml"],
    );
    refused.assert(1, &["not keepalived"]);
    host.sh("kill -0 $(cat /run/other.pid)");
    other.signal("KILL");
    assert!(runs(host) && pair.db1.is_primary());

    run(host, &["notify_down"]).assert(0, &["stop keepalived, process "]);
    wait_until("keepalived has ended", Duration::from_secs(15), || {
        !runs(host)
    });
    wait_until("db2 is the primary", Duration::from_secs(15), || {
        pair.db2.is_primary()
    });
    wait_until("db1 is closed", Duration::from_secs(15), || {
        !server.is_writable() && !pair.db1.has_vip()
    });
    run(host, &["notify_down"]).assert(0, &["keepalived does not run"]);
}

#[test]
fn keepalived_is_stopped_by_the_script_that_it_started_itself() {
    if !lab::is_possible() {
        return;
    }
    let switch = Switch::new();
    let host = std::sync::Arc::new(Host::new("db1"));
    switch.plug(&host, "10.77.0.11");
    let program = std::fs::read(env!("CARGO_BIN_EXE_hookbox")).unwrap();
    host.write("/usr/sbin/hookbox", program, 0o755);
    let conf = "global_defs {
            script_user root
            enable_script_security
        }
        vrrp_instance mysql {
            state BACKUP
            interface eth0
            virtual_router_id 7
            priority 100
            virtual_ipaddress {
                10.77.0.100/24
            }
            notify_master \"/usr/sbin/hookbox notify_down\"
        }";
    let mut keepalived = Keepalived::new(&host, conf);
    keepalived.start();
    wait_until("keepalived has ended", Duration::from_secs(30), || {
        !runs(&host)
    });
    let journal = host.read("/var/log/hookbox/journal.jsonl");
    assert!(journal.contains("stop keepalived, process "), "{journal}");
    assert!(!host.has_vip(), "{}", keepalived.log());
}
