//! Complaints that show the place: `file:line:col`, the line itself, a caret.

use std::ops::Range;
use std::path::Path;

/// A configuration file, to point into.
pub struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl Source<'_> {
    /// What is wrong at `span` (in bytes), with `hint` beside the caret.
    pub fn complain(&self, span: Range<usize>, what: &str, hint: Option<&str>) -> String {
        let start = self.text.floor_char_boundary(span.start);
        let before = &self.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[line_start..].lines().next().unwrap_or_default();
        let number = before.matches('\n').count() + 1;
        let column = self.text[line_start..start].chars().count();

        let shown = without_secret(line);
        let margin = " ".repeat(number.to_string().len());
        // A tab stays a tab, so that the caret stays below its place.
        let indent: String = (line.chars().take(column))
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let line_end = line_start + line.len();
        let end = self
            .text
            .floor_char_boundary(span.end.min(line_end))
            .max(start);
        let width = match shown == line {
            true => self.text[start..end].chars().count().max(1),
            false => 1,
        };
        let hint = hint.map_or(String::new(), |hint| format!(" {hint}"));
        format!(
            "{}:{number}:{}: {what}\n  {number} | {shown}\n  {margin} | {indent}{}{hint}",
            self.path.display(),
            column + 1,
            "^".repeat(width),
        )
    }
}

/// Whether the value of `key` may be a secret, put there by mistake.
pub fn is_secret(key: &str) -> bool {
    let key = key.trim().trim_matches(['"', '\'']).to_lowercase();
    let suspicious = key == "pass"
        || ["passw", "passphr", "pwd", "secret"]
            .iter()
            .any(|word| key.contains(word));
    suspicious && key != "password_file"
}

/// The line without what it assigns to a key that looks like a password: messages are logged.
fn without_secret(line: &str) -> String {
    for (at, _) in line.match_indices('=') {
        let key = line[..at]
            .rsplit([',', '{', '.', '='])
            .next()
            .unwrap_or_default();
        if is_secret(key) {
            return format!("{}= ***", &line[..at]);
        }
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complain(text: &str, span: Range<usize>) -> String {
        let path = Path::new("f");
        Source { path, text }.complain(span, "no", Some("why"))
    }

    #[test]
    fn the_caret_stands_below_its_place_whatever_comes_before() {
        assert_eq!(
            complain("a\n\té = 3\n", 8..9),
            "f:2:6: no\n  2 | \té = 3\n    | \t    ^ why"
        );
        assert_eq!(
            complain("é = 3\n", 5..6),
            "f:1:5: no\n  1 | é = 3\n    |     ^ why"
        );
    }

    #[test]
    fn the_end_of_the_file_is_a_place_too() {
        assert_eq!(complain("", 0..0), "f:1:1: no\n  1 | \n    | ^ why");
        assert_eq!(complain("a = [\n", 6..6), "f:2:1: no\n  2 | \n    | ^ why");
        assert_eq!(
            complain("a = [", 5..9),
            "f:1:6: no\n  1 | a = [\n    |      ^ why"
        );
    }

    #[test]
    fn a_span_over_several_lines_is_marked_on_its_first() {
        assert_eq!(
            complain("a = [\n1,\n2]\n", 4..12),
            "f:1:5: no\n  1 | a = [\n    |     ^ why"
        );
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_repeated() {
        for (line, shown) in [
            ("password = \"s3cret\"", "password = ***"),
            (
                "mysql = { user = \"a\", Passwd=\"s3cret\" }",
                "mysql = { user = \"a\", Passwd= ***",
            ),
            ("mysql.password = 's3cret'", "mysql.password = ***"),
            ("\"password\" = 's3cret", "\"password\" = ***"),
            ("password_env = \"s3cret\"", "password_env = ***"),
            ("password_file = \"/a=b\"", "password_file = \"/a=b\""),
        ] {
            assert_eq!(without_secret(line), shown);
        }
    }
}
