//! Whose data is newer? Two servers of which neither replicates from the other are told apart by
//! what each has of the other's transactions.

use std::collections::BTreeMap;

use super::gtid::GtidSet;

/// Which transactions a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// MariaDB: the last one of each origin.
    Last(Last),
    /// MySQL with `gtid_mode = ON`: all of them.
    Sets {
        /// Its own `server_uuid`.
        uuid: String,
        /// `gtid_executed`.
        executed: GtidSet,
    },
}

/// The last transaction of each origin that a MariaDB server has, by domain and origin.
///
/// In a domain a server numbers its own transactions on from the last one it received (MariaDB
/// Knowledge Base, "Global Transaction ID").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Last(BTreeMap<(u32, u32), u64>);

impl History {
    /// Reads what MariaDB's `gtid_binlog_state` and `gtid_slave_pos` say: `0-1-1000,0-2-1704`.
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
        History::Last(Last(last))
    }

    /// Reads what MySQL's `server_uuid` and `gtid_executed` say; `None` when that is no set.
    pub fn of_sets(uuid: &str, executed: &str) -> Option<History> {
        Some(History::Sets {
            uuid: uuid.to_owned(),
            executed: GtidSet::parse(executed)?,
        })
    }

    /// What `other` has and this lacks, in words; `None` when it lacks nothing.
    pub fn lacks(&self, other: &History) -> Option<String> {
        match (self, other) {
            (History::Last(own), History::Last(other)) => own.lacks(other),
            (History::Sets { executed: own, .. }, History::Sets { executed, .. }) => {
                let missing = executed.without(own);
                (!missing.is_empty()).then(|| missing.to_string())
            }
            _ => Some("transactions of another flavour".to_owned()),
        }
    }

    /// Whether everything that `other` has is here.
    pub fn covers(&self, other: &History) -> bool {
        self.lacks(other).is_none()
    }

    /// Whether the numbers of two servers tell which wrote later. MySQL numbers the transactions
    /// of each server apart, so that a stray write on a replica looks like those of a successor.
    pub fn tells_order(&self) -> bool {
        matches!(self, History::Last(_))
    }

    /// What is here and not in `other`, as `0-1-1001..0-1-1005`. The first number may be lower than
    /// that of the first such transaction, since only the last of each origin is known.
    ///
    /// A server that was built from a copy knows only the origins of what came later. So what is
    /// numbered before a transaction that both have is taken to be in both; but not what `stray`
    /// wrote, for which numbers are no order: without gtid_strict_mode a replica that was written
    /// to goes on receiving.
    pub fn beyond(&self, other: &History, stray: Option<u32>) -> Vec<String> {
        match (self, other) {
            (History::Last(own), History::Last(other)) => own.beyond(other, stray),
            _ => other.lacks(self).into_iter().collect(),
        }
    }

    /// The last transaction that `origin` wrote and `other` lacks although it is at a higher number
    /// in that domain: who goes on from there is not sent it. MySQL sends what is lacking.
    pub fn passed_by(&self, other: &History, origin: u32) -> Option<String> {
        match (self, other) {
            (History::Last(own), History::Last(other)) => own.passed_by(other, origin),
            _ => None,
        }
    }

    /// The last transaction that `origin` wrote in domain 0.
    #[cfg(test)]
    pub fn newest(&self, origin: u32) -> String {
        match self {
            History::Last(own) if own.last(0, origin) > 0 => {
                format!("0-{origin}-{}", own.last(0, origin))
            }
            _ => String::new(),
        }
    }

    /// The last transaction of `peer` that `own` lacks, if `peer` took over after `own`: it wrote
    /// after it had received from `own`, and `own` received nothing of that.
    pub fn taken_over(own: (&History, u32), peer: (&History, u32)) -> Option<String> {
        match (own, peer) {
            ((History::Last(own), own_id), (History::Last(peer), peer_id)) => {
                Last::taken_over((own, own_id), (peer, peer_id))
            }
            (
                (
                    History::Sets {
                        uuid: own_uuid,
                        executed: own,
                    },
                    _,
                ),
                (History::Sets { uuid, executed }, _),
            ) => set_taken_over((own, own_uuid), (executed, uuid)),
            _ => None,
        }
    }

    /// What `own` lacks of `peer`, when `peer` lacks some of `own` too and no numbers tell which of
    /// them wrote later.
    pub fn diverged(own: &History, peer: &History) -> Option<String> {
        let both = !own.covers(peer) && !peer.covers(own) && !own.tells_order();
        own.lacks(peer).filter(|_| both)
    }
}

