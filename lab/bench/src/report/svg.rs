//! The plots, as SVG that looks right on light and dark pages.

use crate::figures::{Metric, Results, Section, Spread};
use crate::scenario::FLOOR;
use crate::target::{Bound, Judged, judge};

const WIDTH: f64 = 920.0;
const MARGIN: f64 = 24.0;
/// Where a plot begins below its title.
const TOP: f64 = 92.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
/// Room for a figure beside the longest bar.
const FIGURE: f64 = 100.0;

const STYLE: &str = "\
text{font-family:system-ui,'Segoe UI','Helvetica Neue',Arial,sans-serif;font-size:13px;fill:#1f2933}\
.title{font-size:17px;font-weight:600}.quiet{fill:#6b7785;font-size:12px}.strong{font-weight:600}\
.page{fill:#ffffff}.grid{stroke:#e4e8ed;stroke-width:1}.axis{stroke:#9aa5b1;stroke-width:1}\
.range{stroke:#1f2933;stroke-width:1.4;stroke-opacity:.55}\
.ours{fill:#0f8b8d}.half{fill:#7cc6c3}.others{fill:#b8c2cc}.floor{fill:#e0a458}\
.light{fill-opacity:.5}.met{fill:#0f8b8d}.missed{fill:#c8553d}.met-range{stroke:#0f8b8d}.missed-range{stroke:#c8553d}\
.span{stroke-width:3;stroke-opacity:.45;stroke-linecap:round}\
@media(prefers-color-scheme:dark){text{fill:#e6eaef}.quiet{fill:#98a4b3}.page{fill:#12181f}\
.grid{stroke:#27313c}.axis{stroke:#5b6875}.range{stroke:#e6eaef}.others{fill:#4a5663}.half{fill:#2f6f6f}\
.ours,.met{fill:#35b5b0}.met-range{stroke:#35b5b0}.missed{fill:#ee8168}.missed-range{stroke:#ee8168}}";

/// All plots for which there are results, by file name.
pub(super) fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let mut plots = Vec::new();
    if let Some(pairs) = results.section("pairs") {
        plots.push(("throughput.svg", throughput(pairs)));
        plots.push(("cpu.svg", cpu(pairs)));
        plots.push(("memory.svg", memory(pairs)));
    }
    plots.push(("targets.svg", targets(&judge(results))));
    plots
}

/// What a subject of the pairs is drawn as.
fn class(name: &str) -> &'static str {
    let ours = name.split(" -> ").filter(|side| *side == "shoal").count();
    match (name, ours) {
        (FLOOR, _) => "floor",
        (_, 2) => "ours",
        (_, 1) => "half",
        _ => "others",
    }
}

fn throughput(pairs: &Section) -> String {
    let mut bars = bars(pairs, Metric::ThroughputMbPerS);
    bars.sort_by(|a, b| b.spread.median.total_cmp(&a.spread.median));
    let title = Title {
        text: "Throughput, one seed to one leech",
        below: format!("MB/s from the start of the leech; {}", how(pairs)),
    };
    let legend = [
        ("ours", "Shoal on both sides"),
        ("half", "Shoal on one side"),
        ("others", "others"),
        (
            "floor",
            "one thread a side: sendfile, then recv, SHA-1, write",
        ),
    ];
    bar_plot(&title, &legend, &bars, 0)
}

fn memory(pairs: &Section) -> String {
    let mut bars = bars(pairs, Metric::LeechPeakRssMib);
    for bar in &mut bars {
        bar.class = match bar.name.ends_with("-> shoal") {
            true => "ours",
            false => "others",
        };
    }
    bars.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
    let title = Title {
        text: "Peak memory of the leech",
        below: format!("MiB resident; {}", how(pairs)),
    };
    let legend = [("ours", "Shoal downloads"), ("others", "others download")];
    bar_plot(&title, &legend, &bars, 0)
}

fn how(section: &Section) -> String {
    let machine = &section.machine;
    format!(
        "{}; loopback TCP, plaintext, files in memory; {} cores, {}",
        section.settings, machine.cores, machine.cpu
    )
}

struct Bar {
    name: String,
    class: &'static str,
    spread: Spread,
}

fn bars(section: &Section, metric: Metric) -> Vec<Bar> {
    let subjects = section.subjects.iter();
    subjects
        .filter_map(|subject| {
            Some(Bar {
                name: subject.name.clone(),
                class: class(&subject.name),
                spread: subject.spread(metric)?,
            })
        })
        .collect()
}

struct Title<'a> {
    text: &'a str,
    below: String,
}

