//! The units as they are shipped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::lab::VIP;
use crate::site::{Site, take_vip_off};

const SERVICE: &str = include_str!("../../examples/hookbox-ensure.service");
const TIMER: &str = include_str!("../../examples/hookbox-ensure.timer");

fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let mut lines = unit.lines();
    lines.find_map(|line| line.strip_prefix(key)).unwrap()
}

#[test]
fn the_units_of_ensure_start_what_the_program_understands() {
    let mut words = value(SERVICE, "ExecStart=").split_whitespace();
    assert_eq!(words.next(), Some("/usr/sbin/hookbox"));
    let help = Command::new(env!("CARGO_BIN_EXE_hookbox"))
        .args(words)
        .arg("--help")
        .output();
    assert!(help.unwrap().status.success());
    let guard = hookbox::config::Guard::default();
    let timeout = humantime::parse_duration(value(SERVICE, "TimeoutStartSec=")).unwrap();
    assert!(timeout > guard.limit + guard.grace + Duration::from_secs(1));
    assert!(SERVICE.contains("\nStartLimitIntervalSec=0\n"));
}

/// A directory of its own, removed at the end.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn systemd_understands_the_units_of_ensure() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = Dir(dir.join(format!("ensure-units-{}", std::process::id())));
    fs::create_dir_all(&dir.0).unwrap();
    let service = SERVICE.replace("/usr/sbin/hookbox", env!("CARGO_BIN_EXE_hookbox"));
    fs::write(dir.0.join("hookbox-ensure.service"), service).unwrap();
    fs::write(dir.0.join("hookbox-ensure.timer"), TIMER).unwrap();
    let units = ["hookbox-ensure.timer", "hookbox-ensure.service"];
    let mut verify = Command::new("systemd-analyze");
    let verify = verify.args(["verify", "--man=no"]).args(units);
    // Where there is no systemd there is nobody to ask.
    if let Ok(output) = verify.current_dir(&dir.0).output() {
        let said = String::from_utf8_lossy(&output.stderr);
        let is_ours = said.contains("hookbox-ensure");
        assert!(output.status.success() && !is_ours, "{said}");
    }
}

#[test]
fn the_capabilities_of_the_unit_are_enough_to_put_an_address_back() {
    let Some(site) = Site::new() else { return };
    take_vip_off(&site.db(1).host);
    let set = value(SERVICE, "CapabilityBoundingSet=").to_lowercase();
    let set = set.replace("cap_", "+").replace(' ', ",");
    site.db(1).host.sh(&format!(
        "setpriv --no-new-privs --bounding-set=-all,{set} hookbox vip ensure"
    ));
    assert_eq!(site.holders(VIP), [1]);
}
