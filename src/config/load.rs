//! From the file to a [`Config`], or to one message that shows what is wrong and where.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::excerpt::{Source, is_secret};
use super::{Config, DEFAULT_PATH, others, sense};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::option_file::ClientSection;

/// Keys of which an instance gives one in place of all, so that giving it does not contradict
/// what the other instances share.
const ALTERNATIVES: [&[&str]; 2] = [
    &["defaults_file", "password_file", "password_env"],
    &["socket", "host"],
];

/// Loads the configuration of `instance`, or of the only server here.
///
/// `path` is what `--config` says; else `HOOKBOX_CONFIG` is asked, else [`DEFAULT_PATH`], which
/// alone may be missing: then all defaults hold. `[instance.NAME]` takes what it does not give
/// from the tables above it; arrays are replaced whole. `paths.run` and `paths.state` get `/NAME`
/// appended unless it gives its own. Other instances are not looked at: a slip in one must not
/// fail the health check of another.
///
/// # Errors
/// [`Kind::Config`]: one message with place, line and caret.
pub fn load(path: Option<&Path>, instance: Option<&str>) -> Result<Config> {
    let (path, text) = read(path)?;
    let parsed = |text: &str| parse(&Source { path: &path, text }, instance);
    if let Some(less) = others::left_out(&text, instance)
        && let Ok(config) = parsed(&less)
    {
        return Ok(config);
    }
    // What is wrong is shown where it stands in the whole.
    parsed(&text)
}

/// The names of the configured instances; `path` as in [`load`].
///
/// # Errors
/// [`Kind::Config`] when the file cannot be read or is not TOML.
pub fn instances(path: Option<&Path>) -> Result<Vec<String>> {
    let (path, text) = read(path)?;
    let source = Source {
        path: &path,
        text: &text,
    };
    let mut document = parse_toml(&source)?.into_inner();
    let tables = take_instances(&source, &mut document)?;
    Ok(tables
        .keys()
        .map(|name| name.get_ref().to_string())
        .collect())
}

/// The file that is missing, so that all defaults hold; None if there is one. `path` as in [`load`].
pub fn missing(path: Option<&Path>) -> Option<&'static Path> {
    let usual = Path::new(DEFAULT_PATH);
    (named(path).is_none() && !usual.exists()).then_some(usual)
}

fn named(path: Option<&Path>) -> Option<PathBuf> {
    path.map(Path::to_owned).or_else(|| {
        let path = std::env::var_os("HOOKBOX_CONFIG")?;
        (!path.is_empty()).then(|| path.into())
    })
}

fn read(path: Option<&Path>) -> Result<(PathBuf, String)> {
    let named = named(path);
    let may_be_missing = named.is_none();
    let path = named.unwrap_or_else(|| DEFAULT_PATH.into());
    match files::read(&path) {
        Ok(text) => Ok((path, text)),
        Err(error) if may_be_missing && error.kind() == std::io::ErrorKind::NotFound => {
            Ok((path, String::new()))
        }
        Err(error) => {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = Error::new(Kind::Config, path.display().to_string()).because(error);
            Err(match missing {
                true => {
                    error.advise("name the file that is meant: --config FILE, or $HOOKBOX_CONFIG")
                }
                false => error,
            })
        }
    }
}

fn parse(source: &Source, instance: Option<&str>) -> Result<Config> {
    let whole = parse_toml(source)?;
    let span = whole.span();
    let whole = whole.into_inner();
    let mut document = whole.clone();
    let instances = take_instances(source, &mut document)?;
    let own = match instance {
        Some(name) => Some(choose_instance(source, instances, name)?),
        None => None,
    };
    if let Some(own) = &own {
        merge(&mut document, own.clone());
    }
    let merged = DeValue::Table(document.clone());
    let mut config = Config::deserialize(toml::Deserializer::from(Spanned::new(span, document)))
        .map_err(|error| complain(source, &whole, &error))?;
    if let Some(found) = sense::contradiction(&config) {
        let span = found.keys.iter().find_map(|key| find(&merged, key));
        let message = source.complain(span.unwrap_or(0..0), &found.what, None);
        let error = Error::new(Kind::Config, message);
        return Err(match found.advice {
            Some(advice) => error.advise(advice),
            None => error,
        });
    }
    if let (Some(name), Some(own)) = (instance, own) {
        let own = DeValue::Table(own);
        if find(&own, "paths.run").is_none() {
            config.paths.run.push(name);
        }
        if find(&own, "paths.state").is_none() {
            config.paths.state.push(name);
        }
    }
    config.paths.name = name_of(source.path, instance);
    config.ssh.withheld = password_variables(&DeValue::Table(whole));
    fill_from_option_files(&mut config, |key| find(&merged, key).is_some())?;
    Ok(config)
}

