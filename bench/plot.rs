//! Bars of what takes how long, as SVG that can be read on a light and on a dark page.

use std::fmt::Write;

use crate::report::{Bar, Report};

const WIDTH: f64 = 760.0;
/// Where bars begin; their names are left of it.
const LEFT: f64 = 180.0;
/// Room right of the longest bar for its length in words.
const RIGHT: f64 = 80.0;
const ROW: f64 = 30.0;
const TOP: f64 = 40.0;
const LEGEND_ROW: f64 = 18.0;

/// Neighbours that can be told apart, also by who sees red and green alike; each is readable on white and
/// on black (Okabe and Ito, "Color Universal Design").
const COLORS: [&str; 9] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b0a500", "#888888",
    "#aa4499",
];

/// The bars of one part; `None` when there are none.
pub fn svg(report: &Report, part: &str, title: &str) -> Option<String> {
    let bars: Vec<&Bar> = report.bars.iter().filter(|bar| bar.part == part).collect();
    let most = bars.iter().map(|bar| length(bar)).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let mut names: Vec<&str> = Vec::new();
    for piece in bars.iter().flat_map(|bar| &bar.pieces) {
        if !names.contains(&piece.what.as_str()) {
            names.push(&piece.what);
        }
    }
    let color = |what: &str| {
        let place = names.iter().position(|name| *name == what).unwrap_or(0);
        COLORS[place % COLORS.len()]
    };
    let legend = TOP + ROW * bars.len() as f64 + 14.0;
    let height = legend + LEGEND_ROW * names.len() as f64 + 6.0;
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n\
         <title>{0}</title>\n\
         <style>\n\
         text {{ font: 13px sans-serif; fill: #1f2328; }}\n\
         .title {{ font-weight: bold; }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3; }} }}\n\
         </style>\n\
         <text class=\"title\" x=\"0\" y=\"20\">{0}, in ms</text>\n",
        escape(title)
    );
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let text_y = y + 15.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            escape(&bar.of)
        );
        let mut x = LEFT;
        for piece in &bar.pieces {
            let width = piece.ms * scale;
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"20\" fill=\"{}\">\
                 <title>{}: {}</title></rect>",
                color(&piece.what),
                escape(&piece.what),
                ms(piece.ms)
            );
            x += width;
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{text_y}\">{}</text>",
            x + 6.0,
            ms(length(bar))
        );
    }
    for (row, name) in names.iter().enumerate() {
        let y = legend + LEGEND_ROW * row as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"11\" height=\"11\" fill=\"{}\"/>\
             <text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            color(name),
            LEFT + 18.0,
            y + 10.0,
            escape(name)
        );
    }
    svg += "</svg>\n";
    Some(svg)
}

fn length(bar: &Bar) -> f64 {
    bar.pieces.iter().map(|piece| piece.ms).sum()
}

fn ms(value: f64) -> String {
    match value {
        v if v >= 20.0 => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
