//! Values that are each well formed and still cannot be meant.

use crate::{complains, complaint, parse};

#[test]
fn contradictions_are_shown_at_one_of_their_keys() {
    complains(
        "[check]\ndeadline = \"500ms\"\nconfirm = \"500ms\"\n",
        &[
            "hookbox.toml:3:11: `confirm` (500ms) must be shorter than `deadline` (500ms)",
            "  3 | confirm = \"500ms\"",
            "    |           ^^^^^^^",
        ],
    );
    // The other side of the contradiction is a default.
    complains(
        "[check]\ndeadline = \"150ms\"\n",
        &[
            "hookbox.toml:2:12: `confirm` (200ms) must be shorter than `deadline` (150ms)",
            "  2 | deadline = \"150ms\"",
            "    |            ^^^^^^^",
        ],
    );
    complains(
        "[[peer]]\nhost = \"db2\"\n\n[[peer]]\nhost = \" \"\n",
        &[
            "hookbox.toml:5:8: `host` is empty",
            "  5 | host = \" \"",
            "    |        ^^^",
        ],
    );
    complains(
        "[paths]\nrun = \"run\"\n",
        &[
            "hookbox.toml:2:7: `run` must begin with /",
            "  2 | run = \"run\"",
            "    |       ^^^^^",
        ],
    );
    for (text, what) in [
        ("[mysql]\nport = 0", "2:8: `port` cannot be 0"),
        (
            "[network]\nprobe = '2s'",
            "2:9: `probe` cannot be longer than 1s",
        ),
        (
            "[network]\nannounce = [200]",
            "2:12: `announce` must begin with 0",
        ),
        (
            "[network]\nannounce = [0, 9, 9]",
            "2:12: `announce` must be in ascending order",
        ),
        (
            "[network]\nannounce = [0, 60001]",
            "2:12: `announce` goes beyond 60000 ms",
        ),
        (
            "[mysql]\ntls = 'verify_ca'",
            "2:7: `tls` is to verify the server, and there is no `tls_ca`",
        ),
        (
            "[[peer]]\nhost = 'db2'\ntls = 'verify_identity'",
            "3:7: `tls` is to verify the server, and there is no `tls_ca`",
        ),
        (
            "[mysql]\ntls_ca = '/ca.pem'",
            "2:10: `tls_ca` does nothing unless `tls` is",
        ),
        (
            "[[peer]]\nhost = 'db2'\ntls_ca = '/ca.pem'",
            "3:10: `tls_ca` does nothing unless `tls` is",
        ),
        (
            "[mha]\ntls = 'verify_ca'\ntls_ca = 'ca.pem'",
            "3:10: `tls_ca` must begin with /",
        ),
        (
            "[check]\ndeadline = \"0s\"\nconfirm=\"0s\"",
            "2:12: `deadline` cannot be 0",
        ),
        (
            "[check]\nwrite_table = \"heartbeat\"",
            "2:15: `write_table` must be",
        ),
        (
            "[check]\nwrite_table = \"a.b.c\"",
            "2:15: `write_table` must be",
        ),
        (
            "[demote]\ngrace = \"10s\"",
            "2:9: `grace` (10s) must be shorter than `limit` (10s)",
        ),
        (
            "[check]\nwrite_table = \"a.b\"\nwrite_limit = \"1s\"",
            "3:15: `write_limit` (1s) must be shorter than `deadline` (700ms)",
        ),
        (
            "[check]\nwitness = [\"10.0.0.1\"]\nwitness_limit = \"1s\"",
            "3:17: `witness_limit` (1s) must be shorter than `deadline` (700ms)",
        ),
        (
            "[mysql]\npassword_file = \"/p\"\npassword_env = \"P\"",
            "3:16: both `password_file` and",
        ),
        (
            "[mysql]\npassword_file = \"p\"",
            "2:17: `password_file` must begin with /",
        ),
        ("[mysql]\nuser = \"\"", "2:8: `user` is empty"),
    ] {
        let message = complaint(text, None);
        assert!(
            message.starts_with(&format!("hookbox.toml:{what}")),
            "{message}"
        );
    }
}

#[test]
fn a_limit_of_what_is_not_asked_contradicts_nothing() {
    let text = "[check]\ndeadline = \"300ms\"\n[demote]\ngrace = \"2s\"\n";
    parse(text, None).unwrap();
}
