//! TLS to a real server, and to ones that misbehave in it.
#![cfg(feature = "tls")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may panic and look at the clock"
)]

mod lab;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::spawn;
use std::time::{Duration, Instant};

use hookbox::config::Tls;
use hookbox::db::Database;
use hookbox::db::endpoint::Endpoint;
use hookbox::db::server::Server;
use hookbox::db::session::Session;
use hookbox::error::{Error, Kind, Result};
use hookbox::secret::{Encryption, Login, Password};
use hookbox::time::Deadline;
use lab::Host;

const DIR: &str = "/etc/mysql/tls";
const SECOND: Duration = Duration::from_secs(1);

/// A server with certificates, and two CAs of which one signed them.
struct Site {
    host: Arc<Host>,
    server: lab::Server,
}

fn site(settings: &str) -> Option<Site> {
    if !lab::is_possible() {
        return None;
    }
    let host = Arc::new(Host::new("db1"));
    host.sh(&format!(
        "mkdir -p {DIR}; cd {DIR}
         for ca in ca other; do
             openssl req -x509 -newkey rsa:2048 -nodes -keyout $ca.key -out $ca.pem -days 30 \
                 -subj /CN=$ca 2>&1
         done
         openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=db1 2>&1
         sign() {{ openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial $@ 2>&1; }}
         echo subjectAltName=IP:127.0.0.1,DNS:db1 > names
         echo basicConstraints=CA:FALSE > none
         sign -days 30 -extfile names -out good.pem
         printf '%s\n' '[ca]' default_ca=it '[it]' database=index serial=ca.srl new_certs_dir=. \
             policy=any default_md=sha256 '[any]' commonName=supplied > ca.cnf
         touch index
         openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in request.pem \
             -startdate 20200101000000Z -enddate 20210101000000Z -extfile names -out expired.pem 2>&1
         sign -days 30 -extfile none -out nameless.pem
         sign -days 30 -out v1.pem
         openssl req -x509 -key key.pem -out own.pem -days 30 -subj /CN=own 2>&1
         cp good.pem cert.pem
         chown mysql *.pem"
    ));
    let settings = format!("ssl-cert = {DIR}/cert.pem\nssl-key = {DIR}/key.pem\n{settings}");
    let mut server = lab::Server::new(&host, "127.0.0.1", 1, &settings);
    server.start();
    server.sql("CREATE USER open@'127.0.0.1' IDENTIFIED BY 'pass'");
    server.sql("CREATE USER secret@'127.0.0.1' IDENTIFIED BY 'pass' REQUIRE SSL");
    server.sql("GRANT ALL ON *.* TO open@'127.0.0.1', secret@'127.0.0.1'");
    Some(Site { host, server })
}

impl Site {
    /// What `work` says in the network of the server.
    fn there<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.host.enter_network();
                work()
            });
            inside.join().unwrap()
        })
    }

    fn ca(&self, name: &str) -> PathBuf {
        self.host.path(&format!("{DIR}/{name}.pem"))
    }

    /// The cipher of a session of `user`.
    fn cipher(&self, user: &str, host: &str, tls: Tls, ca: &str) -> Result<String> {
        let login = login(user, tls, Some(self.ca(ca)));
        self.there(|| {
            let endpoint = Endpoint::Tcp(host.to_owned(), 3306);
            let server = Server::new(endpoint, login, Deadline::after(5 * SECOND));
            let answer = server.ask("SHOW STATUS LIKE 'Ssl_cipher'")?;
            Ok(answer.first().unwrap().at(1).unwrap().to_owned())
        })
    }

    fn with_certificate(&self, name: &str) {
        self.host.sh(&format!("cp {DIR}/{name}.pem {DIR}/cert.pem"));
        self.server.sql("FLUSH SSL");
    }
}

fn login(user: &str, tls: Tls, ca: Option<PathBuf>) -> Login {
    Login {
        user: user.to_owned(),
        password: Password::new("pass"),
        encryption: Encryption { tls, ca },
        ..Login::default()
    }
}

/// One line of an error that is no silence: the server is alive.
#[track_caller]
fn refused(result: Result<String>, what: &str) -> Error {
    let error = result.unwrap_err();
    assert!(error.chain().ends_with(what), "{}", error.chain());
    assert_eq!((error.kind(), error.server_code()), (Kind::Denied, None));
    assert!(error.advice().is_some());
    error
}

