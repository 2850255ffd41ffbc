//! An old primary becomes a replica of the new one, unless it has what that one lacks.

use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::lab::{Replication, wait_until};
use crate::server::{OnlyByTls, Server};
use crate::site::{Site, by_hand, succeed, told};

const ACCOUNT: &str = "[rejoin]\nuser = \"repl\"\npassword_file = \"/etc/hookbox/repl\"\n\
                       limit = \"20s\"\n";

/// Configures `[rejoin]` on both hosts, with `more` in it.
pub fn configure(site: &Site, more: &str) {
    for server in [&site.db1, &site.db2] {
        server.host.write("/etc/hookbox/repl", "replpass\n", 0o600);
    }
    site.configure(&format!("{ACCOUNT}{more}"));
}

fn rejoin(replica: &Server, source: &Server) -> (i32, String) {
    rejoin_by(replica, source, &[])
}

fn rejoin_by(replica: &Server, source: &Server, words: &[&str]) -> (i32, String) {
    by_hand(
        replica,
        &[&["rejoin", "--source", &source.address], words].concat(),
    )
}

/// `replica` rejoins `source`, takes no writes, gets what is written there, and has the same.
pub fn rejoins(replica: &Server, source: &Server) -> Duration {
    rejoins_by(replica, source, &[])
}

fn rejoins_by(replica: &Server, source: &Server, words: &[&str]) -> Duration {
    let began = Instant::now();
    let (status, all) = rejoin_by(replica, source, words);
    let took = began.elapsed();
    assert_eq!(status, 0, "{all}");
    assert!(!all.contains("replpass"), "{all}");
    assert!(!replica.is_writable() && source.is_writable(), "{all}");
    source.sql("INSERT INTO lab.e VALUES (9999, 'new')");
    let sum = "SELECT COUNT(*), SUM(CRC32(CONCAT(id, text))) FROM lab.e";
    wait_until(
        &format!("both are alike: {all}"),
        Duration::from_secs(20),
        || replica.sql(sum) == source.sql(sum),
    );
    took
}

/// db2 takes over, and has a row that db1 lacks.
fn take_over(site: &Site) {
    succeed(&site.db2, "notify_master");
    site.db2.sql("INSERT INTO lab.e VALUES (9001, 'after')");
}

/// All transactions that a server has, as it names them.
fn transactions(server: &Server) -> String {
    server.ask(match server.engine.is_mariadb() {
        true => "SELECT @@GLOBAL.gtid_binlog_state",
        false => "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')",
    })
}

/// The names of the last `count` transactions of db1, as they are printed.
fn last_of(db1: &Server, count: u64) -> String {
    let (origin, last) = match db1.engine.is_mariadb() {
        true => {
            let last = db1.ask("SELECT @@GLOBAL.gtid_binlog_pos");
            let (origin, number) = last.rsplit_once('-').unwrap();
            (format!("{origin}-"), number.parse::<u64>().unwrap())
        }
        false => {
            let uuid = db1.ask("SELECT @@GLOBAL.server_uuid");
            let all = transactions(db1);
            let number = all.rsplit(['-', ':']).next().unwrap();
            (format!("{uuid}:"), number.parse().unwrap())
        }
    };
    let first = last - count + 1;
    match db1.engine.is_mariadb() {
        true => format!("{origin}{first}..{origin}{last}"),
        false => format!("{origin}{first}-{last}"),
    }
}

pub fn an_old_primary_that_was_closed_rejoins(site: &mut Site) -> String {
    configure(site, "");
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    succeed(&site.db1, "notify_backup");
    take_over(site);
    if site.by == Replication::FileAndPosition && !site.engine.is_mariadb() {
        let before = site.db1.standing();
        let (status, all) = rejoin(&site.db1, &site.db2);
        assert_eq!(status, 3, "{all}");
        assert!(all.contains("without GTIDs nothing proves"), "{all}");
        assert_eq!(site.db1.standing(), before, "{all}");
        return "refused: nothing proves from where to go on".to_owned();
    }
    let took = rejoins(&site.db1, &site.db2);
    let before = site.db1.standing();
    let (status, all) = rejoin(&site.db1, &site.db2);
    assert_eq!(status, 0, "{all}");
    assert!(all.contains("already"), "{all}");
    assert_eq!(site.db1.standing(), before, "{all}");
    format!("{} ms", took.as_millis())
}

