//! For Prometheus, in the text format that node_exporter's textfile collector reads.

use std::fmt::Display;
use std::fmt::Write;

use super::Status;
use super::survey::{HostSeen, VipSeen};

/// Metrics, each with its HELP and TYPE; ends with a newline, as the format wants.
pub fn text(status: &Status) -> String {
    let mut page = Page::default();
    let survey = &status.survey;
    let host = |host: &HostSeen| vec![("host", host.host.clone())];
    let of_hosts = |value: &dyn Fn(&HostSeen) -> Option<u64>| {
        let hosts = survey.hosts.iter();
        hosts
            .filter_map(|seen| Some((host(seen), value(seen)?)))
            .collect()
    };
    page.gauge(
        "hookbox_server_up",
        "Whether the server answers.",
        of_hosts(&|host| Some(host.error.is_none().into())),
    );
    page.gauge(
        "hookbox_server_writable",
        "Whether the server takes writes.",
        of_hosts(&|host| host.writable.map(u64::from)),
    );
    page.gauge(
        "hookbox_server_replicates",
        "Whether all channels of a replica receive and apply.",
        of_hosts(&|host| host.replicates.map(u64::from)),
    );
    page.gauge(
        "hookbox_server_lag_seconds",
        "How far a replica is behind its source.",
        of_hosts(&|host| host.lag_seconds),
    );
    let vip = |seen: &VipSeen| {
        let address = seen
            .address
            .map_or(String::new(), |address| address.to_string());
        vec![("vip", address), ("role", seen.role.clone())]
    };
    let of_vips = |value: &dyn Fn(&VipSeen) -> Option<bool>| {
        let vips = survey.vips.iter();
        let sample = |seen| Some((vip(seen), u64::from(value(seen)?)));
        vips.filter_map(sample).collect()
    };
    page.gauge(
        "hookbox_vip_here",
        "Whether this host has the virtual address.",
        of_vips(&|seen| seen.here),
    );
    page.gauge(
        "hookbox_vip_answers",
        "Whether any host answers for the virtual address on the network.",
        of_vips(&|seen| seen.answers),
    );
    page.gauge(
        "hookbox_vip_server_up",
        "Whether a server answers through the virtual address.",
        of_vips(&|seen| Some(seen.server.is_some())),
    );
    page.gauge(
        "hookbox_vip_writable",
        "Whether the server that answers through the virtual address takes writes.",
        of_vips(&|seen| seen.writable),
    );
    page.gauge(
        "hookbox_vip_expected",
        "Whether the virtual address is where it belongs, and the server there answers.",
        of_vips(&|seen| Some(seen.wrong.is_none())),
    );
    page.gauge(
        "hookbox_primary_known",
        "Whether exactly one server takes writes.",
        vec![(vec![], u8::from(survey.no_primary.is_none()))],
    );
    if let Some(local) = &status.local {
        page.gauge(
            "hookbox_maintenance",
            "Whether maintenance is on here.",
            vec![(vec![], u8::from(local.maintenance_until.is_some()))],
        );
        let is_open = local.open_switch.is_some() || local.switch_error.is_some();
        page.gauge(
            "hookbox_switch_open",
            "Whether a switch of MHA has begun and is not finished.",
            vec![(vec![], u8::from(is_open))],
        );
    }
    page.gauge(
        "hookbox_status_duration_seconds",
        "How long it took to ask.",
        vec![(vec![], survey.took_ms as f64 / 1000.0)],
    );
    page.text
}

type Sample<V> = (Vec<(&'static str, String)>, V);

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
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
