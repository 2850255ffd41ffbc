//! A virtual address comes to a host: by hookbox, and by `ip` and `arping`.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::net::{Namespace, two_hosts};
use crate::report::Report;

const VIP: &str = "10.7.0.100";

/// One way of bringing the address: programs that are started one after the other, without the
/// shell that a script would have.
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

/// Measures each way `runs` times, in turns.
pub fn run(report: &mut Report, program: &Path, runs: usize) {
    let Some((here, there)) = two_hosts() else {
        return;
    };
    let place = std::env::temp_dir().join(format!("hookbox-bench-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    let config = place.join("hookbox.toml");
    let journal = place.join("journal.jsonl");
    fs::write(&config, format!("[paths]\njournal = {journal:?}\n")).unwrap();
    let hookbox = format!(
        "{} vip add {VIP}/24 dev a0 --config {}",
        program.display(),
        config.display()
    );
    let ask = format!("arping -q -D -c 3 -I a0 {VIP}");
    let add = format!("ip addr add {VIP}/24 dev a0");
    let tell = format!("arping -q -c 3 -U -I a0 {VIP}");
    for (what, ours, theirs) in [
        (
            "nobody is asked whether he has it",
            format!("{hookbox} --probe 0s"),
            vec![add.clone(), tell.clone()],
        ),
        (
            "the neighbours are asked",
            hookbox.clone(),
            vec![ask, add, tell],
        ),
    ] {
        println!("\nan address comes to a host, {what}; {runs} runs of each, in turns");
        let ways = [("hookbox", vec![ours]), ("arping -c 3", theirs)];
        let ways = ways.map(|(name, commands)| Way { name, commands });
        let mut took: [Vec<Took>; 2] = Default::default();
        for _ in 0..runs {
            for (way, took) in ways.iter().zip(&mut took) {
                took.push(way.run(&here, &there));
            }
        }
        let mut ratio = |part: &str, of: fn(&Took) -> Duration| {
            let medians = [0, 1].map(|n| {
                let values = took[n].iter().map(|took| of(took).as_secs_f64() * 1000.0);
                let what = format!("{what}: {}, {part}", ways[n].name);
                report.figure("vip", what, "ms", values.collect())
            });
            medians[0] / medians[1]
        };
        let first = ratio("first frame", |took| took.first_frame);
        let all = ratio("back", |took| took.all);
        report.aim(format!("vip, {what}: first frame"), first, 1.0 / 4.0);
        report.aim(format!("vip, {what}: back"), all, 1.0 / 20.0);
    }
    fs::remove_dir_all(&place).unwrap();
}

impl Way {
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
