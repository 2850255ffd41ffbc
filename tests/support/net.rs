//! Network namespaces that belong to a thread: they have no name, and go when the thread goes,
//! even by SIGKILL.

use std::io::Write;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::spawn;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, gettid};

type Job = Box<dyn FnOnce() + Send>;

/// A namespace, and the thread that works in it. Programs it starts are in it too.
pub struct Namespace {
    jobs: Sender<Job>,
    pub path: String,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, todo) = channel::<Job>();
        let (tell, told) = channel();
        spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own");
            let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
            tell.send(path).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let path = told.recv().expect("the namespace's thread");
        let namespace = Namespace { jobs, path };
        namespace.sh("ip link set lo up");
        namespace
    }

    /// Runs `job` inside.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        self.jobs
            .send(Box::new(move || drop(tell.send(job()))))
            .unwrap();
        told.recv()
            .expect("what failed in the namespace is said above")
    }

    /// Runs a shell script inside; it has to succeed. Gives its output.
    pub fn sh(&self, script: &str) -> String {
        let script = format!("set -e\n{script}");
        let said = script.clone();
        let output = self.run(move || Command::new("sh").args(["-c", &script]).output().unwrap());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Whether namespaces can be made; says so loudly if not.
fn may_make_namespaces() -> bool {
    let may = Uid::effective().is_root();
    if !may {
        // Written so that the test harness does not swallow it.
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: {test}: network namespaces need root"
        );
    }
    may
}

/// Three hosts, 10.7.0.1 to 10.7.0.3, each on its `a0` with a MAC that ends in 0a, 0b, 0c, on a
/// bridge that learns where they are.
#[allow(dead_code, reason = "not in every test program")]
pub fn three_hosts_on_a_switch() -> Option<(Namespace, Namespace, Namespace)> {
    if !may_make_namespaces() {
        return None;
    }
    let switch = Namespace::new();
    switch.sh("ip link add br0 type bridge forward_delay 0; ip link set br0 up");
    let host = |n: u8| {
        let host = Namespace::new();
        switch.sh(&format!(
            "ip link add port{n} type veth peer name a0 netns {} address 02:00:00:00:00:{:02x}
             ip link set port{n} master br0; ip link set port{n} up",
            host.path,
            n + 9
        ));
        host.sh(&format!(
            "ip address add 10.7.0.{n}/24 dev a0; ip link set a0 up"
        ));
        host.sh("until ip link show a0 | grep -q 'state UP'; do sleep 0.02; done");
        switch.sh(&format!(
            "until bridge link show dev port{n} | grep -q forwarding; do sleep 0.02; done"
        ));
        host
    };
    let hosts = (host(1), host(2), host(3));
    // The bridge goes with its namespace, which has nothing to do but to be there.
    std::mem::forget(switch);
    Some(hosts)
}

/// Two hosts on a wire: 10.7.0.1 on `a0` here, 10.7.0.2 on `b0` there, and fd07::1 and fd07::2.
///
/// None, with a loud word, for those who may not make namespaces.
pub fn two_hosts() -> Option<(Namespace, Namespace)> {
    if !may_make_namespaces() {
        return None;
    }
    let (here, there) = (Namespace::new(), Namespace::new());
    here.sh(&format!(
        "ip link add a0 address 02:00:00:00:00:0a type veth peer name b0 address 02:00:00:00:00:0b
         ip link set b0 netns {}
         ip address add 10.7.0.1/24 dev a0
         ip address add fd07::1/64 dev a0 nodad
         ip link set a0 up",
        there.path
    ));
    there.sh("ip address add 10.7.0.2/24 dev b0
         ip address add fd07::2/64 dev b0 nodad
         ip link set b0 up");
    // The kernel does the rest in its own time, a second or more where it is busy: a new link sends
    // only when the link watch has come round to it, and an IPv6 address answers only when it has
    // joined its multicast group.
    for (host, link, group) in [
        (&here, "a0", "ff02::1:ff00:1"),
        (&there, "b0", "ff02::1:ff00:2"),
    ] {
        host.sh(&format!(
            "until ip link show {link} | grep -q 'state UP' &&
                   ip -6 maddress show dev {link} | grep -qw {group}
             do sleep 0.02; done"
        ));
    }
    Some((here, there))
}
