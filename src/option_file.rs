//! The `[client]` section of an option file, read as MySQL's own programs read it.
//!
//! The rules are those of `search_default_file_with_ext` in MySQL's and MariaDB's
//! mysys/my_default.c; a test compares with `my_print_defaults` where that is installed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::files;
use crate::secret::{self, Password};

/// What `[client]` says about reaching a server and logging in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSection {
    /// Account name.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Password>,
    /// TCP address; `localhost` means the socket, to MySQL's programs and here, and gives `None`.
    pub host: Option<String>,
    /// TCP port.
    pub port: Option<u16>,
    /// Unix socket.
    pub socket: Option<PathBuf>,
}

impl ClientSection {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be read or understood, or when it holds a password and
    /// others than its owner can read it, or when others can write it.
    pub fn read(path: &Path) -> Result<Self> {
        let fail = |error: std::io::Error| {
            Error::new(Kind::Config, path.display().to_string()).because(error)
        };
        let file = files::open(path).map_err(fail)?;
        let mode = file.metadata.mode();
        let section = Self::parse(&file.read().map_err(fail)?)
            .map_err(|what| Error::new(Kind::Config, format!("{}: {what}", path.display())))?;
        // MySQL's programs ignore a file that everybody can write.
        if section.password.is_some() || mode & 0o002 != 0 {
            secret::require_private(path, mode)?;
        }
        Ok(section)
    }

    /// # Errors
    /// What is wrong, never with a value that might be a password.
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut section = ClientSection::default();
        let mut group: Option<&str> = None;
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with("!include") {
                return Err(format!(
                    "line {number}: !include is not followed here: name the file that has [client]"
                ));
            }
            if let Some(rest) = line.strip_prefix('[') {
                let (name, _) = (rest.split_once(']'))
                    .ok_or_else(|| format!("line {number}: a section name without `]`"))?;
                group = Some(name.trim_ascii());
                continue;
            }
            match group {
                None => {
                    return Err(format!(
                        "line {number}: an option before the first [section]"
                    ));
                }
                Some("client") => {
                    section
                        .take(line)
                        .map_err(|what| format!("line {number}: {what}"))?;
                }
                Some(_) => {}
            }
        }
        Ok(section)
    }

    fn take(&mut self, line: &str) -> std::result::Result<(), String> {
        let line = without_comment(line);
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key, Some(unescape(unquote(value.trim_ascii())))),
            None => (line, None),
        };
        let key = key.trim_ascii().replace('_', "-");
        let key = key.strip_prefix("loose-").unwrap_or(&key);
        let value = match (key, value) {
            ("user" | "password" | "host" | "port" | "socket", Some(value)) => value,
            ("password", None) => {
                return Err("`password` without a value asks at the terminal".to_owned());
            }
            ("user" | "host" | "port" | "socket", None) => {
                return Err(format!("`{key}` without a value"));
            }
            _ => return Ok(()),
        };
        // A later line overrides an earlier one.
        match key {
            "user" => self.user = Some(value),
            "password" => self.password = Some(Password::new(value)),
            "host" => self.host = Some(value).filter(|host| host != "localhost"),
            "port" => {
                let port = value.parse().ok().filter(|port| *port != 0);
                self.port = Some(port.ok_or_else(|| format!("`{value}` is no port"))?);
            }
            _ => self.socket = Some(value.into()),
        }
        Ok(())
    }
}

/// Cuts at the first `#` outside quotes; no space is needed before it.
fn without_comment(line: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in line.char_indices() {
        match c {
            '\'' | '"' if !escaped && quote.is_none() => quote = Some(c),
            '\'' | '"' if !escaped && quote == Some(c) => quote = None,
            '#' if quote.is_none() => return &line[..at],
            _ => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
    }
    line
}

/// Takes one pair of quotes off, whatever is between them.
fn unquote(value: &str) -> &str {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value)
}

/// Resolves backslashes, in quotes and without; an unknown one stays as it is.
fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('b') => plain.push('\u{8}'),
            Some('s') => plain.push(' '),
            Some(quoted @ ('\'' | '"' | '\\')) => plain.push(quoted),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;

    use super::*;
    use crate::scratch::Scratch;

    const PASSWORDS: &[&str] = &[
        "plain",
        "  spaces around  ",
        "'in single' ",
        "\"in double\"",
        "\"it's\"",
        "'",
        "'a",
        "a'b#c'd",
        "ab#cd",
        "ab #cd",
        "ab;cd",
        "'ab#cd' # why",
        "\"ab\\\"#cd\"",
        "\"ab\\\\\" #cd\"",
        r"a\nb\tc\sd\\e\'f\qg\\",
        r"a\",
        r"'a\'",
        "a=b==",
        "\"\"",
        "pä߀ss",
        "''quoted''",
    ];

    #[test]
    fn values_are_read_as_my_print_defaults_reads_them() {
        let dir = Scratch::new();
        let path = dir.path().join("my.cnf");
        let mut compared = 0;
        for password in PASSWORDS {
            let text = format!("[client]\npassword={password}\n");
            let ours = ClientSection::parse(&text).unwrap().password.unwrap();
            std::fs::write(&path, text).unwrap();
            let theirs = Command::new("my_print_defaults")
                .arg(format!("--defaults-file={}", path.display()))
                .arg("client")
                .output();
            let Ok(theirs) = theirs else {
                // Not by a macro: what those print is kept back when a test passes.
                writeln!(
                    std::io::stderr(),
                    "SKIPPED: my_print_defaults is not installed"
                )
                .unwrap();
                return;
            };
            let theirs = String::from_utf8(theirs.stdout).unwrap();
            let theirs = theirs
                .strip_prefix("--password=")
                .unwrap()
                .strip_suffix('\n')
                .unwrap();
            assert_eq!(ours.reveal(), theirs, "of `{password}`");
            compared += 1;
        }
        assert_eq!(compared, PASSWORDS.len());
    }

    #[test]
    fn only_the_client_section_counts_and_later_lines_win() {
        let section = ClientSection::parse(
            "# comment\n; comment\n[mysqld]\nport=1\nsocket=/mysqld\n[client] # all programs\n\
             user = first\r\nloose_user='hookbox'\nport = 3308\nhost=localhost\nssl-ca=/x\n\
             socket = \"/run/a b.sock\"\nskip-something\n[client-server]\nport=2\n[ client ]\nuser=last\n",
        );
        let expected = ClientSection {
            user: Some("last".to_owned()),
            port: Some(3308),
            socket: Some("/run/a b.sock".into()),
            ..ClientSection::default()
        };
        assert_eq!(section.unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_followed_is_said_without_repeating_values() {
        for (text, what) in [
            (
                "[client]\n!includedir /etc/mysql",
                "line 2: !include is not followed",
            ),
            ("password=s3cret\n", "line 1: an option before"),
            ("[client\npassword=s3cret\n", "line 1: a section name"),
            ("[client]\npassword\n", "line 2: `password` without a value"),
            ("[client]\nport=70000\n", "line 2: `70000` is no port"),
        ] {
            let error = ClientSection::parse(text).unwrap_err();
            assert!(error.starts_with(what), "{error}");
            assert!(!error.contains("s3cret"));
        }
    }
}
