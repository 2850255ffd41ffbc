//! What `stop` and `start` of `master_ip_failover` take, called as stock MHA calls them: hookbox's,
//! and in turns with them those of the baseline.

use std::fs;
use std::io::Read;
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, scope, sleep};
use std::time::{Duration, SystemTime};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Cluster, Host, Mha, VIP, wait_until};
use crate::report::Report;

/// What MHA does between the two hooks takes longer.
const BETWEEN: Duration = Duration::from_secs(1);

/// The default of `[network] probe`, in ms: for so long `start` asks the neighbours.
const PROBE: f64 = 60.0;

/// One failover by both hooks.
pub struct Took {
    stop: Duration,
    start: Duration,
    /// From the beginning of `start` to the first gratuitous ARP that the client hears.
    first_frame: Duration,
    /// Logins by ssh that `stop` waited for, at the old primary.
    stop_logins: usize,
    /// The same of `start`, at either.
    start_logins: usize,
}

/// db1 is dead, and `program`'s hooks make db2 the primary. If `stop` prepares a connection to it, that
/// is ready when `start` begins, on a busy machine as well.
pub fn fail_over(cluster: &mut Cluster, program: &[&str], prepares: bool) -> Took {
    cluster.db1.kill();
    let before = logins(cluster);
    let stop = call(cluster, program, "stopssh");
    sleep(BETWEEN);
    wait_until("a connection is ready", Duration::from_secs(10), || {
        !prepares || logins(cluster)[1] > before[1]
    });
    sleep(BETWEEN);
    let between = logins(cluster);
    let wire = capture(&cluster.client);
    let (tell, told) = channel();
    let listener: JoinHandle<SystemTime> = std::thread::spawn(move || {
        tell.send(()).unwrap();
        first_announcement(wire)
    });
    told.recv().unwrap();
    let start = call(cluster, program, "start");
    let first_frame = listener.join().unwrap();
    let after = logins(cluster);
    Took {
        stop: stop.1,
        start: start.1,
        first_frame: first_frame.duration_since(start.0).unwrap_or_default(),
        stop_logins: between[0] - before[0],
        start_logins: after[0] + after[1] - between[0] - between[1],
    }
}

/// Tells what was measured; `took` has hookbox's first, then perhaps the baseline's.
pub fn tell(report: &mut Report, contenders: &[&str], took: &[Vec<Took>]) {
    println!("\nMHA: both hooks of a failover, called one after the other");
    let mut totals = Vec::new();
    for (name, took) in contenders.iter().zip(took) {
        let mut figure = |what: &str, of: fn(&Took) -> Duration| {
            let values = took.iter().map(|took| of(took).as_secs_f64() * 1000.0);
            report.figure("mha", format!("{name}, {what}"), "ms", values.collect())
        };
        figure("stop", |took| took.stop);
        figure("start", |took| took.start);
        totals.push(figure("stop and start", |took| took.stop + took.start));
        figure("start to first frame", |took| took.first_frame);
    }
    let hookbox = &took[0];
    let mut frames: Vec<f64> = (hookbox.iter())
        .map(|took| took.first_frame.as_secs_f64() * 1000.0)
        .collect();
    frames.sort_by(f64::total_cmp);
    let median = frames[frames.len() / 2] - PROBE;
    let what = "start to first frame beyond [network] probe, connection ready, ms";
    report.aim(what, median, 60.0);
    let most = |of: fn(&Took) -> usize| hookbox.iter().map(of).max().unwrap_or(0) as f64;
    report.aim(
        "logins by ssh that stop waits for",
        most(|it| it.stop_logins),
        2.0,
    );
    report.aim(
        "logins by ssh that start waits for",
        most(|it| it.start_logins),
        2.0,
    );
    if let [hookbox, baseline] = totals[..] {
        let what = "stop and start, in baselines";
        report.aim(what, hookbox / baseline, 1.0 / 5.0);
    }
}

/// When the hook was started, without what it takes to come to the manager, and how long it took.
fn call(cluster: &Cluster, program: &[&str], command: &str) -> (SystemTime, Duration) {
    let manager = &cluster.manager;
    // A connection that is kept for the next hook would hold a pipe.
    let script = "echo $EPOCHREALTIME > /run/began; exec \"$@\" > /run/hook.output 2>&1";
    let status = (manager.command("bash"))
        .args(["-c", script, "bash"])
        .args(program)
        .args(Mha::failover_words(command))
        .status()
        .unwrap();
    let ended = SystemTime::now();
    assert!(
        status.success(),
        "{command}: {}",
        manager.read("/run/hook.output")
    );
    let began: f64 = manager.read("/run/began").trim().parse().unwrap();
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(began);
    (began, ended.duration_since(began).unwrap_or_default())
}

/// Who has logged in by ssh so far, at the old and at the new primary.
fn logins(cluster: &Cluster) -> [usize; 2] {
    [&cluster.db1, &cluster.db2].map(|server| {
        let log = server.host.path("/var/log/sshd.log");
        let log = fs::read(log).unwrap();
        let log = String::from_utf8_lossy(&log);
        log.matches("Accepted publickey").count()
    })
}

fn capture(client: &Host) -> Socket {
    scope(|scope| {
        let socket = scope.spawn(|| {
            client.enter_network();
            let arp = Protocol::from(i32::from(0x0806_u16.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(arp)).unwrap();
            let limit = Duration::from_secs(20);
            socket.set_read_timeout(Some(limit)).unwrap();
            socket
        });
        socket.join().unwrap()
    })
}

/// When the first frame came whose sender is the address.
fn first_announcement(mut wire: Socket) -> SystemTime {
    let vip: std::net::Ipv4Addr = VIP.parse().unwrap();
    let mut frame = [0; 100];
    loop {
        let length = wire.read(&mut frame).expect("an announcement");
        if length >= 42 && frame[28..32] == vip.octets() {
            return SystemTime::now();
        }
    }
}
