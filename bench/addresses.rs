//! A virtual address comes to a host: by hookbox, and by `ip` and `arping`.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::compiled::compile;
use crate::net::{Namespace, two_hosts};
use crate::report::Report;

const VIP: &str = "10.7.0.100";

/// One way of bringing the address: commands that are started one after the other.
struct Way {
    name: &'static str,
    commands: Vec<String>,
}

/// From the start of the program.
#[derive(Clone, Copy)]
struct Took {
    /// Until its first gratuitous ARP was on the neighbour's wire.
    first_frame: Duration,
    /// Until it returned.
    all: Duration,
}

/// Where the programs, and what they need, are for as long as it is measured.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let place = std::env::temp_dir().join(format!("hookbox-bench-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        Place(place)
    }

    fn put(&self, name: &str, what: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, what).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// What people have in its place: a script of these commands.
    fn script(&self, name: &str, commands: &[&str]) -> Way {
        let text = format!("#!/bin/sh -e\n{}\n", commands.join("\n"));
        Way::new("ip and arping -c 3", &[&self.put(name, text)])
    }
}

/// Measures each way several times, in turns: the second question is a long one, and asked `runs`
/// times.
pub fn run(report: &mut Report, program: &Path, runs: usize) {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let place = Place::new();
    let journal = place.0.join("journal.jsonl");
    let config = place.put("hookbox.toml", format!("[paths]\njournal = {journal:?}\n"));
    let program = program.display();
    let hookbox = format!("{program} vip add {VIP}/24 dev a0 --config {config}");
    let floor = place.put("announce", compile("announce"));
    let ask = format!("arping -q -D -c 3 -I a0 {VIP}");
    let add = format!("ip addr add {VIP}/24 dev a0");
    let tell = format!("arping -q -c 3 -U -I a0 {VIP}");

    let what = "nobody is asked whether he has it";
    let ways = [
        Way::new("hookbox", &[&format!("{hookbox} --probe 0s")]),
        place.script("tell", &[&add, &tell]),
        Way::new("ip and arping, without a shell", &[&add, &tell]),
        Way::new(
            "a message and a frame, in C",
            &[&format!("{floor} {VIP}/24 a0")],
        ),
    ];
    let [ours, theirs, ..] = measure(report, what, &ways, 2 * runs + 1, [&here, &there]);
    compare(report, what, ours, theirs);

    let what = "the neighbours are asked";
    let ways = [
        Way::new("hookbox", &[&hookbox]),
        place.script("ask", &[&ask, &add, &tell]),
    ];
    let [ours, theirs] = measure(report, what, &ways, runs, [&here, &there]);
    compare(report, what, ours, theirs);
    fs::remove_dir_all(&place.0).unwrap();
}

/// The first frame and the return of each way, in milliseconds.
fn measure<const N: usize>(
    report: &mut Report,
    what: &str,
    ways: &[Way; N],
    runs: usize,
    [here, there]: [&Namespace; 2],
) -> [[f64; 2]; N] {
    println!("\nan address comes to a host, {what}; {runs} runs of each, in turns");
    let mut took: [Vec<Took>; N] = std::array::from_fn(|_| Vec::new());
    for _ in 0..runs {
        for (way, took) in ways.iter().zip(&mut took) {
            took.push(way.run(here, there));
        }
    }
    std::array::from_fn(|n| {
        let mut figure = |part: &str, of: fn(&Took) -> Duration| {
            let values = took[n].iter().map(|took| of(took).as_secs_f64() * 1000.0);
            let what = format!("{what}: {}, {part}", ways[n].name);
            report.figure("vip", what, "ms", values.collect())
        };
        let first = figure("first frame", |took| took.first_frame);
        [first, figure("back", |took| took.all)]
    })
}

fn compare(report: &mut Report, what: &str, ours: [f64; 2], theirs: [f64; 2]) {
    let aim = format!("{what}: first frame, in those of ip and arping");
    report.aim(aim, ours[0] / theirs[0], 1.0 / 4.0);
    let aim = format!("{what}: back, in those of ip and arping -c 3");
    report.aim(aim, ours[1] / theirs[1], 1.0 / 50.0);
}

impl Way {
    fn new(name: &'static str, commands: &[&str]) -> Way {
        let commands = commands.iter().map(ToString::to_string).collect();
        Way { name, commands }
    }

    fn run(&self, here: &Namespace, there: &Namespace) -> Took {
        let wire = there.run(|| {
            let arp = Protocol::from(i32::from(0x0806_u16.to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(arp)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            socket
        });
        let (tell, told) = channel();
        let listener = std::thread::spawn(move || {
            tell.send(()).unwrap();
            first_announcement(wire)
        });
        told.recv().unwrap();
        let commands = self.commands.clone();
        let (began, all) = here.run(move || {
            let began = Instant::now();
            for command in commands {
                let mut words = command.split(' ');
                let mut program = Command::new(words.next().unwrap());
                let output = program.args(words).output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{command}: {said}");
            }
            (began, began.elapsed())
        });
        let first = listener.join().unwrap();
        here.sh(&format!("ip addr del {VIP}/24 dev a0"));
        Took {
            first_frame: first - began,
            all,
        }
    }
}

/// When the first frame came whose sender is the address.
fn first_announcement(mut wire: Socket) -> Instant {
    let mut frame = [0; 100];
    loop {
        let length = wire.read(&mut frame).expect("an announcement");
        if length >= 42 && frame[28..32] == [10, 7, 0, 100] {
            return Instant::now();
        }
    }
}