fn name_of(path: &Path, instance: Option<&str>) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match instance {
        Some(instance) => format!("{stem}.{instance}"),
        None => stem.into_owned(),
    }
}

fn parse_toml<'a>(source: &Source<'a>) -> Result<Spanned<DeTable<'a>>> {
    DeTable::parse(source.text).map_err(|error| {
        let message = source.complain(error.span().unwrap_or(0..0), error.message(), None);
        Error::new(Kind::Config, message)
    })
}

fn take_instances<'a>(source: &Source, document: &mut DeTable<'a>) -> Result<DeTable<'a>> {
    match document.remove_entry("instance") {
        None => Ok(DeTable::new()),
        Some((key, value)) => match value.into_inner() {
            DeValue::Table(tables) => Ok(tables),
            _ => Err(wrong_instance(
                source,
                key.span(),
                "`instance` must hold tables",
            )),
        },
    }
}

fn wrong_instance(source: &Source, span: Range<usize>, what: &str) -> Error {
    let message = source.complain(span, what, Some("write [instance.NAME.mysql], say"));
    Error::new(Kind::Config, message)
}

/// The table of the instance `name`.
fn choose_instance<'a>(
    source: &Source,
    mut instances: DeTable<'a>,
    name: &str,
) -> Result<DeTable<'a>> {
    let Some((key, table)) = instances.remove_entry(name) else {
        let known: Vec<&str> = instances.keys().map(|key| key.get_ref().as_ref()).collect();
        let known = match known.is_empty() {
            true => "none is configured".to_owned(),
            false => format!("known are {}", known.join(", ")),
        };
        let what = format!("{}: no [instance.{name}]: {known}", source.path.display());
        return Err(Error::new(Kind::Config, what));
    };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(fits) {
        let what = format!("the instance name `{name}` may only have a-z, 0-9, _ and -");
        return Err(wrong_instance(source, key.span(), &what));
    }
    match table.into_inner() {
        DeValue::Table(table) => Ok(table),
        _ => Err(wrong_instance(
            source,
            key.span(),
            "an instance must be a table",
        )),
    }
}

fn merge<'a>(below: &mut DeTable<'a>, above: DeTable<'a>) {
    for group in ALTERNATIVES {
        if group.iter().any(|key| above.contains_key(*key)) {
            for key in group {
                below.remove(*key);
            }
        }
    }
    for (key, value) in above {
        // Removed rather than overwritten: overwriting keeps the old key, which knows the old place.
        let shared = below.remove(key.get_ref().as_ref());
        let span = value.span();
        let value = match (shared.map(Spanned::into_inner), value.into_inner()) {
            (Some(DeValue::Table(mut shared)), DeValue::Table(own)) => {
                merge(&mut shared, own);
                DeValue::Table(shared)
            }
            (_, own) => own,
        };
        below.insert(key, Spanned::new(span, value));
    }
}

/// The names that `password_env` gives anywhere below `value`.
fn password_variables(value: &DeValue) -> Vec<String> {
    match value {
        DeValue::Table(table) => {
            let own = table
                .get("password_env")
                .and_then(|name| name.get_ref().as_str());
            let below = table
                .values()
                .flat_map(|value| password_variables(value.get_ref()));
            own.map(str::to_owned).into_iter().chain(below).collect()
        }
        DeValue::Array(items) => (items.iter())
            .flat_map(|item| password_variables(item.get_ref()))
            .collect(),
        _ => Vec::new(),
    }
}

