//! Who answers through an address, compared with who should.

use crate::lab::VIP;
use crate::site::{PATIENT, Site, put_on, run, take_vip_off};

#[test]
fn the_server_behind_every_address_is_compared_with_the_one_it_should_be() {
    let Some(site) = Site::new() else { return };
    let right = [
        "writer 10.77.0.100: db1 answers, server_id 1, as it should",
        "admin 10.77.0.102: db1 answers, server_id 1, as it should",
        "reader 10.77.0.101: db3 answers, server_id 3, as it should",
    ];
    for host in site.cluster().hosts() {
        run(host, &["vip", "verify", PATIENT]).assert(0, &right);
    }
    take_vip_off(&site.db(1).host);
    let nobody = site.run(2, &["vip", "verify", PATIENT]);
    nobody.assert(3, &["writer 10.77.0.100: WRONG: no server answers: "]);
    put_on(&site.db(3).host, VIP);
    let wrong = site.run(2, &["vip", "verify", PATIENT]);
    wrong.assert(3, &["WRONG: db3 answers, and it should be db1", right[1]]);
    site.db(1).sql("SET GLOBAL read_only = 1");
    let unknown = site.run(2, &["vip", "verify", PATIENT]);
    unknown.assert(3, &["WRONG: db3 answers, and nobody can tell who should: "]);
    site.db(2).sql("SET GLOBAL read_only = 0");
    site.db(1).sql("SET GLOBAL read_only = 0");
    let both = site.run(3, &["vip", "verify", PATIENT]);
    both.assert(3, &["db1 and db2 both take writes"]);
    site.db(2).host.write("/tmp/none.toml", "", 0o644);
    let none = site.run(2, &["vip", "verify", PATIENT, "--config", "/tmp/none.toml"]);
    none.assert(2, &["no virtual address is configured"]);
}
