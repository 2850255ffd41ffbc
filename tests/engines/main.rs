//! The same promotions, demotions, rejoins and logins on every engine: MySQL 5.6, 5.7 and 9.7, MariaDB
//! 10.5, 10.11 and 11.8. `make test` takes three of them, `make test-engines` all six and writes
//! docs/engines.md.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test measures time itself, may sleep, and ends where something breaks"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod engine;
mod findings;
mod server;
mod site;

mod channels;
mod close;
mod drain;
mod events;
mod login;
mod lossless;
mod mha;
mod rejoin;
mod semisync;
mod stuck;
mod torn;

/// Each case as a test of one engine, with one way of replication. A case gives what was found.
macro_rules! cases {
    ($engine:ident, $by:ident, $attribute:tt: $($file:ident: $($case:ident)*;)*) => {$($(
        #[test]
        # $attribute
        fn $case() {
            use crate::{engine::Engine, lab::Replication, site};
            site::run(Engine::$engine, Replication::$by, stringify!($case), crate::$file::$case);
        }
    )*)*};
}

macro_rules! engine {
    ($module:ident, $engine:ident, $attribute:tt) => {
        mod $module {
            mod by_gtid {
                cases! { $engine, Gtid, $attribute:
                    drain:
                        nothing_is_left_to_apply
                        a_thousand_events_are_left_by_a_dead_source
                        a_thousand_events_are_held_back_from_four_workers
                        what_is_held_back_is_read_before_it_is_applied
                        two_hundred_thousand_events_are_held_back
                        an_applier_that_stopped_with_an_error_is_refused;
                    torn:
                        the_source_died_in_the_middle_of_a_transaction
                        what_is_whole_before_the_torn_transaction_is_applied;
                    stuck:
                        a_worker_that_is_stuck_is_waited_for
                        a_worker_that_stays_stuck_is_given_up_when_forced
                        the_cable_of_the_source_is_cut;
                    channels:
                        both_channels_are_drained
                        an_error_in_one_of_two_channels_is_refused;
                    close:
                        the_source_is_locked_by_lock_tables
                        a_server_that_starts_is_closed
                        under_load_no_acknowledged_row_is_lost;
                    lossless:
                        what_a_dead_source_was_seen_to_have_more_is_told
                        what_a_source_that_answers_has_more_is_told;
                    semisync:
                        semi_sync_goes_with_the_role
                        a_commit_that_waits_for_a_replica_does_not_hold_up_closing;
                    events:
                        events_run_where_the_primary_is;
                    rejoin:
                        an_old_primary_that_was_closed_rejoins
                        an_old_primary_that_was_killed_rejoins
                        an_old_primary_rejoins_where_nothing_happens
                        what_only_an_old_primary_has_is_named_and_refused
                        what_was_not_replicated_before_a_crash_is_named_and_refused
                        replication_is_encrypted_and_the_source_verified
                        without_tls_the_sources_key_hides_the_password;
                    login:
                        tls_is_spoken_where_the_server_can
                        every_login_plugin_that_is_spoken_lets_in
                        a_login_plugin_that_is_not_spoken_is_an_error_in_one_line;
                    mha:
                        an_online_change_of_mha_is_undone_and_done;
                }
            }
            mod by_position {
                cases! { $engine, FileAndPosition, $attribute:
                    drain:
                        nothing_is_left_to_apply
                        a_thousand_events_are_left_by_a_dead_source
                        a_thousand_events_are_held_back_from_four_workers
                        what_is_held_back_is_read_before_it_is_applied
                        an_applier_that_stopped_with_an_error_is_refused;
                    torn:
                        the_source_died_in_the_middle_of_a_transaction
                        what_is_whole_before_the_torn_transaction_is_applied;
                    stuck:
                        a_worker_that_is_stuck_is_waited_for
                        a_worker_that_stays_stuck_is_given_up_when_forced;
                    channels:
                        both_channels_are_drained;
                    close:
                        under_load_no_acknowledged_row_is_lost;
                    lossless:
                        what_a_dead_source_was_seen_to_have_more_is_told
                        what_a_source_that_answers_has_more_is_told;
                    rejoin:
                        an_old_primary_that_was_closed_rejoins
                        a_replica_that_was_stopped_goes_on;
                    mha:
                        an_online_change_of_mha_is_undone_and_done;
                }
            }
        }
    };
}

engine!(mariadb_10_11, MariaDb1011, [cfg(all())]);
engine!(mysql_5_7, MySql57, [cfg(all())]);
engine!(mysql_9_7, MySql97, [cfg(all())]);
engine!(mysql_5_6, MySql56, [ignore = "make test-engines"]);
engine!(mariadb_10_5, MariaDb105, [ignore = "make test-engines"]);
engine!(mariadb_11_8, MariaDb118, [ignore = "make test-engines"]);
