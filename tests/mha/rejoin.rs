//! The old primary, or one of its replicas, becomes a replica of the new one.

use std::time::Duration;

use crate::lab::{Server, wait_until};
use crate::trial;
use crate::trial::assert_ended;

const ROWS: &str = "SELECT GROUP_CONCAT(server ORDER BY seq) FROM lab.t WHERE w = 9";

fn insert(row: u32) -> String {
    format!("INSERT INTO lab.t (w, seq, server) VALUES (9, {row}, @@server_id)")
}

fn wait_for_rows(server: &Server, rows: &str) {
    let what = format!("{} has the rows of {rows}", server.host.name);
    wait_until(&what, Duration::from_secs(10), || server.ask(ROWS) == rows);
}

/// Makes `server` a replica of db2; gives what it said.
fn rejoin(server: &Server) -> String {
    let host = &server.host;
    let toml = host.read("/etc/hookbox/hookbox.toml");
    let toml =
        format!("{toml}\n[rejoin]\nuser = \"repl\"\npassword_file = \"/etc/hookbox/repl\"\n");
    host.write("/etc/hookbox/repl", "replpass\n", 0o600);
    host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
    let mut command = host.command("/usr/sbin/hookbox");
    let command = command.args(["rejoin", "--source", "10.77.0.12"]);
    let rejoin = command.output().unwrap();
    let said = String::from_utf8(rejoin.stderr).unwrap();
    assert!(rejoin.status.success(), "{said}");
    said
}

#[test]
fn after_a_failover_the_old_primary_rejoins_though_mha_knows_no_gtids() {
    trial!(trial);
    trial.db(1).sql(&insert(1));
    wait_for_rows(trial.db(2), "1");
    wait_for_rows(trial.db(3), "1");
    let manager = trial.mha().manage();
    trial.fault(|cluster| cluster.db1.kill());
    assert_ended(&manager.end(), 0, &["completed successfully"]);
    trial.db(2).sql(&insert(2));
    trial.comes_back_open(|cluster| cluster.db1.start());
    let said = rejoin(trial.db(1));
    trial.db(2).sql(&insert(3));
    wait_for_rows(trial.db(1), "1,2,2");
    wait_for_rows(trial.db(3), "1,2,2");
    assert!(trial.is_alone(2), "{said}\n{}", trial.story());
}

#[test]
fn a_replica_applies_what_the_old_primary_sent_before_it_follows_the_new_one() {
    trial!(trial);
    trial.db(3).sql("STOP SLAVE SQL_THREAD");
    trial.db(1).sql(&insert(1));
    let end = trial.db(1).sql("SHOW MASTER STATUS").remove(0).remove(1);
    for replica in [2, 3] {
        wait_until("it has arrived", Duration::from_secs(10), || {
            trial.db(replica).replica_status("Read_Master_Log_Pos") == end
        });
    }
    wait_for_rows(trial.db(2), "1");
    assert_eq!(trial.db(3).ask(ROWS), "");
    trial.fault(|cluster| cluster.db1.kill());
    for sql in ["STOP SLAVE", "RESET SLAVE ALL", "SET GLOBAL read_only = 0"] {
        trial.db(2).sql(sql);
    }
    trial.db(2).sql(&insert(2));
    let said = rejoin(trial.db(3));
    assert!(
        said.contains("apply what was received from 10.77.0.11"),
        "{said}"
    );
    wait_for_rows(trial.db(3), "1,2");
}