pub fn an_old_primary_that_was_killed_rejoins(site: &mut Site) -> String {
    configure(site, "");
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    site.db1.kill();
    take_over(site);
    site.db1.start();
    assert!(site.db1.is_writable(), "as its configuration file says");
    let took = rejoins(&site.db1, &site.db2);
    format!("closed first, {} ms", took.as_millis())
}

pub fn an_old_primary_rejoins_where_nothing_happens(site: &mut Site) -> String {
    configure(site, "");
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    succeed(&site.db1, "notify_backup");
    succeed(&site.db2, "notify_master");
    site.db2.sql("FLUSH LOGS");
    let before = transactions(&site.db2);
    let began = Instant::now();
    let (status, all) = rejoin(&site.db1, &site.db2);
    let took = began.elapsed();
    assert_eq!(status, 0, "{all}");
    assert!(
        all.contains("Done both threads run, and events of"),
        "{all}"
    );
    assert_eq!(transactions(&site.db2), before, "{all}");
    format!("{} ms", took.as_millis())
}

pub fn what_only_an_old_primary_has_is_named_and_refused(site: &mut Site) -> String {
    configure(site, "");
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    site.switch.block(&site.db1.host);
    take_over(site);
    for row in 101..=105 {
        site.db1
            .sql(&format!("INSERT INTO lab.e VALUES ({row}, 'alone')"));
    }
    site.switch.heal(&site.db1.host);
    succeed(&site.db1, "notify_backup");
    let closed = (site.db1.standing(), transactions(&site.db1));
    let set = last_of(&site.db1, 5);
    let (status, all) = rejoin(&site.db1, &site.db2);
    assert_eq!(status, 3, "{all}");
    assert!(all.contains(&format!("lacks: {set}")), "{set}: {all}");
    assert_eq!((site.db1.standing(), transactions(&site.db1)), closed);
    "refused, nothing changed".to_owned()
}

pub fn what_was_not_replicated_before_a_crash_is_named_and_refused(site: &mut Site) -> String {
    configure(site, "");
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    site.db2.sql(&site.engine.word("STOP SLAVE IO_THREAD"));
    for row in 101..=103 {
        site.db1
            .sql(&format!("INSERT INTO lab.e VALUES ({row}, 'unsent')"));
    }
    let set = last_of(&site.db1, 3);
    site.db1.kill();
    take_over(site);
    site.db1.start();
    let (status, all) = rejoin(&site.db1, &site.db2);
    assert_eq!(status, 5, "{all}"); // closed it stays
    assert!(all.contains(&format!("lacks: {set}")), "{set}: {all}");
    assert!(!site.db1.is_writable());
    assert_eq!(site.db1.status("Master_Host"), "", "{all}");
    let rows = "SELECT COUNT(*) FROM lab.e WHERE text = 'unsent'";
    assert_eq!(site.db1.ask(rows), "3", "{all}");
    "closed and refused".to_owned()
}

pub fn a_replica_that_was_stopped_goes_on(site: &mut Site) -> String {
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    site.db2.sql(&site.engine.word("STOP SLAVE"));
    site.write_events(101, 200);
    if !site.engine.is_mariadb() {
        // It is closed; that it was not open in between nothing shows.
        let (status, all) = rejoin(&site.db2, &site.db1);
        assert_eq!(status, 3, "{all}");
        assert!(all.contains("--wrote-nothing"), "{all}");
        assert_eq!(site.db2.status("Slave_IO_Running"), "No", "{all}");
    }
    let took = rejoins_by(&site.db2, &site.db1, &["--wrote-nothing"]);
    let all = told(&site.db2);
    assert!(all.contains("it goes on where it stopped"), "{all}");
    match site.engine.is_mariadb() {
        true => format!("{} ms", took.as_millis()),
        false => format!(
            "refused; when somebody vouches for it, {} ms",
            took.as_millis()
        ),
    }
}

