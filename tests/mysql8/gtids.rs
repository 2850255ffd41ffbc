//! Sets of transactions, as MySQL writes them.

use std::collections::BTreeSet;

/// GTID_SUBTRACT.
pub fn subtract(set: &str, other: &str) -> String {
    let (set, other) = (transactions(set), transactions(other));
    let mut left = String::new();
    for (uuid, number) in set.difference(&other) {
        let before = (uuid.clone(), number - 1);
        let after = (uuid.clone(), number + 1);
        let rest = |place: &(String, u64)| set.contains(place) && !other.contains(place);
        match (rest(&before), rest(&after)) {
            (false, more) => {
                let comma = if left.is_empty() { "" } else { "," };
                left += &format!("{comma}{uuid}:{number}{}", if more { "-" } else { "" });
            }
            (true, true) => {}
            (true, false) => left += &number.to_string(),
        }
    }
    left
}

fn transactions(set: &str) -> BTreeSet<(String, u64)> {
    let mut all = BTreeSet::new();
    for part in set.split(',').filter(|part| !part.is_empty()) {
        let (uuid, range) = part.trim().split_once(':').expect("uuid:numbers");
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u64>().expect("a number");
        all.extend((number(first)..=number(last)).map(|n| (uuid.to_owned(), n)));
    }
    all
}
