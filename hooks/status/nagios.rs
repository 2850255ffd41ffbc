//! For Nagios and its kind: one line with performance data, and the exit status that says it all.

use super::Status;

/// How grave it is; the numbers are the exit statuses of the plugin API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Grade::Ok => "OK",
            Grade::Warning => "WARNING",
            Grade::Critical => "CRITICAL",
            Grade::Unknown => "UNKNOWN",
        }
    }
}

/// The line, and the exit status.
pub fn line(status: &Status) -> (String, Grade) {
    let mut found = findings(status);
    found.sort_by_key(|(grade, _)| std::cmp::Reverse(*grade));
    let grade = found.first().map_or(Grade::Ok, |(grade, _)| *grade);
    let text = match found.is_empty() {
        true => all_well(status),
        false => {
            let texts = found.into_iter().map(|(_, text)| text);
            texts.collect::<Vec<_>>().join("; ")
        }
    };
    (format!("{}|{}", of(grade, &text), perfdata(status)), grade)
}

/// The line for `text` without performance data.
pub fn of(grade: Grade, text: &str) -> String {
    // A bar begins the performance data, a newline ends the line.
    let text = text.replace('|', "/").replace('\n', " ");
    format!("HOOKBOX {} - {text}", grade.word())
}

fn findings(status: &Status) -> Vec<(Grade, String)> {
    let survey = &status.survey;
    let mut found = Vec::new();
    for seen in &survey.vips {
        if let Some(wrong) = &seen.wrong {
            let grade = match seen.of_primary || seen.server.is_none() {
                true => Grade::Critical,
                false => Grade::Warning,
            };
            found.push((
                grade,
                format!("{} {}: {wrong}", seen.role, address(&seen.vip)),
            ));
        }
    }
    found.extend(
        survey
            .no_primary
            .iter()
            .map(|why| (Grade::Critical, why.clone())),
    );
    for host in &survey.hosts {
        if let Some(error) = &host.error {
            let grade = match host.here {
                true => Grade::Critical,
                false => Grade::Warning,
            };
            found.push((grade, format!("{} cannot be asked: {error}", host.host)));
        }
        if host.replicates == Some(false) && host.writable == Some(false) {
            found.push((Grade::Warning, format!("{} does not replicate", host.host)));
        }
    }
    if let Some(local) = &status.local {
        if let Some(open) = &local.open_switch {
            let text = format!("a switch from {} is open since {}", open.old, open.since);
            found.push((Grade::Warning, text));
        }
        let unknown = local.switch_error.iter();
        found.extend(unknown.map(|error| (Grade::Warning, format!("switch unknown: {error}"))));
    }
    found
}

fn all_well(status: &Status) -> String {
    let survey = &status.survey;
    let vips = survey.vips.iter().map(|seen| {
        let on = seen.expected.as_deref().unwrap_or("nobody");
        format!("{} {} on {on}", seen.role, address(&seen.vip))
    });
    let mut facts: Vec<String> = vips.collect();
    facts.push(match survey.hosts.len() {
        1 => "1 server answers".to_owned(),
        n => format!("{n} servers answer"),
    });
    if let Some(until) = status
        .local
        .as_ref()
        .and_then(|l| l.maintenance_until.as_ref())
    {
        facts.push(format!("maintenance until {until}"));
    }
    facts.join(", ")
}

/// `'label'=value[unit];warn;crit;min;max`; a label in quotes may have anything but quotes and `=`.
fn perfdata(status: &Status) -> String {
    let label = |text: &str| text.replace(['\'', '=', '|', '\n'], "_");
    let survey = &status.survey;
    let lag = survey.hosts.iter().filter_map(|host| {
        let lag = host.lag_seconds?;
        Some(format!("'lag {}'={lag}s;;;0;", label(&host.host)))
    });
    let well = survey.vips.iter().map(|seen| {
        let well = u8::from(seen.wrong.is_none());
        format!("'vip {}'={well};;;0;1", label(address(&seen.vip)))
    });
    let took = format!("time={:.3}s;;;0;", survey.took_ms as f64 / 1000.0);
    let all = well.chain(lag).chain([took]);
    all.collect::<Vec<_>>().join(" ")
}

fn address(vip: &str) -> &str {
    vip.split('/').next().unwrap_or(vip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::survey::{HostSeen, Survey, VipSeen};

    fn status() -> Status {
        let vip = |address: &str, role: &str, of_primary| VipSeen {
            vip: format!("{address}/24 dev eth0"),
            role: role.to_owned(),
            server: Some("db1".to_owned()),
            expected: Some("db1".to_owned()),
            of_primary,
            ..VipSeen::default()
        };
        let db2 = HostSeen {
            host: "db2".to_owned(),
            lag_seconds: Some(3),
            replicates: Some(true),
            writable: Some(false),
            ..HostSeen::default()
        };
        let vips = vec![
            vip("10.0.0.100", "writer", true),
            vip("10.0.0.101", "reader", false),
        ];
        Status {
            no_file: None,
            survey: Survey {
                hosts: vec![db2],
                vips,
                took_ms: 12,
                ..Survey::default()
            },
            local: None,
        }
    }

    #[test]
    fn all_is_well_in_one_line_with_perfdata() {
        let (line, grade) = line(&status());
        assert_eq!(grade, Grade::Ok);
        assert_eq!(
            line,
            "HOOKBOX OK - writer 10.0.0.100 on db1, reader 10.0.0.101 on db1, 1 server answers|\
             'vip 10.0.0.100'=1;;;0;1 'vip 10.0.0.101'=1;;;0;1 'lag db2'=3s;;;0; time=0.012s;;;0;"
        );
    }

    #[test]
    fn the_gravest_finding_comes_first_and_decides() {
        let mut status = status();
        status.survey.vips[1].wrong = Some("it is on db1 and belongs on db2".to_owned());
        let (text, grade) = line(&status);
        assert_eq!(grade, Grade::Warning, "{text}");
        status.survey.vips[0].wrong = Some("nobody | has\nit".to_owned());
        let (text, grade) = line(&status);
        assert_eq!(grade, Grade::Critical);
        let begins = "HOOKBOX CRITICAL - writer 10.0.0.100: nobody / has it; reader 10.0.0.101: ";
        assert!(text.starts_with(begins), "{text}");
        assert_eq!((text.matches('|').count(), text.lines().count()), (1, 1));
        assert!(text.contains("'vip 10.0.0.100'=0;"), "{text}");
    }

    #[test]
    fn an_address_that_nobody_serves_is_critical_in_every_role() {
        let mut status = status();
        let reader = &mut status.survey.vips[1];
        (reader.server, reader.wrong) = (None, Some("nobody has it".to_owned()));
        assert_eq!(line(&status).1, Grade::Critical);
    }
}
