//! What was measured: for people as a table, for programs as JSON.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Everything that one run of the benchmark measured.
#[derive(Default, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
    aims: Vec<Aim>,
}

/// One thing that was measured several times.
#[derive(Clone, Serialize)]
pub struct Figure {
    part: &'static str,
    what: String,
    unit: &'static str,
    median: f64,
    least: f64,
    most: f64,
}

/// A ratio that is to be reached.
#[derive(Serialize)]
struct Aim {
    what: String,
    measured: f64,
    at_most: f64,
}

impl Report {
    /// Takes a figure in and prints it; gives its median.
    pub fn figure(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        mut values: Vec<f64>,
    ) -> f64 {
        values.sort_by(f64::total_cmp);
        let figure = Figure {
            part,
            what: what.into(),
            unit,
            median: values[values.len() / 2],
            least: values[0],
            most: values[values.len() - 1],
        };
        println!(
            "  {:<44} {:>9.2} {unit:<3}  {:>9.2} to {:.2}",
            figure.what, figure.median, figure.least, figure.most
        );
        let median = figure.median;
        self.figures.push(figure);
        median
    }

    /// A ratio, and the most that it should be.
    pub fn aim(&mut self, what: impl Into<String>, measured: f64, at_most: f64) {
        let what = what.into();
        let verdict = if measured <= at_most { "" } else { "   MISSED" };
        println!("  {what:<44} {measured:>9.2}      at most {at_most}{verdict}");
        self.aims.push(Aim {
            what,
            measured,
            at_most,
        });
    }

    /// Whether every aim was reached.
    pub fn is_reached(&self) -> bool {
        self.aims.iter().all(|aim| aim.measured <= aim.at_most)
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) {
        fs::write(path, serde_json::to_string_pretty(self).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        println!("\nwritten to {}", path.display());
    }
}
