//! Two database nodes and a client on a switch: what hookbox is made for.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Host, Keepalived, Replication, Sampler, Server, Switch, VIP, Writer, wait_until};

const KEEPALIVED_CONF: &str = include_str!("../../examples/keepalived/keepalived.conf");
const HOOKBOX_TOML: &str = include_str!("../../examples/keepalived/hookbox.toml");

/// Who replicates from whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// db2 replicates from db1.
    PrimaryAndReplica,
    /// Each replicates from the other.
    Circle,
}

/// A database host: a server, and keepalived with hookbox.
pub struct Node {
    pub host: Arc<Host>,
    pub server: Server,
    pub keepalived: Keepalived,
}

/// Two nodes, a client and the switch between them. keepalived is not started.
pub struct Pair {
    pub db1: Node,
    pub db2: Node,
    pub client: Arc<Host>,
    pub switch: Switch,
}

impl Pair {
    /// Builds everything, with the example configuration and the hookbox at `program`.
    pub fn new(shape: Shape, by: Replication, program: &Path) -> Pair {
        let program = fs::read(program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let switch = Switch::new();
        let client = Arc::new(Host::new("client"));
        switch.plug(&client, "10.77.0.20");
        let db1 = Node::new("db1", 1, shape, &switch, &program);
        let db2 = Node::new("db2", 2, shape, &switch, &program);
        db2.server.replicate_from(&db1.server, by);
        if shape == Shape::Circle {
            db1.server.replicate_from(&db2.server, by);
        }
        Pair {
            db1,
            db2,
            client,
            switch,
        }
    }

    /// Starts keepalived on both nodes, db1 first so that it becomes the primary.
    pub fn start_keepalived(&mut self) {
        self.db1.keepalived.start();
        wait_until("db1 is primary", Duration::from_secs(15), || {
            self.db1.is_primary()
        });
        self.db2.keepalived.start();
        wait_until("db2 is closed", Duration::from_secs(15), || {
            !self.db2.server.is_writable()
        });
    }

    pub fn writer(&self) -> Writer {
        Writer::start(&self.client, VIP)
    }

    pub fn sampler(&self) -> Sampler {
        Sampler::start(&[self.db1.host.clone(), self.db2.host.clone()])
    }
}

impl Node {
    fn new(name: &str, id: u32, shape: Shape, switch: &Switch, program: &[u8]) -> Node {
        let mut settings = match shape {
            Shape::PrimaryAndReplica => String::new(),
            Shape::Circle => format!(
                "auto-increment-increment = 2\nauto-increment-offset = {id}\ngtid-domain-id = {id}"
            ),
        };
        // MariaDB's default: with a primary that hangs it must not add to the outage.
        settings.push_str("\nrpl-semi-sync-slave-kill-conn-timeout = 5");
        let mut server = Server::on(switch, name, id, &settings, program);
        server.start();
        let host = server.host.clone();
        host.write("/etc/hookbox/hookbox.toml", example_for(id, shape), 0o644);
        let keepalived = Keepalived::new(&host, KEEPALIVED_CONF);
        Node {
            host,
            server,
            keepalived,
        }
    }

    pub fn has_vip(&self) -> bool {
        self.host.has_vip()
    }

    /// Whether it has the VIP and its server takes writes.
    pub fn is_primary(&self) -> bool {
        self.has_vip() && self.server.is_writable()
    }

    /// hookbox's record of what it did here, as it was written.
    pub fn journal(&self) -> String {
        self.host.read("/var/log/hookbox/journal.jsonl")
    }
}

/// The example is db1's; for db2 the other node is db1, as the example says.
fn example_for(id: u32, shape: Shape) -> String {
    let mut toml = HOOKBOX_TOML.to_owned();
    if id == 2 {
        toml = toml.replace("10.77.0.12", "10.77.0.11");
    }
    if shape == Shape::Circle {
        toml = toml.replace("forget_source = true", "forget_source = false");
    }
    toml
}
