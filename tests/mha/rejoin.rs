//! The old primary comes back as a replica of the one that MHA has made.

use std::time::Duration;

use crate::lab::wait_until;
use crate::trial;
use crate::trial::assert_ended;

#[test]
fn after_a_failover_the_old_primary_rejoins_though_mha_knows_no_gtids() {
    trial!(trial);
    let insert =
        |row: u32| format!("INSERT INTO lab.t (w, seq, server) VALUES (9, {row}, @@server_id)");
    let rows = "SELECT GROUP_CONCAT(server ORDER BY seq) FROM lab.t WHERE w = 9";
    trial.db(1).sql(&insert(1));
    for replica in [2, 3] {
        wait_until("the replicas have it", Duration::from_secs(10), || {
            trial.db(replica).ask(rows) == "1"
        });
    }
    let manager = trial.mha().manage();
    trial.fault(|cluster| cluster.db1.kill());
    assert_ended(&manager.end(), 0, &["completed successfully"]);
    trial.db(2).sql(&insert(2));
    trial.comes_back_open(|cluster| cluster.db1.start());
    let host = &trial.db(1).host;
    let toml = host.read("/etc/hookbox/hookbox.toml");
    let toml =
        format!("{toml}\n[rejoin]\nuser = \"repl\"\npassword_file = \"/etc/hookbox/repl\"\n");
    host.write("/etc/hookbox/repl", "replpass\n", 0o600);
    host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
    // What MHA's failover leaves behind, since the host was not dead.
    assert!(!host.has_vip(), "{}", trial.story());
    let rejoin = host
        .command("/usr/sbin/hookbox")
        .args(["rejoin", "--source", "10.77.0.12"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&rejoin.stderr);
    assert!(rejoin.status.success(), "{said}\n{}", trial.story());
    trial.db(2).sql(&insert(3));
    for replica in [1, 3] {
        wait_until("both replicate from db2", Duration::from_secs(10), || {
            trial.db(replica).ask(rows) == "1,2,2"
        });
    }
    assert!(trial.is_alone(2), "{said}\n{}", trial.story());
}