#[test]
fn a_server_that_offers_tls_is_spoken_to_by_tls_unless_that_is_off() {
    let Some(site) = site("") else { return };
    let cipher = |user, tls| site.cipher(user, "127.0.0.1", tls, "ca");
    for tls in [
        Tls::Preferred,
        Tls::Required,
        Tls::VerifyCa,
        Tls::VerifyIdentity,
    ] {
        for user in ["open", "secret"] {
            assert!(cipher(user, tls).unwrap().contains("AES"), "{tls:?}");
        }
    }
    assert_eq!(cipher("open", Tls::Off).unwrap(), "");
    assert_eq!(
        cipher("secret", Tls::Off).unwrap_err().server_code(),
        Some(1045)
    );
}

#[test]
fn a_certificate_that_does_not_do_is_refused_with_what_to_do() {
    let Some(site) = site("") else { return };
    let local = |tls, ca| site.cipher("open", "127.0.0.1", tls, ca);
    let unknown = refused(local(Tls::VerifyCa, "other"), "other.pem");
    assert!(unknown.chain().contains("not signed by a CA in"));
    // By another name than those of the certificate.
    let elsewhere = |tls| site.cipher("open", "localhost", tls, "ca");
    elsewhere(Tls::VerifyCa).unwrap();
    let error = refused(elsewhere(Tls::VerifyIdentity), "");
    let what = "its certificate is not for localhost but for ";
    assert!(error.chain().contains(what), "{}", error.chain());
    site.with_certificate("nameless");
    local(Tls::VerifyCa, "ca").unwrap();
    refused(
        local(Tls::VerifyIdentity, "ca"),
        "its certificate is not for 127.0.0.1 and has no subjectAltName",
    );
    site.with_certificate("v1");
    let error = refused(local(Tls::VerifyCa, "ca"), "");
    assert!(error.chain().contains("X.509 version 1"));
    site.with_certificate("own");
    refused(local(Tls::VerifyCa, "own"), "its certificate is a CA's own");
    site.with_certificate("expired");
    local(Tls::Required, "ca").unwrap();
    refused(
        local(Tls::VerifyCa, "ca"),
        "its certificate has expired, at 2021-01-01T00:00:00Z",
    );
}

#[test]
fn a_ca_file_that_cannot_be_used_is_a_slip_in_the_configuration() {
    let Some(site) = site("") else { return };
    for ca in ["missing", "key"] {
        let error = site.cipher("open", "127.0.0.1", Tls::VerifyCa, ca);
        assert_eq!(error.unwrap_err().kind(), Kind::Config);
    }
}

#[test]
fn a_server_whose_tls_is_too_old_is_refused_only_where_tls_must_be() {
    let Some(site) = site("tls-version = TLSv1.1\nssl-cipher = DEFAULT@SECLEVEL=0") else {
        return;
    };
    let cipher = |tls| site.cipher("open", "127.0.0.1", tls, "ca");
    assert_eq!(cipher(Tls::Preferred).unwrap(), "");
    let error = refused(cipher(Tls::Required), "");
    let what = "no TLS version and cipher in common";
    assert!(error.chain().contains(what), "{}", error.chain());
}

#[test]
fn a_server_without_tls_is_refused_only_where_tls_must_be() {
    let Some(site) = site("skip-ssl") else { return };
    let cipher = |tls| site.cipher("open", "127.0.0.1", tls, "ca");
    assert_eq!(cipher(Tls::Preferred).unwrap(), "");
    for tls in [Tls::Required, Tls::VerifyCa, Tls::VerifyIdentity] {
        refused(cipher(tls), "the server offers no TLS");
    }
}

