//! Whose data is newer? Two servers of which neither replicates from the other are told apart by
//! what each has of the other's transactions.

use std::collections::BTreeMap;

/// The last transaction of each origin that a MariaDB server has, by domain and origin.
///
/// In a domain a server numbers its own transactions on from the last one it received (MariaDB
/// Knowledge Base, "Global Transaction ID").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(BTreeMap<(u32, u32), u64>);

impl History {
    /// Reads what `gtid_binlog_state` and `gtid_slave_pos` say: `0-1-1000,0-2-1704`.
    pub fn read(texts: [&str; 2]) -> History {
        let mut last = BTreeMap::new();
        for gtid in texts.into_iter().flat_map(|text| text.split(',')) {
            let mut numbers = gtid.trim().split('-').map(str::parse::<u64>);
            let mut next = || numbers.next().and_then(Result::ok);
            if let (Some(domain), Some(origin), Some(number)) = (next(), next(), next()) {
                let known = last.entry((domain as u32, origin as u32)).or_insert(0);
                *known = number.max(*known);
            }
        }
        History(last)
    }

    fn last(&self, domain: u32, origin: u32) -> u64 {
        self.0.get(&(domain, origin)).copied().unwrap_or(0)
    }

    /// Whether everything that `other` has is here.
    pub fn covers(&self, other: &History) -> bool {
        let has = |(&(domain, origin), &number)| self.last(domain, origin) >= number;
        other.0.iter().all(has)
    }

    /// The last transaction of `peer` that `own` lacks, if `peer` took over after `own`: it wrote
    /// after it had received from `own`, and `own` received nothing of that.
    ///
    /// When both wrote without the other, the later one is the one whose last known transaction
    /// of the other is the higher: it began to write when it had received that, while the other
    /// never received any of its writes.
    pub fn taken_over(own: (&History, u32), peer: (&History, u32)) -> Option<String> {
        let ((own, own_id), (peer, peer_id)) = (own, peer);
        let mut domains = peer.0.keys().map(|(domain, _)| *domain);
        domains.find_map(|domain| {
            let written = peer.last(domain, peer_id);
            let received = peer.last(domain, own_id);
            let returned = own.last(domain, peer_id);
            let newer = written > returned && written > received && received > returned;
            newer.then(|| format!("{domain}-{peer_id}-{written}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(own: &str, peer: &str) -> Option<String> {
        let (own, peer) = (History::read([own, ""]), History::read([peer, ""]));
        History::taken_over((&own, 1), (&peer, 2))
    }

    #[test]
    fn a_successor_has_what_the_replaced_one_wrote_and_more() {
        assert_eq!(
            later("0-1-1000", "0-1-1000,0-2-1704").as_deref(),
            Some("0-2-1704")
        );
        // The replaced one had written what nobody received; that does not make it the newer.
        assert_eq!(
            later("0-1-1005", "0-1-1000,0-2-1002").as_deref(),
            Some("0-2-1002")
        );
    }

    #[test]
    fn the_successor_itself_is_not_taken_over_by_the_one_it_replaced() {
        assert_eq!(later("0-2-1000,0-1-1704", "0-2-1000"), None);
        assert_eq!(later("0-2-1000,0-1-1002", "0-2-1005"), None);
    }

    #[test]
    fn it_holds_after_they_have_changed_places_more_than_once() {
        // 2 had taken over at 500 and given back at 800; then again at 1000.
        assert_eq!(
            later("0-2-800,0-1-1005", "0-1-1000,0-2-1002").as_deref(),
            Some("0-2-1002")
        );
        // 2 has been a replica again since 800.
        assert_eq!(later("0-2-800,0-1-1005", "0-2-800,0-1-1005"), None);
    }

    #[test]
    fn one_history_covers_another_when_it_lacks_nothing_of_it() {
        let read = |text| History::read([text, ""]);
        assert!(read("0-1-1000,0-2-7").covers(&read("0-1-1000")));
        assert!(!read("0-1-1000").covers(&read("0-1-1001")));
        assert!(!read("0-1-1000").covers(&read("0-1-1000,0-2-7")));
    }

    #[test]
    fn a_replica_and_a_stranger_have_taken_over_nothing() {
        assert_eq!(later("0-1-1000", "0-1-1000"), None);
        assert_eq!(later("0-1-1000", "0-1-990"), None);
        assert_eq!(later("0-1-1000", "0-2-7"), None);
        assert_eq!(later("", ""), None);
    }
}