impl Default for History {
    fn default() -> History {
        History::Last(Last::default())
    }
}

/// `peer` has all that `own` has, some of which `own` wrote itself, and writes of its own that
/// `own` lacks. When both have what the other lacks, sets do not tell which of them wrote later.
fn set_taken_over(own: (&GtidSet, &str), peer: (&GtidSet, &str)) -> Option<String> {
    let ((own, own_uuid), (peer, peer_uuid)) = (own, peer);
    let written = peer.of(peer_uuid).without(own);
    let newer = own_uuid != peer_uuid
        && own.without(peer).is_empty()
        && !peer.of(own_uuid).is_empty()
        && !written.is_empty();
    newer.then(|| written.to_string())
}

impl Last {
    fn last(&self, domain: u32, origin: u32) -> u64 {
        self.0.get(&(domain, origin)).copied().unwrap_or(0)
    }

    fn lacks(&self, other: &Last) -> Option<String> {
        let last = other.0.iter().map(|((d, o), number)| (*d, *o, *number));
        let words: Vec<String> = last
            .filter(|&(domain, origin, number)| self.last(domain, origin) < number)
            .map(|(domain, origin, number)| format!("{domain}-{origin}-{number}"))
            .collect();
        (!words.is_empty()).then(|| words.join(","))
    }

    fn beyond(&self, other: &Last, stray: Option<u32>) -> Vec<String> {
        let lacks = |(&(domain, origin), &number): (&(u32, u32), &u64)| {
            let known = other.last(domain, origin);
            let in_order = stray != Some(origin) && number <= self.shared(other, domain);
            (known < number && !in_order).then(|| {
                let first = known + 1;
                format!("{domain}-{origin}-{first}..{domain}-{origin}-{number}")
            })
        };
        self.0.iter().filter_map(lacks).collect()
    }

    /// The highest number in `domain` that both have by the same origin.
    fn shared(&self, other: &Last, domain: u32) -> u64 {
        let in_domain = self.0.iter().filter(|((d, _), _)| *d == domain);
        let both = in_domain.map(|(&(_, origin), &n)| n.min(other.last(domain, origin)));
        both.max().unwrap_or(0)
    }

    fn passed_by(&self, other: &Last, origin: u32) -> Option<String> {
        let reached = |domain| other.0.iter().filter(move |((d, _), _)| *d == domain);
        let written = self.0.iter().filter(|((_, o), _)| *o == origin);
        let mut passed = written.filter(|&(&(domain, _), &number)| {
            number > other.last(domain, origin) && reached(domain).any(|(_, n)| *n >= number)
        });
        let (&(domain, _), number) = passed.next()?;
        Some(format!("{domain}-{origin}-{number}"))
    }

