//! The wire between hosts: a bridge in a host of its own, whose ports can be cut in two ways.

use super::Host;

/// The address of the switch itself: the gateway, and the witness of who is cut off.
pub const GATEWAY: &str = "10.77.0.1";

/// A switch that hosts plug into, each on a port with the host's name.
pub struct Switch {
    host: Host,
}

impl Switch {
    pub fn new() -> Switch {
        let host = Host::new("switch");
        host.sh(&format!(
            "ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
             ip addr add {GATEWAY}/24 dev br0
             ip link set br0 up"
        ));
        Switch { host }
    }

    /// Gives `host` an eth0 with `address`, connected to this switch.
    pub fn plug(&self, host: &Host, address: &str) {
        let port = &host.name;
        // Not `sh`: `netns` takes a process number of this machine.
        self.host.sh_in_network(&format!(
            "ip link add {port} type veth peer name eth0 netns {}
             ip link set {port} master br0 up",
            host.pid()
        ));
        host.sh(&format!(
            "ip addr add {address}/24 dev eth0; ip link set eth0 up"
        ));
    }

    /// Pulls the cable: the host sees its link go down.
    pub fn unplug(&self, host: &Host) {
        self.host
            .sh_in_network(&format!("ip link set {} down", host.name));
    }

    /// Blocks the port: nothing passes, but the host's link stays up and it cannot tell.
    pub fn block(&self, host: &Host) {
        self.host
            .sh_in_network(&format!("bridge link set dev {} state disabled", host.name));
    }

    /// Undoes [`Switch::unplug`] and [`Switch::block`].
    pub fn heal(&self, host: &Host) {
        // A port takes no state until its carrier has come, a moment after the link is up.
        self.host.sh_in_network(&format!(
            "ip link set {0} up
             left=100
             until bridge link set dev {0} state forwarding 2> /dev/null; do
                 left=$((left - 1)); [ $left -gt 0 ]; sleep 0.02
             done",
            host.name
        ));
    }
}
