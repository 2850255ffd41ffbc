//! How often a promotion waits for its server.

use std::time::Duration;

use crate::counter::RoundTrips;
use crate::lab::{Replication, Server, wait_until};
use crate::site;
use crate::site::{succeed, told};

const SOCKET: &str = "/run/counted.sock";

/// Counts the round trips of hookbox with `server`.
fn count(server: &Server) -> RoundTrips {
    server.host.sh(&format!("rm -f {SOCKET}"));
    let toml = server.host.read("/etc/hookbox/hookbox.toml");
    let socket = format!("[mysql]\nsocket = \"{SOCKET}\"\n");
    let toml = toml.replace("[mysql]\n", &socket);
    server.host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
    let path = |socket| server.host.path(socket);
    RoundTrips::count(&path(SOCKET), &path("/run/mysqld/mysqld.sock"))
}

#[test]
fn a_promotion_with_nothing_left_to_apply_takes_six_round_trips() {
    for by in [Replication::Gtid, Replication::FileAndPosition] {
        for alive in [false, true] {
            site!(site, by);
            site.write_events(1, 1000);
            site.wait_until_applied();
            match alive {
                true => drop(site.db1.sql("SET GLOBAL read_only = 1")),
                false => {
                    site.db1.kill();
                    wait_until("the source is missed", Duration::from_secs(10), || {
                        site.db2.replica_status("Slave_IO_Running") != "Yes"
                    });
                }
            }
            let counted = count(&site.db2);
            succeed(&site.db2, &["notify_master"]);
            assert!(site.db2.is_writable());
            let trips = counted.up_to("SET GLOBAL read_only = 0");
            assert!(
                trips.len() <= 6,
                "{by:?} {alive}: {trips:#?}{}",
                told(&site.db2)
            );
        }
    }
}
