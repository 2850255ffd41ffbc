//! What was measured: for people as a table, for programs as JSON.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Everything that one run of the benchmark measured.
#[derive(Default, Serialize)]
pub struct Report {
    pub figures: Vec<Figure>,
    pub aims: Vec<Aim>,
    pub bars: Vec<Bar>,
    /// The part that is being measured.
    #[serde(skip)]
    part: &'static str,
}

/// One thing that was measured several times.
#[derive(Clone, Serialize)]
pub struct Figure {
    pub part: &'static str,
    pub what: String,
    pub unit: &'static str,
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// A ratio that is to be reached.
#[derive(Serialize)]
pub struct Aim {
    pub part: &'static str,
    pub what: String,
    pub measured: f64,
    pub at_most: f64,
}

/// Where the time of one thing goes.
#[derive(Serialize)]
pub struct Bar {
    pub part: &'static str,
    pub of: String,
    /// In the order in which they happen.
    pub pieces: Vec<Piece>,
}

/// A piece of a bar.
#[derive(Serialize)]
pub struct Piece {
    pub what: String,
    pub ms: f64,
}

impl Piece {
    pub fn new(what: impl Into<String>, ms: f64) -> Piece {
        Piece {
            what: what.into(),
            ms,
        }
    }
}

impl Aim {
    pub fn is_reached(&self) -> bool {
        self.measured <= self.at_most
    }
}

impl Report {
    /// What comes now belongs to `part`.
    pub fn begin(&mut self, part: &'static str) {
        self.part = part;
    }

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
            median: (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0,
            least: values[0],
            most: values[values.len() - 1],
        };
        println!(
            "  {:<60} {:>9.2} {unit:<3}  {:>9.2} to {:.2}",
            figure.what, figure.median, figure.least, figure.most
        );
        let median = figure.median;
        self.figures.push(figure);
        median
    }

    /// A ratio, and the most that it should be.
    pub fn aim(&mut self, what: impl Into<String>, measured: f64, at_most: f64) {
        let aim = Aim {
            part: self.part,
            what: what.into(),
            measured,
            at_most,
        };
        let verdict = if aim.is_reached() { "" } else { "   MISSED" };
        println!(
            "  {:<60} {measured:>9.2}      at most {at_most}{verdict}",
            aim.what
        );
        self.aims.push(aim);
    }

    /// Where the time of `of` goes, for a plot.
    pub fn bar(&mut self, of: impl Into<String>, pieces: Vec<Piece>) {
        let (part, of) = (self.part, of.into());
        self.bars.push(Bar { part, of, pieces });
    }

    /// Whether every aim was reached.
    pub fn is_reached(&self) -> bool {
        self.aims.iter().all(Aim::is_reached)
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) {
        fs::write(path, serde_json::to_string_pretty(self).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}
