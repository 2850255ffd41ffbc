//! Passwords on this process's own command line, which every user could read with `ps`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Options whose value is a password; so is that of every one with `pass` in its name.
const PASSWORDS: [&[u8]; 3] = [b"orig_master_password", b"new_master_password", b"password"];

/// Overwrites the passwords among `args` in the memory from which the kernel shows the command
/// line of this process (proc(5), `/proc/PID/cmdline`).
///
/// # Errors
/// What the kernel says; then they can still be seen.
pub fn hide_passwords(args: &[OsString]) -> io::Result<()> {
    if values(args.iter().map(|word| word.as_bytes())).is_empty() {
        return Ok(());
    }
    let stat = fs::read("/proc/self/stat")?;
    let area = argument_area(&String::from_utf8_lossy(&stat))
        .ok_or_else(|| io::Error::other("/proc/self/stat does not say where it is"))?;
    let memory = File::options()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let mut bytes = vec![0; (area.end - area.start) as usize];
    memory.read_exact_at(&mut bytes, area.start)?;
    for value in values(bytes.split(|byte| *byte == 0)) {
        let cover = vec![b'x'; value.len()];
        memory.write_all_at(&cover, area.start + value.start as u64)?;
    }
    Ok(())
}

/// Fields 48 and 49 of `/proc/PID/stat` (proc(5)), counted after the command's name, which may
/// hold anything.
fn argument_area(stat: &str) -> Option<Range<u64>> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45);
    let (start, end) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (start < end).then_some(start..end)
}

/// Where the values of password options stand in `words` joined by one byte each. Rather one too
/// many than one too few: a value is taken for secret when its option could be an abbreviation.
fn values<'a>(words: impl Iterator<Item = &'a [u8]>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut next_is_secret = false;
    for word in words {
        let end = at + word.len();
        let equals = word.iter().position(|byte| *byte == b'=');
        let name = &word[..equals.unwrap_or(word.len())];
        match equals {
            _ if next_is_secret => {
                found.push(at..end);
                next_is_secret = false;
            }
            Some(equals) if is_secret(name) => found.push(at + equals + 1..end),
            Some(_) => {}
            None => next_is_secret = is_secret(name),
        }
        at = end + 1;
    }
    found
}

fn is_secret(option: &[u8]) -> bool {
    let lower = option.to_ascii_lowercase();
    let name = lower.trim_ascii_start();
    let name = match name {
        [b'-', b'-', name @ ..] | [b'-', name @ ..] => name,
        _ => return false,
    };
    let has = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
    let abbreviates = |full: &&[u8]| !name.is_empty() && full.starts_with(name);
    has(b"pass") || PASSWORDS.iter().any(abbreviates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(words: &[&str]) -> Vec<String> {
        let line = words.join("\0");
        let ranges = values(words.iter().map(|word| word.as_bytes()));
        ranges
            .into_iter()
            .map(|range| line[range].to_owned())
            .collect()
    }

    #[test]
    fn passwords_are_found_in_every_form_that_mha_or_a_person_writes() {
        let words = [
            "master_ip_online_change",
            "--command=stop",
            "--orig_master_port=3306",
            "--orig_master_password=one",
            "--new_master_password",
            "--two=2",
            "--NEW_MASTER_PASS=three",
            "-orig_master_pa",
            "four",
            "--new_master_user=u",
            "--their_passphrase=five",
            "--new_master_password=",
            "six",
            "--new_master_password",
        ];
        let expected = ["one", "--two=2", "three", "four", "five", ""];
        assert_eq!(hidden(&words), expected);
    }

    #[test]
    fn the_argument_area_is_this_process_own() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let area = argument_area(&stat).unwrap();
        let line = fs::read("/proc/self/cmdline").unwrap();
        assert_eq!((area.end - area.start) as usize, line.len());
        assert_eq!(argument_area("1 (a) b) S 1 2 3"), None);
    }
}