fn bar_plot(title: &Title<'_>, legend: &[(&str, &str)], bars: &[Bar], decimals: usize) -> String {
    let names: Vec<&str> = bars.iter().map(|bar| bar.name.as_str()).collect();
    let most = bars.iter().map(|bar| bar.spread.max).fold(0.0, f64::max);
    let mut canvas = Canvas::new(title, legend, &names);
    let axis = canvas.linear(most);
    for (number, bar) in bars.iter().enumerate() {
        let y = canvas.row(number);
        let end = axis.at(bar.spread.median);
        canvas.bar(bar.class, axis.from, end, y);
        let tip = axis.at(bar.spread.max).max(end);
        canvas.range("range", axis.at(bar.spread.min), axis.at(bar.spread.max), y);
        canvas.text(
            "strong",
            tip + 8.0,
            y,
            &format!("{:.decimals$}", bar.spread.median),
        );
    }
    canvas.finish()
}

/// CPU time of both sides, on top of each other.
fn cpu(pairs: &Section) -> String {
    let mut rows: Vec<(&str, f64, f64)> = pairs
        .subjects
        .iter()
        .filter_map(|subject| {
            let leech = subject.spread(Metric::LeechCpuSPerGib)?.median;
            let seed = subject.spread(Metric::SeedCpuSPerGib)?.median;
            Some((subject.name.as_str(), leech, seed))
        })
        .collect();
    rows.sort_by(|a, b| (a.1 + a.2).total_cmp(&(b.1 + b.2)));
    let title = Title {
        text: "CPU time of one seed and one leech",
        below: format!("seconds a GiB, user and system; {}", how(pairs)),
    };
    let legend = [
        ("others", "leech (full) and seed (pale)"),
        ("ours", "Shoal on both sides"),
        ("half", "on one"),
    ];
    let names: Vec<&str> = rows.iter().map(|row| row.0).collect();
    let mut canvas = Canvas::new(&title, &legend, &names);
    let axis = canvas.linear(rows.iter().map(|row| row.1 + row.2).fold(0.0, f64::max));
    for (number, (name, leech, seed)) in rows.iter().enumerate() {
        let y = canvas.row(number);
        let (middle, end) = (axis.at(*leech), axis.at(leech + seed));
        canvas.bar(class(name), axis.from, middle, y);
        canvas.bar(&format!("{} light", class(name)), middle, end, y);
        let figures = format!("{leech:.2} + {seed:.2}");
        canvas.text("strong", end + 8.0, y, &figures);
    }
    canvas.finish()
}

