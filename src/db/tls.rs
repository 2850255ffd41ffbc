//! TLS to a server, on rustls. No I/O of its own waits: that is the [`super::wire`]'s.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::poll::PollFlags;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    RootCertStore, SignatureScheme,
};

use crate::config;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::secret::Encryption;

/// Whether this program was built with TLS.
pub const AVAILABLE: bool = true;

/// The client's side of one TLS connection.
pub struct Tls {
    connection: ClientConnection,
    /// What the server is called.
    host: String,
    encryption: Encryption,
}

impl Tls {
    /// A connection to `host` on which nothing has been said yet.
    ///
    /// # Errors
    /// [`Kind::Config`] when `tls_ca` cannot be used.
    pub fn new(host: &str, encryption: &Encryption) -> Result<Tls> {
        let broken = |error| Error::new(Kind::Bug, "set TLS up").because(error);
        let by_name = encryption.tls == config::Tls::VerifyIdentity;
        let name = ServerName::try_from(match by_name {
            true => host.to_owned(),
            false => "unasked".to_owned(), // `host` can be what no certificate can have
        })
        .map_err(|error| {
            Error::new(Kind::Config, format!("`{host}` cannot be in a certificate")).because(error)
        })?;
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier {
            trusted: trusted(encryption)?,
            by_name,
            provider: provider.clone(),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = Resumption::disabled(); // a program of one connection
        config.enable_sni = false; // no client of MySQL's says whom it wants
        Ok(Tls {
            connection: ClientConnection::new(Arc::new(config), name).map_err(broken)?,
            host: host.to_owned(),
            encryption: encryption.clone(),
        })
    }

    /// Whether the two are still coming to terms.
    pub fn is_shaking_hands(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// What the socket has to be ready for before there is any use in going on.
    pub fn awaits(&self) -> PollFlags {
        match self.connection.wants_write() {
            true => PollFlags::POLLOUT,
            false => PollFlags::POLLIN,
        }
    }

    /// Goes on with the handshake as far as that can be without waiting.
    ///
    /// # Errors
    /// `WouldBlock`; all others are for [`Tls::explain`].
    pub fn shake_hands(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        self.connection.complete_io(socket).map(drop)
    }

    /// As [`Read::read`].
    ///
    /// # Errors
    /// The same.
    pub fn read(&mut self, socket: &mut TcpStream, into: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, socket).read(into)
    }

    /// As [`Write::write`]; what was taken may still have to be flushed.
    ///
    /// # Errors
    /// The same.
    pub fn write(&mut self, socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, socket).write(bytes)
    }

