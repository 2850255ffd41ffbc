//! Is the primary on this host still the primary? MHA watches no address and never comes back to a
//! primary that it has replaced, so one that was cut off returns writable, with its address.
//!
//! The rule, for a host whose server takes writes or that has a virtual address:
//!
//! - It is **alone** when no witness and no peer answers. After `[guard] grace` of that it gives up.
//! - A peer is a **rival** when it takes writes as well and neither receives from the other. Two
//!   things say whose the right is: whom the other servers replicate from, and whose transactions
//!   continue the other's. If they agree, or one of them says nothing, that decides; newer data
//!   alone does not while this host is the only one that has the address, since a stray write on
//!   a stopped replica looks the same. If both say nothing, the one that was cut off gives up, or
//!   the one without the address after `grace`. If nothing decides, nothing is closed, loudly.
//!
//! Every question has the opposite answer on the other host, so that never both give up.

use serde::{Deserialize, Serialize};

pub mod server;
mod watch;

pub use watch::Watch;

/// For whom something speaks, of this server and a rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// For this server.
    ForOwn,
    /// For the rival.
    ForRival,
    /// For neither, or for both.
    ForNeither,
}

/// Who has the virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// This host, and no other answers for them.
    Here,
    /// This host, and another answers for one of them as well.
    Disputed,
    /// Another host, and through them a server answers that takes writes.
    There,
    /// There is none, or nobody has it, or it cannot be asked.
    Unknown,
}

/// A peer that takes writes although it does not belong to this server's replication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// What to call it.
    pub name: String,
    /// What the other servers say, by replicating from one of the two.
    pub replicas: Speaks,
    /// What the transactions say.
    pub data: Speaks,
}

/// What one look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Whether the server on this host answers.
    pub answers: bool,
    /// Whether a witness or a peer answers.
    pub company: bool,
    /// Whether a peer is alive and does not let us in.
    pub blind: bool,
    /// Whether this host was alone for `[guard] grace` or longer: see [`Watch`].
    pub cut_off: bool,
    /// Who has the virtual addresses.
    pub address: Address,
    /// The peers that take writes and should not, or should in this server's place.
    pub rivals: Vec<Rival>,
}

/// What a look comes to; the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is wrong.
    Fine,
    /// Nobody is asked while maintenance is on.
    Maintenance,
    /// A peer does not let us in, so nobody can tell whether it takes writes.
    Blind,
    /// A peer takes writes and has no right to; its own guard is to close it.
    Intruder,
    /// Two servers take writes, and nothing tells whose the right is.
    Undecided,
    /// Another server takes writes behind the address; a failover may be between two of its steps.
    Elsewhere,
    /// Nobody answers.
    Alone,
    /// Another server is the primary by the newer right.
    Replaced,
}

impl Verdict {
    /// Whether this host gives up, at once or when it lasts.
    pub fn calls_for_giving_up(self) -> bool {
        matches!(
            self,
            Verdict::Elsewhere | Verdict::Alone | Verdict::Replaced
        )
    }

    /// Whether it must last `[guard] grace` before this host gives up.
    pub fn may_pass(self) -> bool {
        matches!(self, Verdict::Elsewhere | Verdict::Alone)
    }
}

/// What `sight` comes to.
pub fn verdict(sight: &Sight) -> Verdict {
    if !sight.company {
        return Verdict::Alone;
    }
    let against = sight.rivals.iter().map(|rival| compare(rival, sight));
    against.max().unwrap_or(match sight.blind {
        true => Verdict::Blind,
        false => Verdict::Fine,
    })
}