/// Certificates of db2, for its address, and two CAs, of which one has signed them.
const CERTIFICATES: &str = "mkdir -p /etc/mysql/tls; cd /etc/mysql/tls
    for ca in ca other; do
        openssl req -x509 -newkey rsa:2048 -nodes -keyout $ca.key -out $ca.pem -days 30 \
            -subj /CN=$ca 2>&1
    done
    openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=10.77.0.12 2>&1
    openssl rsa -traditional -in key.pem -out old-key.pem 2>&1 # which 5.6 wants
    echo subjectAltName=IP:10.77.0.12 > names
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile names -out cert.pem 2>&1";

/// hookbox on the host of `server` verifies who its peer is, by the same CA.
fn verify_the_peer(server: &Server) {
    let path = "/etc/hookbox/hookbox.toml";
    let verify = "tls = \"verify_identity\"\ntls_ca = \"/etc/mysql/tls/ca.pem\"";
    let toml = server.host.read(path);
    let toml = toml.replace("[[peer]]\n", &format!("[[peer]]\n{verify}\n"));
    server.host.write(path, toml, 0o644);
}

pub fn replication_is_encrypted_and_the_source_verified(site: &mut Site) -> String {
    site.db2.host.sh(CERTIFICATES);
    site.db2.restart_with(
        "ssl-ca = /etc/mysql/tls/ca.pem\nssl-cert = /etc/mysql/tls/cert.pem\n\
         ssl-key = /etc/mysql/tls/old-key.pem\n",
    );
    for ca in ["ca", "other"] {
        let path = format!("/etc/mysql/tls/{ca}.pem");
        let pem = site.db2.host.read(&path);
        site.db1.host.write(&path, pem, 0o644);
    }
    site.db2.let_replicas_in(OnlyByTls(true));
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    succeed(&site.db1, "notify_backup");
    configure(site, "tls_ca = \"/etc/mysql/tls/other.pem\"");
    take_over(site);
    let before = site.db1.standing();
    let (status, all) = rejoin(&site.db1, &site.db2);
    assert_eq!(status, 4, "{all}");
    assert!(all.contains("no login at the source: error 2026"), "{all}");
    assert_eq!(site.db1.standing(), before, "{all}");
    let found = match site.engine {
        // This build of 5.6 comes to no terms with itself, by yaSSL, whatever the certificates are.
        Engine::MySql56 => "refused: the server's own TLS fails",
        _ => {
            configure(site, "tls_ca = \"/etc/mysql/tls/ca.pem\"");
            verify_the_peer(&site.db1);
            rejoins(&site.db1, &site.db2);
            assert_eq!(site.db1.status("Master_SSL_Allowed"), "Yes");
            "encrypted; with another CA refused"
        }
    };
    site.db2.let_replicas_in(OnlyByTls(false));
    found.to_owned()
}

pub fn without_tls_the_sources_key_hides_the_password(site: &mut Site) -> String {
    configure(site, "tls = false");
    site.write_events(1, 100);
    site.db2.wait_until_applied(&site.db1, "");
    succeed(&site.db1, "notify_backup");
    take_over(site);
    // A source remembers who has logged in, and then asks for no password.
    site.db2.sql("FLUSH PRIVILEGES");
    rejoins(&site.db1, &site.db2);
    assert_eq!(site.db1.status("Master_SSL_Allowed"), "No");
    match site.engine {
        Engine::MySql97 => {
            assert_eq!(site.db1.status("Get_Master_public_key"), "1");
            "its key is asked for".to_owned()
        }
        _ => "no password is sent".to_owned(),
    }
}
