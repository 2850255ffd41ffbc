use super::*;
use crate::db::Position;

fn channel(lag: Option<u64>) -> Channel {
    Channel {
        name: String::new(),
        source: "db1:3306".to_owned(),
        source_id: 1,
        receiver: Receiver::Connected,
        applying: true,
        received: Position::default(),
        applied: Position::default(),
        relay: Position::default(),
        fragile: false,
        retrieved_gtids: String::new(),
        lag,
        applier_error: None,
        receiver_error: None,
    }
}

fn member(id: u32, writes: Writes, channels: Vec<Channel>) -> Member {
    Member {
        names: vec![format!("db{id}")],
        here: false,
        seen: Ok(Seen {
            id,
            uuid: None,
            version: "8.0.36".to_owned(),
            writes,
            channels,
            mha_at_work: false,
        }),
    }
}

fn replica(id: u32, lag: Option<u64>) -> Member {
    member(id, Writes::Closed, vec![channel(lag)])
}

fn silent(id: u32) -> Member {
    Member {
        seen: Err(Error::new(Kind::Unreachable, "connect")),
        ..replica(id, None)
    }
}

fn cluster() -> Vec<Member> {
    let primary = member(1, Writes::Open, vec![]);
    // As the host of db3 sees them: its own server first.
    vec![replica(3, Some(0)), primary, replica(2, Some(0))]
}

fn role(on: &On) -> RoleVips<'_> {
    RoleVips {
        name: "reader",
        vips: vec!["10.0.0.101/24 dev eth0".parse().unwrap()],
        on,
        or_primary: false,
        max_lag: Duration::from_secs(30),
    }
}

fn hosts(names: &[&str]) -> On {
    On::Hosts(names.iter().map(|name| name.to_string()).collect())
}

#[test]
fn the_primary_is_the_only_server_that_takes_writes() {
    let mut members = cluster();
    assert_eq!(
        belongs(&role(&On::Primary), &members, None).unwrap(),
        Belongs::On(1)
    );
    members[1] = silent(1);
    let nowhere = belongs(&role(&On::Primary), &members, Some(1)).unwrap();
    assert_eq!(
        nowhere,
        Belongs::Nowhere("no server is known to take writes".to_owned())
    );
    members[1] = member(1, Writes::Open, vec![]);
    members[2] = member(2, Writes::Open, vec![]);
    let nowhere = belongs(&role(&On::Primary), &members, Some(1)).unwrap();
    assert_eq!(
        nowhere,
        Belongs::Nowhere("db1 and db2 both take writes".to_owned())
    );
}

#[test]
fn a_fit_replica_keeps_what_it_has_and_else_the_lowest_server_id_gets_it() {
    let role = role(&On::Replica);
    let mut members = cluster();
    let on = |members: &[Member], holder| belongs(&role, members, holder).unwrap();
    assert_eq!(on(&members, None), Belongs::On(2));
    assert_eq!(on(&members, Some(0)), Belongs::On(0));
    assert_eq!(
        on(&members, Some(1)),
        Belongs::On(2),
        "the primary hands it over"
    );
    // The holder lags, dies, or stops applying.
    for unfit in [replica(3, Some(31)), replica(3, None), silent(3)] {
        members[0] = unfit;
        assert_eq!(on(&members, Some(0)), Belongs::On(2));
    }
    members[0] = replica(3, Some(30));
    assert_eq!(on(&members, Some(0)), Belongs::On(0));
    members[2] = member(2, Writes::Closed, vec![]);
    assert_eq!(
        on(&members, None),
        Belongs::On(0),
        "a server that replicates nothing"
    );
}

#[test]
fn with_no_fit_replica_it_stays_or_goes_to_the_primary_if_that_may_have_it() {
    let on = On::Replica;
    let mut role = role(&on);
    let members = vec![
        silent(3),
        member(1, Writes::Open, vec![]),
        replica(2, Some(99)),
    ];
    let why = "no replica is fit: db1: a primary, db2: 99 s behind, db3: does not answer";
    let nowhere = belongs(&role, &members, None).unwrap();
    assert_eq!(nowhere, Belongs::Nowhere(why.to_owned()));
    let stays = belongs(&role, &members, Some(2)).unwrap();
    assert!(
        matches!(stays, Belongs::Stay(_)),
        "stale reads are better than none"
    );
    role.or_primary = true;
    assert_eq!(belongs(&role, &members, Some(2)).unwrap(), Belongs::On(1));
}

#[test]
fn a_list_is_an_order_whoever_has_it_now() {
    let on = hosts(&["db3", "db2"]);
    let role = role(&on);
    let mut members = cluster();
    assert_eq!(belongs(&role, &members, Some(2)).unwrap(), Belongs::On(0));
    members[0] = silent(3);
    assert_eq!(belongs(&role, &members, Some(0)).unwrap(), Belongs::On(2));
    let error = belongs(&self::role(&hosts(&["db9"])), &members, None).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(
        error.chain(),
        "role reader: db9 is neither in [[peer]] nor this host"
    );
}

#[test]
fn all_hosts_come_to_the_same_whatever_order_they_ask_in() {
    let on = On::Replica;
    let mut others = cluster();
    others.rotate_left(1);
    let chosen = |members: &[Member]| match belongs(&role(&on), members, None).unwrap() {
        Belongs::On(n) => members[n].name().to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(chosen(&cluster()), chosen(&others));
}

#[test]
fn a_replica_whose_source_is_gone_serves_on_where_lag_does_not_matter() {
    let on = On::Replica;
    let mut role = role(&on);
    role.max_lag = Duration::ZERO;
    let mut connecting = channel(None);
    connecting.receiver = Receiver::Connecting;
    let members = vec![member(2, Writes::Closed, vec![connecting])];
    assert_eq!(belongs(&role, &members, None).unwrap(), Belongs::On(0));
    role.max_lag = Duration::from_secs(30);
    assert!(matches!(
        belongs(&role, &members, None).unwrap(),
        Belongs::Nowhere(_)
    ));
}
