//! keepalived on this host: which addresses are its own, and how it is stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Error, Kind, Result};
use crate::files;
use crate::run::Changed;

/// How deep files may include each other; only a file that includes itself comes to it.
const DEEPEST: usize = 16;

/// The blocks whose addresses keepalived adds and takes away.
const BLOCKS: [&str; 3] = [
    "virtual_ipaddress",
    "virtual_ipaddress_excluded",
    "static_ipaddress",
];

/// The addresses that keepalived puts on an interface by the configuration at `path`, with what it
/// includes; none where there is no such file.
///
/// # Errors
/// When it cannot be read or understood: then nobody can say which addresses are keepalived's.
pub fn addresses(path: &Path) -> Result<Vec<IpAddr>> {
    let mut reader = Reader::default();
    match path.is_dir() {
        true => reader.include(&path.join("*.conf").to_string_lossy(), 0)?,
        false => reader.read(path, 0)?,
    }
    Ok(reader.found)
}

#[derive(Default)]
struct Reader {
    found: Vec<IpAddr>,
    /// What `$NAME=VALUE` has defined so far.
    defined: BTreeMap<String, String>,
    depth: usize,
    /// The depth of the block whose words are addresses.
    inside: Option<usize>,
    /// The word before.
    last: String,
}

impl Reader {
    fn read(&mut self, path: &Path, nested: usize) -> Result<()> {
        let text = match files::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(unclear(path).because(error)),
        };
        if nested > DEEPEST {
            return Err(unclear(path).because("it includes itself"));
        }
        for line in text.lines() {
            // Either begins a comment wherever it stands.
            let line = line.split(['#', '!']).next().unwrap_or_default().trim();
            let line = self.without_definition(line);
            let mut words = line.split_whitespace();
            match words.next() {
                Some(word) if is_include(word) => {
                    let beside = path.parent().unwrap_or(Path::new("/"));
                    let pattern = beside.join(words.next().unwrap_or_default().trim_matches('"'));
                    self.include(&pattern.to_string_lossy(), nested + 1)?;
                }
                _ => self
                    .words(&line)
                    .map_err(|error| error.during(path.display().to_string()))?,
            }
        }
        Ok(())
    }

    fn include(&mut self, pattern: &str, nested: usize) -> Result<()> {
        if pattern.contains('{') {
            return Err(unclear(Path::new(pattern)).because("hookbox does not expand braces"));
        }
        let paths = glob::glob(pattern)
            .map_err(|error| unclear(Path::new(pattern)).because(error))?
            .collect::<std::result::Result<Vec<PathBuf>, _>>()
            .map_err(|error| unclear(Path::new(pattern)).because(error))?;
        paths.iter().try_for_each(|path| self.read(path, nested))
    }

    /// Takes a definition in; else the line with what was defined put in.
    fn without_definition(&mut self, line: &str) -> String {
        let mut text = line.to_owned();
        if let Some((name, value)) = line.strip_prefix('$').and_then(|rest| rest.split_once('=')) {
            let value = self.with_definitions(value.trim());
            self.defined.insert(name.trim().to_owned(), value);
            text.clear();
        }
        self.with_definitions(&text)
    }

    fn with_definitions(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The longest first: $VIP is not the beginning of $VIP_READER.
        let mut names: Vec<&String> = self.defined.keys().collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        for name in names {
            let value = &self.defined[name];
            text = text.replace(&format!("${{{name}}}"), value);
            text = text.replace(&format!("${name}"), value);
        }
        text
    }

    fn words(&mut self, line: &str) -> Result<()> {
        let spaced = line.replace('{', " { ").replace('}', " } ");
        for word in spaced.split_whitespace() {
            match word {
                "{" => {
                    self.depth += 1;
                    if BLOCKS.contains(&self.last.as_str()) {
                        self.inside = Some(self.depth);
                    }
                }
                "}" => {
                    self.inside = self.inside.filter(|inside| *inside != self.depth);
                    self.depth = self.depth.saturating_sub(1);
                }
                _ if self.inside.is_some() => self.address(word)?,
                _ => {}
            }
            self.last = word.to_owned();
        }
        Ok(())
    }

    fn address(&mut self, word: &str) -> Result<()> {
        if word.contains('$') {
            return Err(Error::new(Kind::Config, format!("nothing defines {word}")));
        }
        let is_broadcast = ["brd", "broadcast"].contains(&self.last.as_str());
        let address = word.split('/').next().unwrap_or(word).parse();
        if let (Ok(address), false) = (address, is_broadcast) {
            self.found.push(address);
        }
        Ok(())
    }
}

/// `include` and its variants, which say what is an error.
fn is_include(word: &str) -> bool {
    let variants = [
        "include", "includer", "includem", "includew", "includeb", "includea",
    ];
    variants.contains(&word)
}

fn unclear(path: &Path) -> Error {
    let what = format!(
        "{}: which addresses are keepalived's cannot be told",
        path.display()
    );
    Error::new(Kind::Config, what)
}

