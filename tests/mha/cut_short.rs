//! Switches that end in the middle: hooks that are killed at any step, or told to end, and an MHA
//! that gives up between `stop` and `start`. The hooks are called by hand with MHA's words.

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use nix::sys::signal::Signal;

use crate::lab::{Mha, Running, wait_until};
use crate::trial;
use crate::trial::{APP, SHORT, SUPER, Trial, assert_ended};

/// Starts a hook over and over and signals it as it begins its first step, its second, and so on;
/// each time `then` brings the cluster back to where it was. Ends when the hook does all its steps.
fn at_each_step(
    trial: &mut Trial,
    hook: impl Fn(&Mha) -> Running,
    signal: Signal,
    mut then: impl FnMut(&mut Trial, i32, &str),
) {
    for number in 0.. {
        let mut running = hook(trial.mha());
        let step = running.signal_at(number, signal);
        let ended = running.end();
        let Some(step) = step else {
            assert!(number >= 4, "only {number} steps\n{}", trial.story());
            assert_eq!(ended.status, 0, "{}\n{}", ended.said, trial.story());
            then(trial, 0, "not at all");
            println!("{number} steps, each {signal} once");
            return;
        };
        then(trial, ended.status, &step);
    }
}

/// `hookbox undo` makes everything as it was.
fn undo(trial: &Trial, step: &str) {
    let ended = trial.mha().hook("undo", &[]).end();
    let story = || format!("at {step}: {}\n{}", ended.said, trial.story());
    assert_eq!(ended.status, 0, "{}", story());
    assert!(trial.is_alone(1), "{}", story());
    trial.wait_until_served_by(1, Instant::now());
}

#[test]
fn an_online_stop_killed_at_any_step_is_undone() {
    trial!(trial);
    trial.write(APP, SHORT);
    trial.write(SUPER, SHORT);
    let began = Instant::now();
    let stop = |mha: &Mha| mha.online_hook("stop");
    at_each_step(&mut trial, stop, Signal::SIGKILL, |trial, _, step| {
        undo(trial, step)
    });
    trial.end("stop killed, undo", 1, began);
}

#[test]
fn an_online_stop_told_to_end_at_any_step_puts_everything_back_itself() {
    trial!(trial);
    trial.write(APP, SHORT);
    let began = Instant::now();
    let stop = |mha: &Mha| mha.online_hook("stop");
    at_each_step(&mut trial, stop, Signal::SIGTERM, |trial, status, step| {
        if status == 0 {
            undo(trial, step);
        }
        assert!(
            status <= 1 && trial.is_alone(1),
            "at {step}\n{}",
            trial.story()
        );
        trial.wait_until_served_by(1, Instant::now());
    });
    trial.end("stop told to end", 1, began);
}

#[test]
fn an_online_stop_killed_at_any_step_can_be_run_again_and_undone() {
    trial!(trial);
    trial.write(APP, SHORT);
    let began = Instant::now();
    let stop = |mha: &Mha| mha.online_hook("stop");
    at_each_step(&mut trial, stop, Signal::SIGKILL, |trial, _, step| {
        assert_ended(&trial.mha().online_hook("stop").end(), 0, &[]);
        assert!(trial.is_alone(0), "at {step}\n{}", trial.story());
        undo(trial, step);
    });
    trial.end("stop killed, run again, undo", 1, began);
}

#[test]
fn a_failovers_stop_killed_at_any_step_can_be_run_again_and_undone() {
    trial!(trial);
    trial.write(APP, SHORT);
    let began = Instant::now();
    let stop = |mha: &Mha| mha.failover_hook("stopssh");
    at_each_step(&mut trial, stop, Signal::SIGKILL, |trial, _, step| {
        assert_ended(&trial.mha().failover_hook("stopssh").end(), 0, &[]);
        assert!(trial.is_alone(0), "at {step}\n{}", trial.story());
        undo(trial, step);
    });
    trial.end("stopssh killed, run again, undo", 1, began);
}

#[test]
fn an_mha_that_dies_between_stop_and_start_is_undone() {
    trial!(trial);
    trial.write(APP, SHORT);
    let began = Instant::now();
    let mut mha = trial.mha().change_online("10.77.0.12");
    let journal_says = |event: &str| {
        let line = format!("\"event\":\"{event}\"");
        wait_until(event, Duration::from_secs(30), || {
            trial.cluster().journal().contains(&line)
        });
    };
    journal_says("begin");
    // Nothing is applied on db2 any more, which MHA waits for after `stop`.
    let mut hold = trial.db(2).connect().unwrap();
    hold.query_drop("LOCK TABLES lab.t READ").unwrap();
    journal_says("end");
    mha.kill();
    mha.end();
    drop(hold);
    // The server may notice later than we that MHA's session has gone.
    let lock = "SELECT IS_USED_LOCK('MHA_Master_High_Availability_Failover')";
    wait_until("its lock is free", Duration::from_secs(20), || {
        trial.db(2).ask(lock).is_empty()
    });
    assert!(trial.is_alone(0), "killed too late\n{}", trial.story());
    undo(&trial, "MHA killed");
    trial.end("MHA killed, undo", 1, began);
}

/// `stop`, then `start` killed at each step and run again.
fn start_killed(hook: fn(&Mha, &str) -> Running, stop: &str) {
    trial!(trial);
    let began = Instant::now();
    assert_ended(&hook(trial.mha(), stop).end(), 0, &[]);
    let start = |mha: &Mha| hook(mha, "start");
    at_each_step(&mut trial, start, Signal::SIGKILL, |trial, _, step| {
        assert_ended(&hook(trial.mha(), "start").end(), 0, &[]);
        assert!(trial.is_alone(2), "at {step}\n{}", trial.story());
        // Back to where `stop` had left it.
        let (vip, open) = (crate::lab::VIP, "SET GLOBAL read_only = 1");
        trial
            .db(2)
            .host
            .sh(&format!("ip addr del {vip}/24 dev eth0"));
        trial.db(2).sql(open);
    });
    assert_ended(&hook(trial.mha(), "start").end(), 0, &[]);
    trial.end("start killed, run again", 2, began);
}

#[test]
fn an_online_start_killed_at_any_step_can_be_run_again() {
    start_killed(Mha::online_hook, "stop");
}

#[test]
fn a_failovers_start_killed_at_any_step_can_be_run_again() {
    start_killed(Mha::failover_hook, "stopssh");
}

#[test]
fn a_start_after_a_stop_that_was_killed_closes_the_old_primary() {
    trial!(trial);
    trial.write(APP, SHORT);
    let began = Instant::now();
    let mut stop = trial.mha().failover_hook("stopssh");
    let step = stop.signal_at(1, Signal::SIGKILL);
    stop.end();
    assert_eq!(step.as_deref(), Some("close writes on 10.77.0.11:3306"));
    let ended = trial.mha().failover_hook("start").end();
    assert_ended(&ended, 0, &["no stop of 10.77.0.11:3306 came to its end"]);
    assert!(trial.is_alone(2), "{}\n{}", ended.said, trial.story());
    trial.end("stopssh killed, start", 2, began);
}