#[test]
fn an_answer_that_takes_its_time_is_waited_for_and_a_long_one_comes_whole() {
    let Some(site) = site("") else { return };
    site.there(|| {
        let endpoint = Endpoint::Tcp("127.0.0.1".to_owned(), 3306);
        let login = login("secret", Tls::Required, None);
        let deadline = Deadline::after(20 * SECOND);
        let mut session = Session::open(&endpoint, &login, &deadline).unwrap();
        let short = Duration::from_millis(100);
        session.send("SELECT SLEEP(0.5)").unwrap();
        // TLS 1.3 sends messages of its own after the handshake: they are no answer.
        assert!(!session.answers_within(short).unwrap());
        assert!(session.answers_within(10 * SECOND).unwrap());
        session.answer().unwrap();
        let long = session.ask("SELECT REPEAT('x', 1000000)").unwrap();
        assert_eq!(long.first().unwrap().at(0).unwrap().len(), 1_000_000);
        let question = format!("SELECT LENGTH('{}')", "x".repeat(1_000_000));
        let length = session.ask(&question).unwrap();
        assert_eq!(length.first().unwrap().at(0), Some("1000000"));
        session.quit();
    });
    let aborted = "SELECT variable_value FROM information_schema.global_status
                   WHERE variable_name = 'Aborted_clients'";
    assert_eq!(site.server.ask(aborted), "0");
}

#[test]
fn writes_are_closed_over_tls_although_a_session_is_in_the_way() {
    let Some(site) = site("") else { return };
    let mut blocker = site.server.connect().unwrap();
    mysql::prelude::Queryable::query_drop(&mut blocker, "LOCK TABLES lab.t WRITE").unwrap();
    site.there(|| {
        let endpoint = Endpoint::Tcp("127.0.0.1".to_owned(), 3306);
        let login = login("secret", Tls::VerifyIdentity, Some(site.ca("ca")));
        let server = Server::new(endpoint, login, Deadline::after(5 * SECOND));
        server
            .close_writes(Duration::from_millis(200), &[])
            .unwrap();
        assert!(server.state().unwrap().is_closed());
    });
}

/// A server that greets, offers TLS and reads the answer; what it does then is `manners`.
fn fake(after_greeting: &'static [u8], manners: fn(TcpStream)) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut greeting = b"\x0a5.5.5-10.11.6-MariaDB\0".to_vec();
            greeting.extend(7_u32.to_le_bytes());
            greeting.extend(b"12345678\0");
            greeting.extend([0xfe, 0xff, 0x21, 2, 0, 0x0f, 0, 21]); // with CLIENT_SSL
            greeting.extend([0; 10]);
            greeting.extend(b"123456789012\0mysql_native_password\0");
            let mut bytes = vec![greeting.len() as u8, 0, 0, 0];
            bytes.extend(greeting);
            bytes.extend(after_greeting);
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut [0; 36]); // the wish for TLS
            spawn(move || manners(stream));
        }
    });
    Endpoint::Tcp("127.0.0.1".to_owned(), port)
}

fn open(endpoint: &Endpoint, limit: Duration) -> (Error, Duration) {
    let started = Instant::now();
    let login = login("secret", Tls::Required, None);
    let error = Session::open(endpoint, &login, &Deadline::after(limit))
        .err()
        .unwrap();
    (error, started.elapsed())
}

fn until_closed(mut stream: TcpStream) {
    while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {}
}

#[test]
fn a_handshake_that_never_ends_is_over_at_the_deadline() {
    let trickle = |mut stream: TcpStream| {
        // A handshake record of 16 kB, a byte now and then.
        let _ = stream.write_all(&[0x16, 3, 3, 0x40, 0]);
        while stream.write_all(&[2]).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    for manners in [until_closed as fn(TcpStream), trickle] {
        let (error, took) = open(&fake(b"", manners), Duration::from_millis(300));
        assert_eq!(error.kind(), Kind::Timeout, "{}", error.chain());
        assert!(took < SECOND, "{took:?}");
    }
}

#[test]
fn who_breaks_off_the_handshake_or_speaks_no_tls_is_alive_all_the_same() {
    let http = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        until_closed(stream);
    };
    for manners in [drop as fn(TcpStream), http] {
        let (error, _) = open(&fake(b"", manners), 5 * SECOND);
        let what = "the TLS handshake failed";
        assert!(error.chain().contains(what), "{}", error.chain());
        assert_eq!(error.kind(), Kind::Denied);
    }
}

#[test]
fn what_is_slipped_in_before_tls_is_not_taken_for_the_servers() {
    // An OK packet, which would be the answer to the login.
    let slipped_in = b"\x07\0\0\x02\0\0\0\x02\0\0\0";
    let (error, _) = open(&fake(slipped_in, until_closed), 5 * SECOND);
    let what = "speaks before its turn";
    assert!(error.chain().contains(what), "{}", error.chain());
}
