//! A replica that has applied all becomes writable, its source having died: from the start of the
//! program until the server takes writes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::lab::{Host, Replication, Server, Switch, connect, wait_until};
use crate::report::Report;

const HOOKBOX: &str = "/usr/sbin/hookbox notify_master";

/// The least that a script can do: it asks by a client for every word that it wants to know.
const CLIENTS: &str = "for i in 1 2 3 4 5; do
        mariadb -e 'SHOW SLAVE STATUS\\G' | grep -w Slave_IO_Running | awk '{print $2}' > /dev/null
    done
    mariadb -e 'SET GLOBAL read_only = 0'";

/// Measures it `runs` times, and `baseline/notify_master` as well if that is there.
pub fn run(report: &mut Report, program: &Path, baseline: Option<&Path>, runs: usize) {
    let switch = Switch::new();
    let program = fs::read(program).unwrap();
    let (mut source, replica) = (
        Server::on(&switch, "db1", 1, "", &program),
        started(Server::on(&switch, "db2", 2, "", &program)),
    );
    let toml = format!(
        "[mysql]\npassword_file = \"/etc/hookbox/password\"\n[[peer]]\nhost = \"{}\"\n",
        source.address
    );
    let host = &replica.host;
    host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
    let mut ways = vec![("hookbox", HOOKBOX.to_owned())];
    ways.push(("six starts of the client", CLIENTS.to_owned()));
    let script = baseline.map(|dir| dir.join("notify_master"));
    if let Some(script) = script.filter(|it| it.exists()) {
        host.write("/usr/local/bin/baseline", fs::read(script).unwrap(), 0o755);
        host.sh("mkdir -p /var/log/mysql");
        ways.push(("baseline script", "/usr/local/bin/baseline".to_owned()));
    }
    println!("\nfrom exec to writable, with nothing left to apply; {runs} runs of each, in turns");
    let mut took: Vec<Vec<f64>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs {
        for ((_, script), took) in ways.iter().zip(&mut took) {
            prepare(&mut source, &replica);
            took.push(until_writable(host, script).as_secs_f64() * 1000.0);
        }
    }
    let medians: Vec<f64> = ways
        .iter()
        .zip(took)
        .map(|((name, _), took)| report.figure("promotion", *name, "ms", took))
        .collect();
    report.aim("promotion: ms from exec to writable", medians[0], 15.0);
    let ratio = medians[0] / medians[1];
    report.aim("promotion: in six starts of the client", ratio, 1.0 / 6.0);
}

fn started(mut server: Server) -> Server {
    server.start();
    server
}

/// The replica has applied what its source wrote before that died.
fn prepare(source: &mut Server, replica: &Server) {
    if source.connect().is_err() {
        source.start();
    }
    replica.sql("STOP SLAVE");
    replica.sql("RESET SLAVE ALL");
    replica.host.sh("rm -rf /run/hookbox /var/lib/hookbox");
    for server in [&*source, replica] {
        server.sql("RESET MASTER");
        server.sql("SET GLOBAL gtid_slave_pos = ''");
    }
    replica.sql("SET GLOBAL read_only = 1");
    source.sql("SET STATEMENT sql_log_bin = 0 FOR TRUNCATE lab.t");
    replica.sql("SET STATEMENT sql_log_bin = 0 FOR TRUNCATE lab.t");
    replica.replicate_from(source, Replication::Gtid);
    source.sql("INSERT INTO lab.t (w, seq, server) VALUES (1, 1, 1)");
    let limit = Duration::from_secs(20);
    wait_until("all is applied", limit, || {
        replica.ask("SELECT COUNT(*) FROM lab.t") == "1"
    });
    source.kill();
    wait_until("the source is missed", limit, || {
        replica.replica_status("Slave_IO_Running") != "Yes"
    });
}

/// Runs `script` on the host; gives the time until its server takes writes.
fn until_writable(host: &Arc<Host>, script: &str) -> Duration {
    let mut watcher = connect(host).unwrap();
    // Waiting in the host, so that only the start of the program counts.
    let mut child = host
        .command("sh")
        .args(["-c", &format!("read go; {script}")])
        .env("HOME", "/root")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let began = Instant::now();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let question = "SELECT @@GLOBAL.read_only";
    while watcher.query_first::<bool, _>(question).unwrap() == Some(true) {
        assert!(began.elapsed() < Duration::from_secs(60), "{script}");
        std::thread::sleep(Duration::from_micros(200));
    }
    let took = began.elapsed();
    child.wait().unwrap();
    took
}
