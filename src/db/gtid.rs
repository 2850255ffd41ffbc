//! MySQL's GTID sets: `uuid:1-100:105,uuid:tag:1-3`.

use std::collections::BTreeMap;
use std::fmt;

/// The transactions of each origin, as ranges that neither touch nor overlap, in order.
///
/// An origin is a `server_uuid`, from MySQL 8.3 on perhaps with a tag: `uuid:tag`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet(BTreeMap<String, Vec<(u64, u64)>>);

impl GtidSet {
    /// Reads what the server writes; `None` for what is no GTID set, since what was not understood
    /// might be a transaction that counts.
    pub fn parse(text: &str) -> Option<GtidSet> {
        let mut set = GtidSet::default();
        for of_one in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
            let mut words = of_one.split(':').map(str::trim);
            let uuid = words.next()?.to_lowercase();
            let mut origin = uuid.clone();
            for word in words {
                if word.starts_with(|c: char| c.is_ascii_digit()) {
                    let (first, last) = word.split_once('-').unwrap_or((word, word));
                    let range = (first.parse().ok()?, last.parse().ok()?);
                    set.0.entry(origin.clone()).or_default().push(range);
                } else {
                    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    word.chars().all(fits).then_some(())?;
                    origin = format!("{uuid}:{}", word.to_lowercase());
                }
            }
        }
        set.0.values_mut().for_each(join);
        Some(set)
    }

    /// Whether there is no transaction in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of this set that `other` lacks.
    pub fn without(&self, other: &GtidSet) -> GtidSet {
        let mut rest = BTreeMap::new();
        for (origin, ranges) in &self.0 {
            let taken = other.0.get(origin).map_or(&[][..], Vec::as_slice);
            let left: Vec<_> = ranges.iter().flat_map(|r| cut(*r, taken)).collect();
            if !left.is_empty() {
                rest.insert(origin.clone(), left);
            }
        }
        GtidSet(rest)
    }

    /// Those that the server called `uuid` wrote itself.
    pub fn of(&self, uuid: &str) -> GtidSet {
        let uuid = uuid.to_lowercase();
        let is_its = |origin: &str| origin.split(':').next() == Some(&uuid);
        let its = self.0.iter().filter(|(origin, _)| is_its(origin));
        GtidSet(its.map(|(o, r)| (o.clone(), r.clone())).collect())
    }
}

/// Sorts ranges and joins those that touch.
fn join(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (first, last) in ranges.drain(..) {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    *ranges = joined;
}

/// What is left of one range.
fn cut((mut first, last): (u64, u64), taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    for &(from, to) in taken {
        if from > last || to < first {
            continue;
        }
        if from > first {
            left.push((first, from - 1));
        }
        first = to.saturating_add(1);
    }
    if first <= last {
        left.push((first, last));
    }
    left
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (origin, ranges)) in self.0.iter().enumerate() {
            f.write_str(if n > 0 { "," } else { "" })?;
            f.write_str(origin)?;
            for (first, last) in ranges {
                match first == last {
                    true => write!(f, ":{first}")?,
                    false => write!(f, ":{first}-{last}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(text).unwrap()
    }

    #[test]
    fn a_set_is_written_as_it_was_read() {
        for text in ["", "a:1", "a:1-5:7", "a:1-5,b:2-3", "a:1,a:tag:1-3"] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(
            set("A:3-5:1-2 ,\n B:7:tag:1").to_string(),
            "a:1-5,b:7,b:tag:1"
        );
        for text in ["a:x-1-", "a:1-", "a:1-x"] {
            assert_eq!(GtidSet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_other_lacks_is_left() {
        let rest = |a, b| set(a).without(&set(b)).to_string();
        assert_eq!(rest("a:1-10", "a:1-10"), "");
        assert_eq!(rest("a:1-10", "a:1-8"), "a:9-10");
        assert_eq!(rest("a:1-10", "a:3-4:7"), "a:1-2:5-6:8-10");
        assert_eq!(rest("a:1-10", "a:5-20"), "a:1-4");
        assert_eq!(rest("a:1-10,b:1", "a:1-10"), "b:1");
        assert_eq!(rest("a:1-2", "a:tag:1-2"), "a:1-2");
        assert_eq!(rest("", "a:1"), "");
    }

    #[test]
    fn a_server_wrote_what_bears_its_uuid_with_or_without_a_tag() {
        let all = set("a:1-5,a:tag:1,b:7");
        assert_eq!(all.of("A").to_string(), "a:1-5,a:tag:1");
        assert!(all.of("c").is_empty());
    }
}