/// What the configuration does not say about reaching a server, its `defaults_file` may.
fn fill_from_option_files(config: &mut Config, given: impl Fn(&str) -> bool) -> Result<()> {
    let mysql = &mut config.mysql;
    if let Some(path) = &mysql.defaults_file {
        let client = ClientSection::read(path)?;
        if !given("mysql.host") && !given("mysql.socket") {
            mysql.host = client.host;
            mysql.socket = client.socket.unwrap_or(std::mem::take(&mut mysql.socket));
        }
        if let (false, Some(port)) = (given("mysql.port"), client.port) {
            mysql.port = port;
        }
    }
    for (n, peer) in config.peer.iter_mut().enumerate() {
        if let (Some(path), false) = (&peer.defaults_file, given(&format!("peer.{n}.port"))) {
            peer.port = ClientSection::read(path)?.port.unwrap_or(peer.port);
        }
    }
    Ok(())
}

/// A message of the TOML library, said in this file's words and shown in its place.
fn complain(source: &Source, document: &DeTable, error: &toml::de::Error) -> Error {
    let span = error.span().unwrap_or(0..0);
    let path = path_of(document, &span).unwrap_or_default();
    let (key, table) = match path.split_last() {
        None => ("", String::new()),
        Some((key, [])) => (key.as_str(), String::new()),
        Some((key, tables)) => (key.as_str(), format!(" in [{}]", tables.join("."))),
    };
    // serde names what it found and then what it knows, each between backticks; it has no other
    // way to ask.
    let named: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    let mut hint = None;
    let message = error.message().replace("a sequence", "a list in [ ]");
    let what = match (error.message().split(' ').next(), named.as_slice()) {
        (Some("unknown"), [found, known @ ..]) => {
            hint = match (*found, known.contains(&"password_file")) {
                ("password", true) => {
                    Some("it stands in a file of its own: `password_file`".to_owned())
                }
                _ => nearest(found, known).map(|near| format!("did you mean `{near}`?")),
            };
            match error.message().starts_with("unknown field") {
                true => {
                    hint = hint.or_else(|| home_of(found));
                    let table = if table.is_empty() {
                        " at the top"
                    } else {
                        &table
                    };
                    format!("unknown key `{found}`{table}")
                }
                false => {
                    hint = hint.or(Some(format!("known are {}", known.join(", "))));
                    format!("unknown word `{found}` for `{key}`{table}")
                }
            }
        }
        (Some("missing"), [missing]) => format!("`{missing}` is missing in [{}]", path.join(".")),
        _ if is_secret(key) => format!("`{key}`{table}: not what belongs here"),
        _ => format!("`{key}`{table}: {message}"),
    };
    Error::new(Kind::Config, source.complain(span, &what, hint.as_deref()))
}

fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &&str| (strsim::jaro_winkler(found, known) * 1000.0) as u32;
    let best = known.iter().copied().max_by_key(likeness)?;
    (likeness(&best) > 700).then_some(best)
}

/// Where a key that stands in the wrong table belongs.
fn home_of(key: &str) -> Option<String> {
    let known = serde_json::to_value(Config::default()).ok()?;
    if known.get(key).is_some() {
        return Some("belongs above the first [table]".to_owned());
    }
    let (table, _) = (known.as_object()?.iter()).find(|(_, keys)| keys.get(key).is_some())?;
    Some(format!("belongs in [{table}]"))
}

/// The keys that lead to what stands at `span`, whether that is a key or a value.
fn path_of(table: &DeTable, span: &Range<usize>) -> Option<Vec<String>> {
    for (key, value) in table {
        let mut path = vec![key.get_ref().to_string()];
        if key.span() == *span || value.span() == *span {
            return Some(path);
        }
        let below = match value.get_ref() {
            DeValue::Table(table) => path_of(table, span),
            DeValue::Array(items) => (items.iter()).find_map(|item| match item.get_ref() {
                _ if item.span() == *span => Some(Vec::new()),
                DeValue::Table(table) => path_of(table, span),
                _ => None,
            }),
            _ => None,
        };
        if let Some(below) = below {
            path.extend(below);
            return Some(path);
        }
    }
    None
}

/// Where the value of a dotted key stands, if it is given; `peer.0.host` is the first peer's.
fn find(value: &DeValue, key: &str) -> Option<Range<usize>> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let below = match value {
        DeValue::Table(table) => table.get(first)?,
        DeValue::Array(items) => items.get(first.parse::<usize>().ok()?)?,
        _ => return None,
    };
    match rest {
        "" => Some(below.span()),
        rest => find(below.get_ref(), rest),
    }
}
