//! For Prometheus, in the text format that node_exporter's textfile collector reads.

use std::fmt::Display;
use std::fmt::Write;

use super::Status;
use super::survey::{HostSeen, VipSeen};

/// Metrics, each with its HELP and TYPE; ends with a newline, as the format wants.
pub fn text(status: &Status) -> String {
    let mut page = Page::default();
    let survey = &status.survey;
    servers(&mut page, &survey.hosts);
    addresses(&mut page, &survey.vips);
    page.fact(
        "hookbox_primary_known",
        "Whether exactly one server takes writes.",
        survey.no_primary.is_none(),
    );
    if let Some(local) = &status.local {
        page.fact(
            "hookbox_maintenance",
            "Whether maintenance is on here.",
            local.maintenance_until.is_some(),
        );
        page.fact(
            "hookbox_switch_open",
            "Whether a switch of MHA has begun and is not finished.",
            local.open_switch.is_some() || local.switch_error.is_some(),
        );
    }
    page.gauge(
        "hookbox_status_duration_seconds",
        "How long it took to ask.",
        vec![(vec![], survey.took_ms as f64 / 1000.0)],
    );
    page.text
}

fn servers(page: &mut Page, hosts: &[HostSeen]) {
    let mut gauge = |name: &str, help: &str, value: fn(&HostSeen) -> Option<u64>| {
        let sample = |seen: &HostSeen| Some((vec![("host", seen.host.clone())], value(seen)?));
        page.gauge(name, help, hosts.iter().filter_map(sample).collect());
    };
    gauge("hookbox_server_up", "Whether the server answers.", |host| {
        Some(host.error.is_none().into())
    });
    gauge(
        "hookbox_server_writable",
        "Whether the server takes writes.",
        |host| host.writable.map(u64::from),
    );
    gauge(
        "hookbox_server_replicates",
        "Whether all channels of a replica receive and apply.",
        |host| host.replicates.map(u64::from),
    );
    gauge(
        "hookbox_server_lag_seconds",
        "How far a replica is behind its source.",
        |host| host.lag_seconds,
    );
}

fn addresses(page: &mut Page, vips: &[VipSeen]) {
    let mut gauge = |name: &str, help: &str, value: fn(&VipSeen) -> Option<bool>| {
        let sample = |seen: &VipSeen| {
            let address = seen.address.map(|address| address.to_string());
            let labels = vec![
                ("vip", address.unwrap_or_default()),
                ("role", seen.role.clone()),
            ];
            Some((labels, u64::from(value(seen)?)))
        };
        page.gauge(name, help, vips.iter().filter_map(sample).collect());
    };
    gauge(
        "hookbox_vip_here",
        "Whether this host has the virtual address.",
        |seen| seen.here,
    );
    gauge(
        "hookbox_vip_answers",
        "Whether any host answers for the virtual address on the network.",
        |seen| seen.answers,
    );
    gauge(
        "hookbox_vip_server_up",
        "Whether a server answers through the virtual address.",
        |seen| Some(seen.server.is_some()),
    );
    gauge(
        "hookbox_vip_writable",
        "Whether the server that answers through the virtual address takes writes.",
        |seen| seen.writable,
    );
    gauge(
        "hookbox_vip_expected",
        "Whether the virtual address is where it belongs, and the server there answers.",
        |seen| Some(seen.wrong.is_none()),
    );
}

type Sample<V> = (Vec<(&'static str, String)>, V);

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn fact(&mut self, name: &str, help: &str, holds: bool) {
        self.gauge(name, help, vec![(vec![], u8::from(holds))]);
    }

    /// Nothing is said of a metric without samples.
    fn gauge<V: Display>(&mut self, name: &str, help: &str, samples: Vec<Sample<V>>) {
        if samples.is_empty() {
            return;
        }
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for (labels, value) in samples {
            let labels = labels.iter();
            let labels = labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
            let labels = labels.collect::<Vec<_>>().join(",");
            let _ = match labels.is_empty() {
                true => writeln!(self.text, "{name} {value}"),
                false => writeln!(self.text, "{name}{{{labels}}} {value}"),
            };
        }
    }
}

/// A label's value: backslash, quote and newline are escaped, and nothing else.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"");
    value.replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_one_block_with_escaped_labels() {
        let mut page = Page::default();
        let host = |name: &str| vec![("host", name.to_owned())];
        page.gauge(
            "up",
            "Whether.",
            vec![(host("a\"b\\c\nd"), 1), (host("é"), 0)],
        );
        page.gauge("none", "Nothing.", Vec::<Sample<u64>>::new());
        page.gauge("took", "How long.", vec![(vec![], 0.5)]);
        let expected = "# HELP up Whether.\n# TYPE up gauge\nup{host=\"a\\\"b\\\\c\\nd\"} 1\n\
                        up{host=\"é\"} 0\n# HELP took How long.\n# TYPE took gauge\ntook 0.5\n";
        assert_eq!(page.text, expected);
    }
}
