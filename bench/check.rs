//! The health check, beside the least that one can do and what people use in its place: whole
//! processes on the server's own host, by its unix socket.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use crate::compiled::compile;
use crate::lab::{Host, Server};
use crate::report::Report;
use crate::split;

pub const SOCKET: &str = "/run/mysqld/mysqld.sock";
pub const HOOKBOX: &str = "/usr/sbin/hookbox check_mysql";
const RUNS: usize = 101;

const INSTANCES: usize = 50;
const TABLES: usize = 10_000;
const IDLE: usize = 5000;

/// What a start of each program cost, in the stopwatch's columns: microseconds of wall clock and
/// of processor, KiB.
pub type Costs = Vec<[f64; 3]>;

/// What is measured by the microsecond, on a disk as it is when it is installed: what a host writes
/// is in its memory, where the kernel maps one page at a time.
struct OnDisk(PathBuf);

impl OnDisk {
    fn new(program: &Path) -> OnDisk {
        let dir = PathBuf::from(format!("/var/tmp/hookbox-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::copy(program, dir.join("hookbox")).unwrap();
        fs::write(dir.join("floor"), compile("floor")).unwrap();
        fs::set_permissions(dir.join("floor"), Permissions::from_mode(0o755)).unwrap();
        OnDisk(dir)
    }

    /// Makes it `path` on a host that was made after this.
    fn show(&self, host: &Host, name: &str, path: &str) {
        let file = self.0.join(name);
        host.sh(&format!(
            "touch {path}; mount --bind {} {path}",
            file.display()
        ));
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures it, and `baseline/check_mysql` as well if that is there.
pub fn run(report: &mut Report, program: &Path, baseline: Option<&Path>) {
    let disk = OnDisk::new(program);
    let host = Arc::new(Host::new("db1"));
    make_certificate(&host);
    let settings = "max-connections = 6000\nback-log = 1000\nthread-cache-size = 10\n\
                    ssl-cert = /etc/mysql/cert.pem\nssl-key = /etc/mysql/key.pem";
    let mut server = Server::new(&host, "", 1, settings);
    server.start();
    server.sql("CREATE USER floor@localhost");
    equip(&host, &disk);

    let mut contenders = vec![
        ("floor", format!("/usr/local/bin/floor {SOCKET} floor")),
        ("hookbox", HOOKBOX.to_owned()),
        // With a server that has TLS they would encrypt the socket, too: 30 ms of processor.
        (
            "mariadb-admin ping",
            "/usr/bin/mariadb-admin --skip-ssl ping".to_owned(),
        ),
        (
            "mariadb -e",
            "/usr/bin/mariadb --skip-ssl -e select+1".to_owned(),
        ),
    ];
    if let Some(script) = baseline
        .map(|dir| dir.join("check_mysql"))
        .filter(|it| it.exists())
    {
        host.write("/usr/local/bin/baseline", fs::read(script).unwrap(), 0o755);
        host.sh("mkdir -p /var/log/mysql");
        contenders.push(("baseline script", "/usr/local/bin/baseline".to_owned()));
    }
    println!("\nhealth check, from start to exit; {RUNS} runs of each, interleaved");
    let commands: Vec<&str> = contenders.iter().map(|(_, it)| it.as_str()).collect();
    let costs = measure(&host, &commands);
    let column = |costs: &Costs, i: usize, unit: f64| costs.iter().map(|c| c[i] / unit).collect();
    let (mut wall, mut cpu, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for ((name, _), costs) in contenders.iter().zip(&costs) {
        wall.push(report.figure("check", *name, "ms", column(costs, 0, 1000.0)));
        let what = format!("{name}, processor");
        cpu.push(report.figure("check", what, "ms", column(costs, 1, 1000.0)));
        let what = format!("{name}, memory");
        memory.push(report.figure("check", what, "MiB", column(costs, 2, 1024.0)));
    }
    report.aim("check: wall, in floors", wall[1] / wall[0], 2.5);
    report.aim("check: processor, in floors", cpu[1] / cpu[0], 4.0);
    report.aim("check: memory, in MB", memory[1] * 1.048_576, 2.0);
    report.aim("check: wall, in mariadb -e", wall[1] / wall[3], 1.0 / 6.0);
    if let Some(script) = wall.get(4) {
        report.aim(
            "check: wall, in baseline scripts",
            wall[1] / script,
            1.0 / 20.0,
        );
    }
    // Not the script: beside that nothing else could be seen.
    split::run(
        report,
        &host,
        &[("mariadb-admin ping", wall[2]), ("mariadb -e", wall[3])],
    );
    cold(report, &host);
    encrypted(report, &server);
    growth(report, &server);
}

/// The first start after a boot, or after something large has taken the memory.
fn cold(report: &mut Report, host: &Host) {
    println!("\nthe same with the program itself out of the page cache");
    let floor = format!("/usr/local/bin/floor {SOCKET} floor");
    let costs = measure_with(host, &[("COLD", "1")], &[&floor, HOOKBOX]);
    for (name, costs) in ["floor, cold", "hookbox, cold"].iter().zip(&costs) {
        report.figure("check", *name, "ms", wall(costs));
    }
}

/// By TCP, with TLS and without.
fn encrypted(report: &mut Report, server: &Server) {
    println!("\nthe same by TCP");
    server.sql("CREATE USER hookbox@'127.0.0.1' IDENTIFIED BY 'change-me'");
    let commands = ["off", "required"].map(|tls| {
        let path = format!("/etc/hookbox/tls-{tls}.toml");
        let toml = format!(
            "[mysql]\nhost = \"127.0.0.1\"\ntls = \"{tls}\"\n\
             password_file = \"/etc/hookbox/password\"\n"
        );
        server.host.write(&path, toml, 0o644);
        format!("{HOOKBOX} --config {path}")
    });
    let costs = measure(&server.host, &[&commands[0], &commands[1]]);
    for (name, costs) in ["TCP", "TCP with TLS"].iter().zip(&costs) {
        report.figure("check", *name, "ms", wall(costs));
        let cpu = costs.iter().map(|cost| cost[1] / 1000.0).collect();
        report.figure("check", format!("{name}, processor"), "ms", cpu);
    }
}

fn make_certificate(host: &Host) {
    host.sh(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout /etc/mysql/key.pem -days 30 \
         -out /etc/mysql/cert.pem -subj /CN=db1 2>&1; chmod 644 /etc/mysql/key.pem",
    );
}

fn wall(costs: &Costs) -> Vec<f64> {
    costs.iter().map(|cost| cost[0] / 1000.0).collect()
}

/// The same check with more around it: what it costs must not grow. What is around the server is
/// counted in floors, since a server at work for itself, as after 10,000 tables, is so for both.
fn growth(report: &mut Report, server: &Server) {
    let host = &server.host;
    println!("\nthe same with more around it");
    let floor = format!("/usr/local/bin/floor {SOCKET} floor");
    let many = format!(
        "{HOOKBOX} --config /etc/hookbox/many.toml --instance i{}",
        INSTANCES / 2
    );
    host.write("/etc/hookbox/many.toml", many_instances(), 0o644);
    let costs = measure(host, &[&floor, HOOKBOX, &many]);
    let of_floor = report.figure("check", "plain, floor", "ms", wall(&costs[0]));
    let plain = report.figure("check", "plain", "ms", wall(&costs[1]));
    let what = "50 instances in 400 lines";
    let of_many = report.figure("check", what, "ms", wall(&costs[2]));
    report.aim(format!("{what}, in plain ones"), of_many / plain, 1.2);
    let plain = plain / of_floor;
    let compare = |report: &mut Report, what: &str| {
        let costs = measure(host, &[&floor, HOOKBOX]);
        let of_floor = report.figure("check", format!("{what}, floor"), "ms", wall(&costs[0]));
        let now = report.figure("check", what, "ms", wall(&costs[1])) / of_floor;
        report.aim(format!("{what}, in plain ones"), now / plain, 1.2);
    };

    let tables: Vec<String> = (0..TABLES)
        .map(|i| format!("CREATE TABLE t{i} (id INT) ENGINE = MEMORY;"))
        .collect();
    host.write("/tmp/tables.sql", tables.join("\n"), 0o600);
    host.sh("mariadb -e 'CREATE DATABASE many'; mariadb many < /tmp/tables.sql");
    compare(report, "10,000 tables");

    let mut idle = host
        .command("sh")
        .args([
            "-c",
            &format!("ulimit -n 10000; exec /usr/local/bin/floor {SOCKET} floor {IDLE}"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(idle.stdout.take().unwrap());
    lines.read_line(&mut said).unwrap();
    assert_eq!(said, "ok\n", "not all of {IDLE} connections");
    compare(report, "5,000 idle connections");
    drop(idle.stdin.take());
    idle.wait().unwrap();
}

fn many_instances() -> String {
    let mut toml = String::new();
    for i in 0..INSTANCES {
        toml += &format!(
            "[instance.i{i}.mysql]\nsocket = \"{SOCKET}\"\n\
             password_file = \"/etc/hookbox/password\"\n\n\
             [instance.i{i}.check]\ndeadline = \"900ms\"\nwitness_limit = \"400ms\"\n\n"
        );
    }
    toml
}

/// The programs of the comparison, and the accounts by which they log in.
fn equip(host: &Host, disk: &OnDisk) {
    disk.show(host, "hookbox", "/usr/sbin/hookbox");
    disk.show(host, "floor", "/usr/local/bin/floor");
    host.write("/etc/hookbox/password", "change-me\n", 0o600);
    let toml =
        format!("[mysql]\nsocket = \"{SOCKET}\"\npassword_file = \"/etc/hookbox/password\"\n");
    host.write("/etc/hookbox/hookbox.toml", toml, 0o644);
    host.write("/usr/local/bin/stopwatch", compile("stopwatch"), 0o755);
}

/// Runs the programs in turn; words are separated by spaces, and `+` stands for a space in a word.
pub fn measure(host: &Host, commands: &[&str]) -> Vec<Costs> {
    measure_with(host, &[], commands)
}

/// The same with something in the stopwatch's environment.
fn measure_with(host: &Host, environment: &[(&str, &str)], commands: &[&str]) -> Vec<Costs> {
    let runs = RUNS.to_string();
    let mut words = vec![runs];
    for (i, command) in commands.iter().enumerate() {
        if i > 0 {
            words.push("--".to_owned());
        }
        words.extend(command.split(' ').map(|word| word.replace('+', " ")));
    }
    let output = host
        .command("/usr/local/bin/stopwatch")
        .envs(environment.iter().copied())
        .args(&words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut costs = vec![Costs::new(); commands.len()];
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let numbers: Vec<f64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
        costs[numbers[0] as usize].push([numbers[1], numbers[2], numbers[3]]);
    }
    costs
}
