//! A switch that MHA gives up between `stop` and `start`, put back by `undo`: the hooks are called
//! by hand, as MHA calls them, on real servers over real ssh.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod lab;

use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::{Cluster, Mha, Server, VIP};

const CONFIG: &str = "\
vip = ['10.77.0.100/24 dev eth0']
[[peer]]
host = '10.77.0.11'
[[peer]]
host = '10.77.0.12'
[[peer]]
host = '10.77.0.13'
[mha]
user = 'mha'
password_file = '/etc/hookbox/mha.password'
lock_accounts = ['app@10.77.0.%']
";

const OLD: [&str; 3] = [
    "--orig_master_host=10.77.0.11",
    "--orig_master_ip=10.77.0.11",
    "--orig_master_port=3306",
];
const NEW: [&str; 3] = [
    "--new_master_host=10.77.0.12",
    "--new_master_ip=10.77.0.12",
    "--new_master_port=3306",
];

/// What hookbox said and how it ended.
struct Said {
    status: Option<i32>,
    text: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = [output.stdout, output.stderr].concat();
        Said {
            status: output.status.code(),
            text: String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

/// One cluster, shared by the tests one after the other.
struct Site(MutexGuard<'static, Option<Cluster>>);

impl Site {
    /// `None` where no lab can be built.
    fn new() -> Option<Site> {
        static CLUSTER: Mutex<Option<Cluster>> = Mutex::new(None);
        if !lab::is_possible() {
            return None;
        }
        let mut guard = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cluster = guard
            .take()
            .unwrap_or_else(|| Cluster::new(env!("CARGO_BIN_EXE_hookbox").as_ref()));
        cluster.reset();
        for server in cluster.servers() {
            server.sql("SET GLOBAL event_scheduler = OFF");
            server
                .sql("SET STATEMENT sql_log_bin = 0 FOR ALTER USER app@'10.77.0.%' ACCOUNT UNLOCK");
        }
        cluster.db1.sql("SET GLOBAL event_scheduler = ON");
        let manager = &cluster.manager;
        manager.write("/etc/hookbox/app1.toml", CONFIG, 0o644);
        manager.write("/etc/hookbox/mha.password", "change-me\n", 0o600);
        *guard = Some(cluster);
        Some(Site(guard))
    }

    fn cluster(&self) -> &Cluster {
        self.0.as_ref().unwrap()
    }

    fn cluster_mut(&mut self) -> &mut Cluster {
        self.0.as_mut().unwrap()
    }

    fn db(&self, number: usize) -> &Server {
        self.cluster().servers()[number - 1]
    }

    fn hookbox(&self, applet: &str, words: &[&str]) -> Said {
        let mut command = self.cluster().manager.command("/usr/sbin/hookbox");
        command.arg(applet).args(words);
        let config = "--config=/etc/hookbox/app1.toml";
        Said::from(command.arg(config).output().unwrap())
    }

    #[track_caller]
    fn stop(&self) {
        let words = [&["--command=stop"], &OLD[..], &NEW].concat();
        let said = self.hookbox("master_ip_online_change", &words);
        assert_eq!(said.status, Some(0), "{}", said.text);
        assert!(said.text.contains("hookbox undo --config"), "{}", said.text);
        self.is_put_away();
    }

    #[track_caller]
    fn is_put_away(&self) {
        assert!(!self.db(1).is_writable());
        assert!(!self.db(1).host.has_vip());
        assert!(!self.db(2).is_writable());
    }

    #[track_caller]
    fn serves_as_before(&self) {
        let db1 = self.db(1);
        assert!(db1.is_writable());
        assert!(db1.host.has_vip());
        assert_eq!(db1.ask("SELECT @@event_scheduler"), "ON");
        assert!(!app_is_locked(db1));
        assert!(!self.db(2).is_writable());
        assert!(!self.db(2).host.has_vip());
        self.application_writes();
    }

    /// An application that comes through the address writes.
    fn application_writes(&self) {
        let sql = "REPLACE INTO lab.t (w, seq, server) VALUES (1, 1, @@server_id)";
        let login = format!("mariadb -h {VIP} -u app -papppass --connect-timeout=5");
        self.cluster().client.sh(&format!("{login} -e \"{sql}\""));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test looks when it likes")]
fn pause(length: Duration) {
    std::thread::sleep(length);
}

fn app_is_locked(server: &Server) -> bool {
    server
        .ask("SHOW CREATE USER app@'10.77.0.%'")
        .contains("ACCOUNT LOCK")
}

#[test]
fn what_stop_puts_away_is_put_back_and_told_until_then() {
    let Some(site) = Site::new() else { return };
    let status = site.hookbox("status", &[]);
    assert_eq!(status.status, Some(0), "{}", status.text);
    assert!(
        status.text.starts_with("manager: no server here"),
        "{}",
        status.text
    );

    site.stop();
    assert!(app_is_locked(site.db(1)));
    assert_eq!(site.db(1).ask("SELECT @@event_scheduler"), "OFF");
    for words in [&[][..], &["--json"]] {
        let status = site.hookbox("status", words);
        assert_eq!(status.status, Some(3));
        let undo = "hookbox undo --config /etc/hookbox/app1.toml";
        assert!(status.text.contains(undo), "{}", status.text);
    }
    let status = site.hookbox("status", &[]).text;
    let first = "SWITCH OPEN: online change from 10.77.0.11 to 10.77.0.12";
    assert!(status.starts_with(first), "{status}");

    let dry = site.hookbox("undo", &["--dry-run"]);
    assert_eq!(dry.status, Some(0), "{}", dry.text);
    assert!(dry.text.contains("would do"), "{}", dry.text);
    site.is_put_away();
    assert!(app_is_locked(site.db(1)));

    let undone = site.hookbox("undo", &[]);
    assert_eq!(undone.status, Some(0), "{}", undone.text);
    site.serves_as_before();
    assert_eq!(site.hookbox("status", &[]).status, Some(0));
    let again = site.hookbox("undo", &[]);
    assert_eq!(again.status, Some(0));
    assert!(again.text.contains("no switch is open"), "{}", again.text);
}

#[test]
fn the_manager_is_told_from_a_host_whose_server_is_down_by_one_file_for_all() {
    let Some(mut site) = Site::new() else { return };
    site.cluster_mut().db3.stop();
    let cluster = site.cluster();
    let status = |host: &lab::Host| {
        let mut command = host.command("/usr/sbin/hookbox");
        Said::from(command.arg("status").output().unwrap())
    };
    let manager = status(&cluster.manager);
    assert_eq!(manager.status, Some(0), "{}", manager.text);
    assert!(manager.text.starts_with("manager: "), "{}", manager.text);
    let down = status(&cluster.db3.host);
    assert_eq!(down.status, Some(3), "{}", down.text);
    assert!(down.text.contains("cannot be asked"), "{}", down.text);
}

#[test]
fn another_server_that_took_over_is_left_the_primary() {
    let Some(site) = Site::new() else { return };
    site.stop();
    for number in [2, 3] {
        site.db(number).sql("SET GLOBAL read_only = 0");
        let refused = site.hookbox("undo", &[]);
        assert_eq!(refused.status, Some(3), "{}", refused.text);
        assert!(refused.text.contains("takes writes"), "{}", refused.text);
        assert!(!site.db(1).is_writable());
        assert!(!site.db(1).host.has_vip());
        site.db(number).sql("SET GLOBAL read_only = 1");
    }
    site.db(3).host.sh(&format!(
        "ip addr add {VIP}/24 dev eth0; arping -q -c1 -U -I eth0 {VIP}"
    ));
    let refused = site.hookbox("undo", &[]);
    assert_eq!(refused.status, Some(3), "{}", refused.text);
    assert!(
        refused.text.contains("with server_id 3"),
        "{}",
        refused.text
    );
    site.is_put_away();
}

#[test]
fn transactions_that_only_the_new_primary_has_are_not_lost() {
    let Some(site) = Site::new() else { return };
    site.application_writes();
    site.db(2).wait_until_replicating();
    site.stop();
    let db2 = site.db(2);
    db2.sql("SET GLOBAL read_only = 0");
    db2.sql("INSERT INTO lab.t (w, seq, server) VALUES (2, 1, 2)");
    db2.sql("SET GLOBAL read_only = 1");
    let refused = site.hookbox("undo", &[]);
    assert_eq!(refused.status, Some(3), "{}", refused.text);
    assert!(
        refused.text.contains("that 10.77.0.11:3306 lacks"),
        "{}",
        refused.text
    );
    site.is_put_away();
}

#[test]
fn an_old_primary_that_mha_made_a_replica_stays_one() {
    let Some(site) = Site::new() else { return };
    site.stop();
    let (db1, db2) = (site.db(1), site.db(2));
    db1.replicate_from(db2, lab::Replication::FileAndPosition);
    let refused = site.hookbox("undo", &[]);
    assert_eq!(refused.status, Some(3), "{}", refused.text);
    assert!(
        refused.text.contains("replicates from it"),
        "{}",
        refused.text
    );
    site.is_put_away();
}

#[test]
fn a_new_primary_that_does_not_answer_is_gone_past_by_force_alone() {
    let Some(mut site) = Site::new() else { return };
    site.stop();
    site.cluster_mut().db2.kill();
    let refused = site.hookbox("undo", &[]);
    assert_eq!(refused.status, Some(3), "{}", refused.text);
    assert!(refused.text.contains("--force"), "{}", refused.text);
    let forced = site.hookbox("undo", &["--force"]);
    assert_eq!(forced.status, Some(0), "{}", forced.text);
    assert!(site.db(1).is_writable() && site.db(1).host.has_vip());
    site.application_writes();
}

#[test]
fn a_failover_that_mha_gives_up_is_put_back_and_stopped_replicas_are_named() {
    let Some(site) = Site::new() else { return };
    // MHA stops the receivers of all replicas before it calls stop.
    site.db(3).sql("STOP SLAVE IO_THREAD");
    let words = [&["--command=stopssh", "--ssh_user=root"], &OLD[..]].concat();
    let said = site.hookbox("master_ip_failover", &words);
    assert_eq!(said.status, Some(0), "{}", said.text);
    site.is_put_away();
    let undone = site.hookbox("undo", &[]);
    assert_eq!(undone.status, Some(0), "{}", undone.text);
    let advice = "10.77.0.13:3306 has stopped replicating from 10.77.0.11:3306; on it: START SLAVE";
    assert!(undone.text.contains(advice), "{}", undone.text);
    site.serves_as_before();
}

#[test]
fn a_stop_of_another_primary_that_is_refused_leaves_the_switch_open() {
    let Some(site) = Site::new() else { return };
    site.stop();
    let other = [
        "--command=stop",
        "--orig_master_host=10.77.0.12",
        "--orig_master_port=3399",
        "--new_master_host=10.77.0.13",
    ];
    let refused = site.hookbox("master_ip_online_change", &other);
    assert_eq!(refused.status, Some(1), "{}", refused.text);
    let undone = site.hookbox("undo", &[]);
    assert_eq!(undone.status, Some(0), "{}", undone.text);
    site.serves_as_before();
}

#[test]
fn a_primary_that_was_put_back_by_hand_is_put_away_as_it_is_by_then() {
    let Some(site) = Site::new() else { return };
    let db1 = site.db(1);
    let words = [&["--command=stopssh", "--ssh_user=root"], &OLD[..]].concat();
    db1.sql("SET GLOBAL event_scheduler = OFF");
    let said = site.hookbox("master_ip_failover", &words);
    assert_eq!(said.status, Some(0), "{}", said.text);
    db1.sql("SET GLOBAL read_only = 0, GLOBAL event_scheduler = ON");
    db1.host.sh(&format!(
        "ip addr add {VIP}/24 dev eth0; arping -q -c1 -U -I eth0 {VIP}"
    ));
    let said = site.hookbox("master_ip_failover", &words);
    assert_eq!(said.status, Some(0), "{}", said.text);
    site.is_put_away();
    let undone = site.hookbox("undo", &[]);
    assert_eq!(undone.status, Some(0), "{}", undone.text);
    site.serves_as_before();
}

/// Undoes, and sends `signal` to that as soon as it says something that is `the_moment`.
fn undo_until(site: &Site, signal: &str, the_moment: impl FnMut(&str) -> bool) -> Said {
    let words = ["undo", "--config=/etc/hookbox/app1.toml"];
    let manager = &site.cluster().manager;
    let (status, text) = manager.hookbox_until(&words, signal, the_moment);
    Said { status, text }
}

/// The moment after so many lines.
fn after(lines: usize) -> impl FnMut(&str) -> bool {
    let mut told = 0;
    move |_| {
        told += 1;
        told == lines
    }
}

#[test]
fn an_undo_that_is_killed_after_any_step_is_finished_by_the_next() {
    let Some(site) = Site::new() else { return };
    let mut killed_in_the_middle = 0;
    for steps in 4.. {
        site.stop();
        let told = undo_until(&site, "KILL", after(steps)).text.lines().count();
        assert!(!site.db(2).is_writable() && !site.db(3).is_writable());
        let is_open = site.hookbox("status", &[]).status == Some(3);
        killed_in_the_middle += usize::from(is_open);
        let undone = site.hookbox("undo", &[]);
        assert_eq!(undone.status, Some(0), "{steps}: {}", undone.text);
        site.serves_as_before();
        if told < steps {
            break;
        }
    }
    assert!(killed_in_the_middle > 3, "only {killed_in_the_middle}");
}

#[test]
fn an_undo_that_is_told_to_end_takes_back_what_it_did_and_says_how_it_ended() {
    let Some(site) = Site::new() else { return };
    let mut taken_back = 0;
    for steps in 9.. {
        site.stop();
        let signal = ["TERM", "INT"][steps % 2];
        let ended = undo_until(&site, signal, after(steps));
        let all = &ended.text;
        let is_open = site.hookbox("status", &[]).status == Some(3);
        match ended.status {
            Some(0) => assert!(!is_open, "{all}"),
            Some(3 | 4) => {
                assert!(app_is_locked(site.db(1)) && is_open, "{all}");
                assert!(!site.db(1).host.has_vip(), "{all}");
                site.is_put_away();
                taken_back += usize::from(ended.status == Some(4));
            }
            Some(5) => assert!(is_open && all.contains("stands: "), "{all}"),
            _ => panic!("{:?} {all}", ended.status),
        }
        if ended.status != Some(0) {
            let why = format!("SIG{signal} arrived");
            assert!(all.contains(&why) && !all.contains("try:"), "{all}");
        }
        assert!(!site.db(2).is_writable() && !site.db(3).is_writable());
        let undone = site.hookbox("undo", &[]);
        assert_eq!(undone.status, Some(0), "{steps}: {}", undone.text);
        site.serves_as_before();
        if all.lines().count() < steps {
            break;
        }
    }
    assert!(taken_back > 0);
}

#[test]
fn an_undo_is_interrupted_while_the_neighbours_are_asked_and_the_server_is_closed_again() {
    let Some(site) = Site::new() else { return };
    let slow = format!("{CONFIG}[network]\nprobe = '1s'\n");
    let manager = &site.cluster().manager;
    manager.write("/etc/hookbox/app1.toml", slow, 0o644);
    for signal in ["INT", "TERM"] {
        site.stop();
        let is_writable = |line: &str| line.contains("make 10.77.0.11:3306 writable");
        let ended = undo_until(&site, signal, is_writable);
        let all = &ended.text;
        assert_eq!(ended.status, Some(4), "{all}");
        let why = format!("SIG{signal} arrived");
        assert!(all.contains(&why) && !all.contains("try:"), "{all}");
        site.is_put_away();
        assert!(app_is_locked(site.db(1)), "{all}");
        assert_eq!(site.hookbox("undo", &[]).status, Some(0));
        site.serves_as_before();
    }
}

#[test]
fn an_undo_is_interrupted_at_once_while_the_new_primary_hangs() {
    let Some(site) = Site::new() else { return };
    site.stop();
    site.db(2).freeze();
    let ended = undo_until(&site, "INT", |line| line.contains("begun at"));
    site.db(2).thaw();
    let all = &ended.text;
    assert_eq!(ended.status, Some(3), "{all}");
    let steps = all.lines().filter(|line| line.contains(" done  ")).count();
    assert!(all.contains("SIGINT arrived") && steps == 0, "{all}");
    site.is_put_away();
    assert_eq!(site.hookbox("undo", &[]).status, Some(0));
    site.serves_as_before();
}

#[test]
fn an_undo_that_is_interrupted_by_its_user_says_only_that() {
    let Some(site) = Site::new() else { return };
    site.stop();
    site.db(1).freeze();
    let script = "timeout --preserve-status -s INT 1 /usr/sbin/hookbox undo";
    let config = "--config=/etc/hookbox/app1.toml";
    let mut command = site.cluster().manager.command("sh");
    let output = command.args(["-c", &format!("{script} {config}")]).output();
    site.db(1).thaw();
    let said = Said::from(output.unwrap());
    assert_eq!(said.status, Some(3), "{}", said.text);
    assert!(said.text.contains("SIGINT arrived"), "{}", said.text);
    assert!(!said.text.contains("try:"), "{}", said.text);
    site.is_put_away();
    assert_eq!(site.hookbox("undo", &[]).status, Some(0));
    site.serves_as_before();
}

#[test]
fn without_an_account_or_with_a_damaged_record_one_line_says_what_to_do() {
    let Some(site) = Site::new() else { return };
    site.stop();
    let manager = &site.cluster().manager;
    manager.write(
        "/etc/hookbox/app1.toml",
        CONFIG.replace("user = 'mha'\n", ""),
        0o644,
    );
    let refused = site.hookbox("undo", &[]);
    assert_eq!(refused.status, Some(2), "{}", refused.text);
    assert!(
        refused.text.contains("try: give [mha] user"),
        "{}",
        refused.text
    );
    manager.write("/etc/hookbox/app1.toml", CONFIG, 0o644);
    manager.sh("truncate -s 40 /var/lib/hookbox/switch/app1.json");
    let refused = site.hookbox("undo", &[]);
    assert_eq!(refused.status, Some(3), "{}", refused.text);
    assert!(
        refused.text.contains("app1.json is damaged"),
        "{}",
        refused.text
    );
    let status = site.hookbox("status", &[]);
    assert_eq!(status.status, Some(3));
    assert!(status.text.contains("is damaged"), "{}", status.text);
    site.is_put_away();
}

#[test]
fn stop_and_undo_of_one_cluster_wait_for_each_other() {
    let Some(site) = Site::new() else { return };
    site.stop();
    let manager = &site.cluster().manager;
    let script = "flock /var/lib/hookbox/switch/app1.lock sleep 5 & sleep 0.3; wait";
    let mut holder = manager.command("sh").args(["-c", script]).spawn().unwrap();
    pause(Duration::from_millis(600));
    let dry = site.hookbox("undo", &["--dry-run"]);
    assert_eq!(dry.status, Some(0), "{}", dry.text);
    assert!(
        holder.try_wait().unwrap().is_none(),
        "a dry run waits for nobody"
    );
    let undone = site.hookbox("undo", &[]);
    assert_eq!(undone.status, Some(0), "{}", undone.text);
    assert!(holder.try_wait().unwrap().is_some(), "it did not wait");
    site.serves_as_before();
}

#[test]
fn while_mha_is_at_work_nothing_is_put_back() {
    let Some(site) = Site::new() else { return };
    let mha = Mha::new(site.cluster());
    let undo = "/usr/sbin/hookbox undo --config /etc/hookbox/app1.toml";
    let hook = "/usr/sbin/hookbox master_ip_online_change --config /etc/hookbox/app1.toml";
    // MHA gives up what a start with status 1 ends; stop and start each try an undo as well.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*=start*) {undo}; echo undo ended with $?; exit 1;; esac\n\
         {hook} \"$@\" || exit; {undo}; echo undo ended with $?; exit 0\n"
    );
    site.cluster()
        .manager
        .write("/usr/local/bin/hook", script, 0o755);
    mha.configure(|cnf| {
        cnf.replace(
            "/usr/sbin/hookbox master_ip_online_change",
            "/usr/local/bin/hook",
        )
    });
    let ended = mha.change_online("10.77.0.12").end();
    assert_eq!(ended.status, 1, "{}", ended.said);
    let refused = ended.said.matches("undo ended with 3").count();
    assert_eq!(refused, 2, "{}", ended.said);
    assert!(
        ended.said.contains("MHA has not given up"),
        "{}",
        ended.said
    );
    site.is_put_away();
    let undone = site.hookbox("undo", &[]);
    assert_eq!(undone.status, Some(0), "{}", undone.text);
    assert!(
        undone.text.contains("on it: START SLAVE"),
        "{}",
        undone.text
    );
    site.serves_as_before();
}

#[test]
fn a_full_disk_on_the_manager_is_told_before_anything_is_changed() {
    let Some(site) = Site::new() else { return };
    let manager = &site.cluster().manager;
    manager.sh(
        "mkdir -p /var/lib/hookbox; mount -t tmpfs -o size=4k full /var/lib/hookbox
         head -c 4096 /dev/zero > /var/lib/hookbox/full",
    );
    let words = [&["--command=stop"], &OLD[..], &NEW].concat();
    let said = site.hookbox("master_ip_online_change", &words);
    manager.sh("umount /var/lib/hookbox");
    assert_eq!(said.status, Some(1), "{}", said.text);
    assert!(
        said.text.contains("No space left on device"),
        "{}",
        said.text
    );
    site.serves_as_before();
}

#[test]
fn a_password_that_nobody_escaped_is_found_by_the_second_try() {
    let Some(site) = Site::new() else { return };
    let manager = &site.cluster().manager;
    let config = CONFIG.replace(
        "user = 'mha'\npassword_file = '/etc/hookbox/mha.password'\n",
        "",
    );
    manager.write("/etc/hookbox/app1.toml", config, 0o644);
    for server in site.cluster().servers() {
        server.sql("SET STATEMENT sql_log_bin = 0 FOR CREATE OR REPLACE USER raw@'10.77.0.%' IDENTIFIED BY 'a\\\\$b'");
        server.sql("SET STATEMENT sql_log_bin = 0 FOR GRANT ALL ON *.* TO raw@'10.77.0.%'");
    }
    for (password, works) in [(r"a\$b", true), (r"a\\\$b", true), (r"a\$c", false)] {
        let (orig, new) = (
            format!("--orig_master_password={password}"),
            format!("--new_master_password={password}"),
        );
        let login = [
            "--orig_master_user=raw",
            "--new_master_user=raw",
            &orig,
            &new,
        ];
        let words = [&["--command=stop", "--dry-run"], &OLD[..], &NEW, &login].concat();
        let said = site.hookbox("master_ip_online_change", &words);
        assert_eq!(said.status == Some(0), works, "{password}: {}", said.text);
        assert!(!said.text.contains(password), "{}", said.text);
    }
}