    /// As [`Write::flush`].
    ///
    /// # Errors
    /// The same.
    pub fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        rustls::Stream::new(&mut self.connection, socket).flush()
    }

    /// Why a handshake failed, in a DBA's words.
    pub fn explain(&self, error: io::Error) -> Error {
        let tls = error.get_ref().and_then(|e| e.downcast_ref());
        match tls {
            Some(rustls::Error::InvalidCertificate(why)) => self.explain_certificate(why),
            Some(
                rustls::Error::PeerIncompatible(_)
                | rustls::Error::AlertReceived(
                    AlertDescription::ProtocolVersion
                    | AlertDescription::HandshakeFailure
                    | AlertDescription::InsufficientSecurity,
                ),
            ) => Error::new(
                Kind::Denied,
                "no TLS version and cipher in common: TLS 1.2 and 1.3 are spoken here",
            )
            .because(error)
            .advise(
                "on that server: tls_version = TLSv1.2,TLSv1.3; if it has no such, tls = \"off\"",
            ),
            _ => Error::new(Kind::Denied, "the TLS handshake failed")
                .because(error)
                .advise("see that server's error log, and its ssl_cert, ssl_key and tls_version"),
        }
    }

    fn explain_certificate(&self, why: &CertificateError) -> Error {
        let host = &self.host;
        let ca = self.encryption.ca.as_deref().unwrap_or(Path::new("tls_ca"));
        let ca = ca.display();
        let renew =
            "renew it there, then ALTER INSTANCE RELOAD TLS (MySQL 8) or FLUSH SSL (MariaDB)";
        let (what, advice) = match why {
            CertificateError::UnknownIssuer => (
                format!("its certificate was not signed by a CA in {ca}"),
                format!("put the CA that signed it into {ca}: ssl_ca of that server, as a rule"),
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
                format!("its certificate has expired{}", end(why)),
                renew.to_owned(),
            ),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
                format!("its certificate is not valid yet{}", end(why)),
                "set the clock of this host, or renew the certificate there".to_owned(),
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                (
                    format!("its certificate is not for {host}{}", names(why)),
                    format!("name {host} in its subjectAltName, or tls = \"verify_ca\""),
                )
            }
            why => return self.explain_bad(why),
        };
        Error::new(Kind::Denied, what).advise(advice)
    }

    /// What openssl makes by a short command line and takes for good.
    fn explain_bad(&self, why: &CertificateError) -> Error {
        let host = &self.host;
        // rustls has no word of its own for what webpki says here.
        let said = why.to_string();
        if said.contains("UnsupportedCertVersion") {
            let what = "its certificate is of X.509 version 1, which is not verified here";
            return Error::new(Kind::Denied, what).advise(format!(
                "make it again: openssl x509 -req -extfile FILE ..., \
                 with the line subjectAltName=DNS:{host} (or IP:) in FILE"
            ));
        }
        if said.contains("CaUsedAsEndEntity") {
            let what = "its certificate is a CA's own";
            return Error::new(Kind::Denied, what)
                .advise("make one for the server and sign it by that CA: openssl x509 -req -CA");
        }
        Error::new(Kind::Denied, "its certificate is no good")
            .because(said)
            .advise("see openssl verify -CAfile with tls_ca and the ssl_cert of that server")
    }
}

fn end(why: &CertificateError) -> String {
    let date = |at: &UnixTime| {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_secs());
        humantime::format_rfc3339_seconds(at)
    };
    match why {
        CertificateError::ExpiredContext { not_after, .. } => format!(", at {}", date(not_after)),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(", only from {}", date(not_before))
        }
        _ => String::new(),
    }
}

fn names(why: &CertificateError) -> String {
    match why {
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!(" but for {}", presented.join(", "))
        }
        // A name that is only in the subject (CN) counts for nothing (RFC 9525).
        _ => " and has no subjectAltName".to_owned(),
    }
}

/// The CAs that may have signed a server's certificate; `None` when that is not asked.
fn trusted(encryption: &Encryption) -> Result<Option<RootCertStore>> {
    if !encryption.tls.verifies() {
        return Ok(None);
    }
    let Some(path) = &encryption.ca else {
        return Err(
            Error::new(Kind::Config, "`tls` is to verify, and there is no `tls_ca`")
                .advise("tls_ca = the file with the CA's certificate, PEM"),
        );
    };
    let broken = |why: String| Error::new(Kind::Config, format!("{}: {why}", path.display()));
    let text = files::read(path).map_err(|error| broken(error.to_string()))?;
    let mut trusted = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| broken(error.to_string()))?;
        trusted
            .add(certificate)
            .map_err(|error| broken(error.to_string()))?;
    }
    match trusted.is_empty() {
        true => Err(broken("no certificate in it".to_owned())
            .advise("it must have -----BEGIN CERTIFICATE-----")),
        false => Ok(Some(trusted)),
    }
}

/// Verifies as much as was asked.
#[derive(Debug)]
struct Verifier {
    trusted: Option<RootCertStore>,
    by_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if let Some(trusted) = &self.trusted {
            let certificate = ParsedCertificate::try_from(certificate)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                trusted,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
            if self.by_name {
                verify_server_name(&certificate, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        match self.trusted {
            Some(_) => verify_tls12_signature(
                message,
                certificate,
                signed,
                &self.provider.signature_verification_algorithms,
            ),
            // Who may have any certificate may have one of his own, too.
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        match self.trusted {
            Some(_) => verify_tls13_signature(
                message,
                certificate,
                signed,
                &self.provider.signature_verification_algorithms,
            ),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