/// The process whose pid is in `pid_file`, if it runs.
///
/// # Errors
/// [`Kind::Refused`] when that process is not keepalived, or the file holds no pid.
pub fn running(pid_file: &Path) -> Result<Option<Pid>> {
    let text = match files::read(pid_file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::new(Kind::Denied, pid_file.display().to_string()).because(error));
        }
    };
    let file = pid_file.display();
    let pid: i32 = match text.trim().parse() {
        Ok(pid) if pid > 1 => pid,
        _ => return Err(Error::new(Kind::Refused, format!("{file} holds no pid"))),
    };
    // Not its name, which keepalived's own configuration can change.
    let program = match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(program) => program,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::new(Kind::Denied, format!("look at process {pid}"))
                .because(error)
                .advise("script_user root in global_defs of keepalived.conf"));
        }
    };
    // An upgrade leaves the running one as `keepalived (deleted)`.
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    match name.trim_end_matches(" (deleted)") {
        "keepalived" => Ok(Some(Pid::from_raw(pid))),
        _ => Err(Error::new(
            Kind::Refused,
            format!(
                "process {pid} of {file} is {}, not keepalived",
                program.display()
            ),
        )
        .advise("set [paths] keepalived_pid to the file that keepalived writes (its --pid)")),
    }
}

/// Lets keepalived end as it does when it is stopped: it hands its addresses over, takes them off
/// and calls notify_stop.
///
/// # Errors
/// [`Kind::Denied`] when this account may not.
pub fn stop(pid: Pid) -> Result<Changed> {
    match kill(pid, Signal::SIGTERM) {
        Ok(()) => Ok(Changed::Yes),
        Err(Errno::ESRCH) => Ok(Changed::AlreadySo),
        Err(errno) => Err(
            Error::new(Kind::Denied, format!("stop keepalived, process {pid}"))
                .because(errno)
                .advise("script_user root in global_defs of keepalived.conf"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed at the end.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("hookbox-{name}-{}", std::process::id()));
            fs::create_dir_all(dir.join("conf.d")).unwrap();
            Dir(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn found(path: &Path) -> Vec<String> {
        let found = addresses(path).unwrap();
        found.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn every_address_that_keepalived_adds_is_found_and_no_other() {
        let dir = Dir::new("addresses");
        let conf = dir.write(
            "keepalived.conf",
            "! virtual_ipaddress { 10.9.9.1 }
             $NET=10.0.0
             $VIP=${NET}.100
             $VIP_READER = $NET.101/24
             include conf.d/*.conf
             vrrp_instance a {
                 unicast_peer {
                     10.0.0.12
                 }
                 virtual_ipaddress {
                     $VIP/24 brd 10.0.0.255 dev eth0 # 10.9.9.2
                     $VIP_READER dev eth0 label eth0:1
                     fd00::5/64
                 }
                 virtual_ipaddress_excluded { 10.0.0.102 }
                 virtual_routes {
                     192.168.7.0/24 via 10.0.0.1
                 }
             }
             virtual_server 10.0.0.103 3306 {
             }",
        );
        dir.write(
            "conf.d/a.conf",
            "static_ipaddress {\n 10.0.0.104/32 dev lo\n}\n",
        );
        dir.write(
            "conf.d/b.txt",
            "static_ipaddress {\n 10.0.0.105/32 dev lo\n}\n",
        );
        let expected = [
            "10.0.0.104",
            "10.0.0.100",
            "10.0.0.101",
            "fd00::5",
            "10.0.0.102",
        ];
        assert_eq!(found(&conf), expected);
        assert_eq!(
            found(&dir.0),
            expected,
            "a directory is read as keepalived reads it"
        );
        assert_eq!(found(Path::new("/none/keepalived.conf")), [] as [&str; 0]);
    }

    #[test]
    fn what_cannot_be_understood_is_no_answer() {
        let dir = Dir::new("unclear");
        for text in [
            "include conf.d/{a,b}.conf",
            "include keepalived.conf",
            "virtual_ipaddress {\n$NOWHERE\n}",
        ] {
            let conf = dir.write("keepalived.conf", text);
            assert_eq!(addresses(&conf).unwrap_err().kind(), Kind::Config, "{text}");
        }
        let conf = dir.write("keepalived.conf", "");
        fs::remove_file(&conf).unwrap();
        nix::unistd::mkfifo(&conf, nix::sys::stat::Mode::S_IRWXU).unwrap();
        addresses(&conf).unwrap_err();
    }

    #[test]
    fn only_keepalived_itself_is_ever_taken_for_keepalived() {
        let dir = Dir::new("pid");
        assert_eq!(running(&dir.0.join("none")).unwrap(), None);
        for text in ["", "keepalived", "0", "1", "-1", "12 13"] {
            let error = running(&dir.write("pid", text)).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{text:?}");
        }
        let own = std::process::id().to_string();
        let error = running(&dir.write("pid", &own)).unwrap_err();
        assert!(
            error.chain().contains("not keepalived"),
            "{}",
            error.chain()
        );
        // Larger than any pid: such a process is gone.
        assert_eq!(running(&dir.write("pid", "2147483646\n")).unwrap(), None);
    }
}