fn compare(rival: &Rival, sight: &Sight) -> Verdict {
    use Speaks::{ForNeither, ForOwn, ForRival};
    match (rival.replicas, rival.data) {
        (ForRival, ForOwn) | (ForOwn, ForRival) => Verdict::Undecided,
        (ForRival, _) => Verdict::Replaced,
        (ForOwn, _) | (_, ForOwn) => Verdict::Intruder,
        (ForNeither, ForRival) if sight.address == Address::Here => Verdict::Undecided,
        (ForNeither, ForRival) => Verdict::Replaced,
        (ForNeither, ForNeither) => match sight.address {
            Address::Here => Verdict::Undecided,
            _ if sight.cut_off => Verdict::Replaced,
            Address::Disputed if !sight.answers => Verdict::Replaced,
            Address::There => Verdict::Elsewhere,
            Address::Disputed | Address::Unknown => Verdict::Undecided,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::Speaks::{ForNeither, ForOwn, ForRival};
    use super::*;

    const QUIET: Sight = Sight {
        answers: true,
        company: true,
        blind: false,
        cut_off: false,
        address: Address::Here,
        rivals: Vec::new(),
    };

    fn rival(replicas: Speaks, data: Speaks) -> Vec<Rival> {
        let name = "db2".to_owned();
        vec![Rival {
            name,
            replicas,
            data,
        }]
    }

    #[test]
    fn without_a_rival_only_silence_matters() {
        let cases = [
            (QUIET, Verdict::Fine),
            (
                Sight {
                    cut_off: true,
                    ..QUIET
                },
                Verdict::Fine,
            ),
            (
                Sight {
                    answers: false,
                    address: Address::Disputed,
                    ..QUIET
                },
                Verdict::Fine,
            ),
            (
                Sight {
                    blind: true,
                    ..QUIET
                },
                Verdict::Blind,
            ),
            (
                Sight {
                    company: false,
                    ..QUIET
                },
                Verdict::Alone,
            ),
        ];
        for (sight, expected) in cases {
            assert_eq!(verdict(&sight), expected, "{sight:?}");
        }
    }

    #[test]
    fn whose_the_right_is_with_a_rival() {
        use Address::{Disputed, Here, There, Unknown};
        let all = [Here, Disputed, There, Unknown];
        let cases = [
            // The other servers follow the rival, wherever the address is.
            (ForRival, ForRival, &all[..], Verdict::Replaced),
            (ForRival, ForNeither, &all, Verdict::Replaced),
            // They follow this server.
            (ForOwn, ForOwn, &all, Verdict::Intruder),
            (ForOwn, ForNeither, &all, Verdict::Intruder),
            // Nobody follows either, but one continues the other's transactions.
            (ForNeither, ForRival, &all[1..], Verdict::Replaced),
            (ForNeither, ForOwn, &all, Verdict::Intruder),
            // A stray write on a stopped replica looks like that.
            (ForNeither, ForRival, &[Here], Verdict::Undecided),
            // What speaks contradicts itself.
            (ForRival, ForOwn, &all, Verdict::Undecided),
            (ForOwn, ForRival, &all, Verdict::Undecided),
            // Nothing speaks: only the address is left.
            (ForNeither, ForNeither, &[There], Verdict::Elsewhere),
            (
                ForNeither,
                ForNeither,
                &[Here, Disputed, Unknown],
                Verdict::Undecided,
            ),
        ];
        for (replicas, data, addresses, expected) in cases {
            for address in addresses.iter().copied() {
                let sight = Sight {
                    address,
                    rivals: rival(replicas, data),
                    ..QUIET
                };
                assert_eq!(verdict(&sight), expected, "{sight:?}");
            }
        }
    }

    #[test]
    fn when_nothing_else_speaks_the_one_that_was_cut_off_or_is_mute_gives_up() {
        let last = |cut_off, answers, address| {
            verdict(&Sight {
                cut_off,
                answers,
                address,
                rivals: rival(ForNeither, ForNeither),
                ..QUIET
            })
        };
        assert_eq!(last(true, true, Address::Disputed), Verdict::Replaced);
        assert_eq!(last(true, true, Address::There), Verdict::Replaced);
        assert_eq!(last(true, true, Address::Unknown), Verdict::Replaced);
        assert_eq!(last(false, false, Address::Disputed), Verdict::Replaced);
        // The only one with the address serves everybody; the other has There, and gives up.
        assert_eq!(last(true, true, Address::Here), Verdict::Undecided);
        assert_eq!(last(false, false, Address::Here), Verdict::Undecided);
    }

    /// Whatever one host sees, the other sees the mirror image of.
    #[test]
    fn never_both_give_up_and_it_is_never_the_one_with_the_right() {
        let mirrored = |speaks| match speaks {
            ForOwn => ForRival,
            ForRival => ForOwn,
            ForNeither => ForNeither,
        };
        let addresses = [
            (Address::Here, Address::There),
            (Address::There, Address::Here),
            (Address::Disputed, Address::Disputed),
            (Address::Unknown, Address::Unknown),
            (Address::Here, Address::Unknown),
        ];
        let all = [ForOwn, ForRival, ForNeither];
        for replicas in all {
            for data in all {
                for (here, there) in addresses {
                    for cut_off in [false, true] {
                        let own = Sight {
                            cut_off,
                            address: here,
                            rivals: rival(replicas, data),
                            ..QUIET
                        };
                        let other = Sight {
                            address: there,
                            rivals: rival(mirrored(replicas), mirrored(data)),
                            ..QUIET
                        };
                        let both = [verdict(&own), verdict(&other)];
                        assert!(
                            !both.iter().all(|v| v.calls_for_giving_up()),
                            "{own:?} {both:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_gravest_of_several_rivals_counts() {
        let mut rivals = rival(ForOwn, ForOwn);
        rivals.extend(rival(ForRival, ForRival));
        rivals.extend(rival(ForNeither, ForNeither));
        assert_eq!(verdict(&Sight { rivals, ..QUIET }), Verdict::Replaced);
    }
}
