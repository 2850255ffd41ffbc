//! Another host has the virtual address as well.

use crate::lab::{Replication, Server, add_vip};
use crate::site;
use crate::site::{run_by_hand, succeed, told};

const VIP: &str = "10.77.0.100/24 dev eth0";

/// The address on `server`'s host, until this goes: the site is shared.
struct Held<'s>(&'s Server);

impl<'s> Held<'s> {
    fn on(server: &'s Server) -> Held<'s> {
        server.host.sh(&format!("ip addr add {VIP}"));
        Held(server)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.host.sh(&format!("ip addr del {VIP} || true"));
    }
}

#[test]
fn what_keepalived_put_on_two_hosts_is_told() {
    site!(site, Replication::Gtid);
    let toml = site.db2.host.read("/etc/hookbox/hookbox.toml");
    let toml = format!("vip = [\"{VIP}\"]\n{toml}");
    site.db2
        .host
        .write("/etc/hookbox/hookbox.toml", toml, 0o644);
    let _both = [Held::on(&site.db1), Held::on(&site.db2)];
    succeed(&site.db2, &["notify_master"]);
    let told = told(&site.db2);
    assert!(site.db2.is_writable(), "{told}");
    assert!(
        told.contains("TWO HOSTS have an address: 10.77.0.100 is at "),
        "{told}"
    );
    assert!(told.contains("(10.77.0.11)"), "{told}");
}

#[test]
fn who_has_the_address_is_closed_before_it_loses_it() {
    site!(site, Replication::Gtid);
    let _there = Held::on(&site.db1);
    let (status, _, err) = run_by_hand(&site.db2, &add_vip("refuse"));
    assert_eq!(status, 3, "{err}");
    assert!(site.db1.is_writable());
    // Nobody lets db2 in by ssh, so that db1 keeps the address.
    let (status, _, err) = run_by_hand(&site.db2, &add_vip("fence"));
    assert_ne!(status, 0, "{err}");
    assert!(!site.db1.is_writable(), "{err}");
    assert!(err.contains("10.77.0.11"), "{err}");
    let here = site.db2.host.sh("ip -o addr show dev eth0");
    assert!(!here.contains("10.77.0.100"), "{here}");
}