    /// When both wrote without the other, the later one is the one whose last known transaction
    /// of the other is the higher: it began to write when it had received that, while the other
    /// never received any of its writes.
    fn taken_over(own: (&Last, u32), peer: (&Last, u32)) -> Option<String> {
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
    fn what_is_beyond_another_history_is_named_by_domain_and_range() {
        let read = |text| History::read([text, ""]);
        let own = read("0-1-1005,0-2-7,3-1-9");
        let theirs = read("0-1-1000,0-2-1002");
        let expected = ["0-1-1001..0-1-1005", "3-1-1..3-1-9"];
        assert_eq!(own.beyond(&theirs, Some(1)), expected);
        assert_eq!(own.beyond(&theirs, None), expected);
        assert_eq!(own.beyond(&own, Some(1)), [""; 0]);
    }

    #[test]
    fn a_source_built_from_a_copy_need_not_know_who_wrote_what_came_before() {
        let read = |text| History::read([text, ""]);
        let (own, theirs) = (read("0-1-500,0-3-900"), read("0-3-900,0-2-950"));
        assert_eq!(own.beyond(&theirs, None), [""; 0]);
        // It may as well have been written here while 3 was the primary.
        assert_eq!(own.beyond(&theirs, Some(1)), ["0-1-1..0-1-500"]);
    }

    #[test]
    fn what_a_source_wrote_before_this_servers_position_is_not_sent() {
        let read = |text| History::read([text, ""]);
        let own = read("0-1-1000");
        let passed = |theirs| read(theirs).passed_by(&own, 2);
        assert_eq!(passed("0-1-1000,0-2-995").as_deref(), Some("0-2-995"));
        assert_eq!(passed("0-1-1000,0-2-1001,5-2-3"), None);
    }

    #[test]
    fn a_replica_and_a_stranger_have_taken_over_nothing() {
        assert_eq!(later("0-1-1000", "0-1-1000"), None);
        assert_eq!(later("0-1-1000", "0-1-990"), None);
        assert_eq!(later("0-1-1000", "0-2-7"), None);
        assert_eq!(later("", ""), None);
    }

    fn later_by_sets(own: &str, peer: &str) -> Option<String> {
        let own = History::of_sets("a", own).unwrap();
        let peer = History::of_sets("b", peer).unwrap();
        History::taken_over((&own, 1), (&peer, 2))
    }

    #[test]
    fn by_sets_a_successor_has_all_of_the_replaced_one_and_writes_of_its_own() {
        assert_eq!(
            later_by_sets("a:1-1000", "a:1-1000,b:1-704").as_deref(),
            Some("b:1-704")
        );
        // They had changed places before.
        assert_eq!(
            later_by_sets("a:1-1000,b:1-50", "a:1-1000,b:1-60").as_deref(),
            Some("b:51-60")
        );
        // The successor itself was not taken over.
        assert_eq!(later_by_sets("a:1-704,b:1-1000", "b:1-1000"), None);
    }

    #[test]
    fn sets_do_not_tell_who_wrote_later_when_each_has_what_the_other_lacks() {
        assert_eq!(later_by_sets("a:1-1005", "a:1-1000,b:1-2"), None);
        assert_eq!(later_by_sets("a:1-1000,b:1-2", "a:1-1005"), None);
        let set = |text| History::of_sets("a", text).unwrap();
        let (old, new) = (set("a:1-1005"), set("a:1-1000,b:1-2"));
        assert_eq!(History::diverged(&old, &new).as_deref(), Some("b:1-2"));
        assert_eq!(History::diverged(&old, &set("a:1-1000")), None);
    }

    #[test]
    fn by_sets_a_replica_and_a_stranger_have_taken_over_nothing() {
        assert_eq!(later_by_sets("a:1-1000", "a:1-1000"), None);
        assert_eq!(later_by_sets("a:1-1000", "a:1-990"), None);
        assert_eq!(later_by_sets("", "b:1-7"), None);
        assert_eq!(later_by_sets("a:1-3", "b:1-7"), None);
        // This one was never the primary; the peer is, and it lags.
        assert_eq!(later_by_sets("b:1-900", "b:1-1000"), None);
        assert_eq!(later_by_sets("", ""), None);
        // A third one wrote.
        assert_eq!(later_by_sets("a:1-3", "a:1-3,c:1-7"), None);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let set = |text| History::of_sets("a", text).unwrap();
        assert_eq!(
            set("a:1-5").lacks(&set("a:1-7,b:1")).as_deref(),
            Some("a:6-7,b:1")
        );
        assert!(set("a:1-7").covers(&set("a:1-5")));
        let read = |text| History::read([text, ""]);
        assert_eq!(
            read("0-1-5").lacks(&read("0-1-7")).as_deref(),
            Some("0-1-7")
        );
        assert!(!read("0-1-5").covers(&set("")) && !set("").covers(&read("")));
    }
}
