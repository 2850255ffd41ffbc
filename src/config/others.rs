//! What a file has for other instances than the one that is meant, left out before it is parsed: a
//! check is to cost the same whether its server is one of one or one of fifty.

/// `text` without the tables of instances that are not `own`. `None` where there are none, or
/// where they cannot be told by their first lines alone.
///
/// What is cut in the middle (a list whose line looks like the head of a table) is no TOML any
/// more, since the end of the list is left over: whoever cannot parse this parses the whole.
pub fn left_out(text: &str, own: Option<&str>) -> Option<String> {
    if text.contains("\"\"\"") || text.contains("'''") {
        return None; // a string of several lines may have lines that look like anything
    }
    let mut kept = String::new();
    let mut table = String::new();
    let keep = |table: &str, kept: &mut String| {
        // Passwords that other instances take from the environment are kept from children, too.
        let is_needed = instance_of(table).is_none_or(|name| Some(name) == own);
        if is_needed || table.contains("password_env") {
            kept.push_str(table);
        }
    };
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            keep(&table, &mut kept);
            table.clear();
        }
        table.push_str(line);
    }
    keep(&table, &mut kept);
    (kept.len() < text.len()).then_some(kept)
}

/// Whose `table` is, if its first line is `[instance.NAME...` or `[[instance.NAME...`.
fn instance_of(table: &str) -> Option<&str> {
    let table = table.trim_start();
    let head = table.strip_prefix("[[").or(table.strip_prefix('['))?;
    let rest = head.strip_prefix("instance.")?;
    let end = rest.find(['.', ']'])?;
    let name = &rest[..end];
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.chars().all(fits).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "journal = 1\n\n[mysql]\nuser = 'a'\n[instance.a.mysql]\nuser = 'b'\n\n\
                        [[instance.a.peer]]\nhost = 'h'\n[instance.b]\n[instance.b.check]\nlist = [\n  'x',\n]\n[instance.c.mysql]\n\
                        password_env = 'C'\n[mha]\nuser = 'm'\n";

    #[test]
    fn what_is_left_is_what_is_shared_and_what_is_ones_own() {
        let of_b = "journal = 1\n\n[mysql]\nuser = 'a'\n[instance.b]\n[instance.b.check]\nlist = [\n  \
                    'x',\n]\n[instance.c.mysql]\npassword_env = 'C'\n[mha]\nuser = 'm'\n";
        assert_eq!(left_out(FILE, Some("b")).unwrap(), of_b);
        let of_none = "journal = 1\n\n[mysql]\nuser = 'a'\n[instance.c.mysql]\npassword_env = 'C'\n\
                       [mha]\nuser = 'm'\n";
        assert_eq!(left_out(FILE, None).unwrap(), of_none);
    }

    #[test]
    fn what_cannot_be_told_is_left_alone() {
        assert_eq!(left_out("[mysql]\nuser = 'a'\n", Some("b")), None);
        let long = "[mysql]\nuser = '''\n[instance.a]\n'''\n";
        assert_eq!(left_out(long, Some("b")), None);
        let quoted = "[instance.\"a\".mysql]\nuser = 'a'\n";
        assert_eq!(left_out(quoted, Some("b")), None);
    }

    #[test]
    fn a_list_that_was_cut_is_no_toml() {
        for inner in ["[1]", "['x']", "[a]"] {
            let text = format!("[instance.a]\nlist = [\n{inner}\n]\n");
            let cut = left_out(&text, Some("b")).unwrap();
            assert!(cut.parse::<toml::Table>().is_err(), "{cut}");
        }
    }
}