/// How far each figure is on the right side of its bound.
fn targets(judged: &[Judged]) -> String {
    let measured: Vec<(&Judged, Spread)> = judged
        .iter()
        .filter_map(|row| Some((row, row.measured?)))
        // A bound of zero has no ratio.
        .filter(|(row, _)| row.bound.value() > 0.0)
        .collect();
    let title = Title {
        text: "How far the targets are met",
        below:
            "how many times better than the target (right of 1) or worse; ranges over all rounds"
                .to_owned(),
    };
    let names: Vec<String> = measured.iter().map(|(row, _)| shown_name(row)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let legend = [("met", "met"), ("missed", "not met")];
    let mut canvas = Canvas::new(&title, &legend, &names);
    let axis = canvas.logarithmic();
    for (number, (row, spread)) in measured.iter().enumerate() {
        let y = canvas.row(number);
        let better = |figure: f64| match row.bound {
            Bound::AtMost(bound) => bound / figure.max(f64::MIN_POSITIVE),
            Bound::AtLeast(bound) => figure / bound,
        };
        let verdict = if row.is_met() { "met" } else { "missed" };
        let ends = [better(spread.min), better(spread.max)].map(|at| axis.at(at));
        let range = format!("{verdict}-range span");
        canvas.range_plain(&range, ends[0], ends[1], y);
        canvas.dot(verdict, axis.at(better(spread.median)), y);
        let unit = row.unit.replace('x', "\u{d7}");
        let figure = format!("{:.*} {unit}", row.decimals, spread.median);
        canvas.text("strong", axis.to + 12.0, y, figure.trim_end());
    }
    canvas.finish()
}

fn shown_name(row: &Judged) -> String {
    format!("{} ({})", row.what.replace('`', ""), row.bound_text())
}

/// Where figures lie between two sides of a plot.
struct Axis {
    from: f64,
    to: f64,
    lowest: f64,
    highest: f64,
    logarithmic: bool,
}

impl Axis {
    fn at(&self, figure: f64) -> f64 {
        let figure = figure.clamp(self.lowest, self.highest);
        let part = match self.logarithmic {
            true => (figure / self.lowest).ln() / (self.highest / self.lowest).ln(),
            false => (figure - self.lowest) / (self.highest - self.lowest),
        };
        self.from + part * (self.to - self.from)
    }
}

/// A picture in the making: a title, a legend, and rows with names on the left.
struct Canvas {
    shapes: String,
    rows: usize,
    /// Where names end and the plot begins.
    left: f64,
}

impl Canvas {
    fn new(title: &Title<'_>, legend: &[(&str, &str)], names: &[&str]) -> Canvas {
        let longest = names
            .iter()
            .map(|name| text_width(name))
            .fold(0.0, f64::max);
        let mut canvas = Canvas {
            shapes: String::new(),
            rows: names.len(),
            left: MARGIN + longest + 14.0,
        };
        canvas.text("title", MARGIN, 30.0, title.text);
        canvas.text("quiet", MARGIN, 50.0, &title.below);
        let mut x = MARGIN;
        for (class, words) in legend {
            canvas.shapes += &format!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"66\" width=\"11\" height=\"11\" rx=\"2\"/>\n"
            );
            canvas.text("quiet", x + 17.0, 71.5, words);
            x += 17.0 + text_width(words) + 22.0;
        }
        for (number, name) in names.iter().enumerate() {
            let y = canvas.row(number);
            let x = canvas.left - 12.0;
            canvas.shapes += &format!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                y + 4.5,
                escaped(name)
            );
        }
        canvas
    }

    /// The middle of a row.
    fn row(&self, number: usize) -> f64 {
        TOP + ROW * (number as f64 + 0.5)
    }

    fn bottom(&self) -> f64 {
        TOP + ROW * self.rows as f64
    }

    /// An axis from zero to more than `most`, with its grid.
    fn linear(&mut self, most: f64) -> Axis {
        let step = round_step(most);
        let axis = Axis {
            from: self.left,
            to: WIDTH - MARGIN - FIGURE,
            lowest: 0.0,
            highest: most.max(step),
            logarithmic: false,
        };
        let mut figure = 0.0;
        while figure <= axis.highest * 1.0001 {
            let decimals = usize::from(step < 1.0);
            self.grid(
                axis.at(figure),
                &format!("{figure:.decimals$}"),
                figure == 0.0,
            );
            figure += step;
        }
        axis
    }

    /// An axis from a quarter to eight times.
    fn logarithmic(&mut self) -> Axis {
        let axis = Axis {
            from: self.left,
            to: WIDTH - MARGIN - FIGURE,
            lowest: 0.25,
            highest: 8.0,
            logarithmic: true,
        };
        for (figure, text) in [
            (0.25, "1/4"),
            (0.5, "1/2"),
            (1.0, "1"),
            (2.0, "2"),
            (4.0, "4"),
            (8.0, "8"),
        ] {
            self.grid(axis.at(figure), text, figure == 1.0);
        }
        axis
    }

    fn grid(&mut self, x: f64, text: &str, strong: bool) {
        let class = if strong { "axis" } else { "grid" };
        let bottom = self.bottom();
        self.shapes += &format!(
            "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\n\
             <text class=\"quiet\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>\n",
            bottom + 17.0
        );
    }

    fn bar(&mut self, class: &str, from: f64, to: f64, y: f64) {
        let width = (to - from).max(0.5);
        self.shapes += &format!(
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\n",
            y - BAR / 2.0
        );
    }

    /// A line with ends.
    fn range(&mut self, class: &str, from: f64, to: f64, y: f64) {
        if to - from < 1.0 {
            return;
        }
        self.range_plain(class, from, to, y);
        for x in [from, to] {
            self.shapes += &format!(
                "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\"/>\n",
                y - 4.0,
                y + 4.0
            );
        }
    }

    fn range_plain(&mut self, class: &str, from: f64, to: f64, y: f64) {
        self.shapes += &format!(
            "<line class=\"{class}\" x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{to:.1}\" y2=\"{y:.1}\"/>\n"
        );
    }

    fn dot(&mut self, class: &str, x: f64, y: f64) {
        self.shapes +=
            &format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5.5\"/>\n");
    }

    /// Text whose middle is at `y`.
    fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let text = escaped(text);
        self.shapes += &format!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>\n",
            y + 4.5
        );
    }

    fn finish(self) -> String {
        let height = self.bottom() + 34.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
             <style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{}</svg>\n",
            self.shapes
        )
    }
}

/// About how wide a text of 13 pixels is: fonts differ, and nobody measures them here.
fn text_width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64
}

/// As XML, with the signs that a terminal may not have.
fn escaped(text: &str) -> String {
    let signs = [
        ("->", "\u{2192}"),
        ("<=", "\u{2264}"),
        (">=", "\u{2265}"),
        (" x)", " \u{d7})"),
    ];
    let text = signs
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A step of 1, 2 or 5 times a power of ten, four to eight of which reach `most`.
fn round_step(most: f64) -> f64 {
    let rough = (most / 5.0).max(1e-6);
    let power = 10f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= rough);
    power * factor.unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (most, step) in [(400.0, 100.0), (90.0, 20.0), (4.7, 1.0), (0.9, 0.2)] {
            assert!((round_step(most) - step).abs() < 1e-9, "{most}");
        }
    }

    #[test]
    fn names_cannot_break_out() {
        let title = Title {
            text: "a & b",
            below: String::new(),
        };
        let svg = Canvas::new(&title, &[], &["a -> <y>"]).finish();
        assert!(svg.contains("a &amp; b") && svg.contains("a \u{2192} &lt;y&gt;"));
    }
}
