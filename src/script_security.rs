//! The paths that keepalived trusts to hold scripts it runs as root.
//!
//! Its rules (`check_security` in keepalived/core/notify.c): every component belongs to root and
//! is not writable for others, directories with the sticky bit excepted. What fails is dropped
//! under `enable_script_security`, and a node whose check is dropped counts as healthy. From
//! 2.3.0 a directory that is a symlink fails even without it.

use std::fs::{Metadata, symlink_metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};

const STICKY: u32 = 0o1000;

/// Whether scripts in `dir`, an absolute path, will be run.
///
/// # Errors
/// [`Kind::Refused`] for the first component that is not safe, with what to type.
pub fn check_dir(dir: &Path) -> Result<()> {
    for component in components(dir) {
        let about = look(component)?;
        if about.is_symlink() {
            return Err(symlinked(component));
        }
        if !about.is_dir() {
            return Err(refuse(component, "is no directory"));
        }
        check_owner_and_mode(component, &about)?;
    }
    Ok(())
}

/// Whether `program`, an absolute path, will be run. It may itself be a symlink.
///
/// # Errors
/// As [`check_dir`].
pub fn check_program(program: &Path) -> Result<()> {
    check_dir(program.parent().unwrap_or(Path::new("/")))?;
    let about = look(program)?;
    if about.is_symlink() {
        check_owner(program, &about)?;
        let real = program
            .canonicalize()
            .map_err(|error| refuse(program, "leads nowhere").because(error))?;
        return check_program(&real);
    }
    if !about.is_file() {
        return Err(refuse(program, "is no program"));
    }
    if about.mode() & 0o111 != 0o111 {
        let error = refuse(program, "is not executable for all");
        return Err(error.advise(format!("chmod 755 {}", program.display())));
    }
    check_owner_and_mode(program, &about)
}

/// `/`, `/a`, `/a/b` of `/a/b`.
fn components(path: &Path) -> Vec<&Path> {
    let mut components: Vec<&Path> = path.ancestors().collect();
    components.reverse();
    components
}

fn look(path: &Path) -> Result<Metadata> {
    symlink_metadata(path)
        .map_err(|error| Error::new(Kind::Refused, path.display().to_string()).because(error))
}

fn refuse(path: &Path, what: &str) -> Error {
    Error::new(Kind::Refused, format!("{} {what}", path.display()))
}

fn symlinked(path: &Path) -> Error {
    let what = "is a symlink: keepalived from 2.3.0 runs nothing below it";
    let error = refuse(path, what);
    match path.canonicalize() {
        Ok(real) => error.advise(format!("use {} instead", real.display())),
        Err(_) => error,
    }
}

fn check_owner(path: &Path, about: &Metadata) -> Result<()> {
    if about.uid() == 0 {
        return Ok(());
    }
    let what = format!("belongs to uid {}, not to root", about.uid());
    Err(refuse(path, &what).advise(format!("chown -h root {}", path.display())))
}

fn check_owner_and_mode(path: &Path, about: &Metadata) -> Result<()> {
    check_owner(path, about)?;
    let for_group = about.mode() & 0o020 != 0 && about.gid() != 0;
    let for_all = about.mode() & 0o002 != 0;
    let sticky = about.is_dir() && about.mode() & STICKY != 0;
    if (for_group || for_all) && !sticky {
        let what = format!(
            "is writable for others (mode {:04o})",
            about.mode() & 0o7777
        );
        return Err(refuse(path, &what).advise(format!("chmod go-w {}", path.display())));
    }
    Ok(())
}
