//! Draws panels of marks as SVG. In dark mode the style of the page replaces these colours.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Kind, Result};
use crate::printable::visible;

/// Values of at least this size are not drawn, because the ticks of a longer axis could not be
/// counted.
pub const LARGEST: f64 = 1e9;
/// The colour of universal neurons.
pub const UNIVERSAL: RGBColor = RGBColor(0x1D, 0x6F, 0xB8);
/// The colour of all other neurons.
pub const OTHERS: RGBColor = RGBColor(0x8D, 0x99, 0xA6);
/// The colour of the paper's figures and of the chance level.
pub const PAPER: RGBColor = RGBColor(0xC2, 0x57, 0x0C);
/// The colours of series, in order.
pub const SERIES: [RGBColor; 6] = [
    UNIVERSAL,
    PAPER,
    RGBColor(0x2F, 0x85, 0x5A),
    RGBColor(0x80, 0x5A, 0xD5),
    RGBColor(0xB8, 0x32, 0x80),
    OTHERS,
];
const INK: RGBColor = RGBColor(0x1F, 0x29, 0x33);
const LINES: RGBColor = RGBColor(0x7B, 0x87, 0x94);
const PAGE: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);

/// Font size, in pixels.
const LETTERS: u32 = 14;

/// The shape of a series.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through points.
    Line(Vec<(f64, f64)>),
    /// Discs.
    Points(Vec<(f64, f64)>),
    /// Discs, each a link to the card of the neuron that it names.
    Neurons(Vec<(f64, f64, String)>),
    /// Rectangles.
    Cells(Vec<Cell>),
    /// Texts, each centred on its point.
    Words(Vec<(f64, f64, String)>),
}

/// A rectangle.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Extent along the x axis.
    pub x: Range<f64>,
    /// Extent along the y axis.
    pub y: Range<f64>,
    /// Opacity, from 0 to 1.
    pub opacity: f64,
}

/// Marks of one colour.
#[derive(Debug, Clone)]
pub struct Series {
    /// Name in the legend. A series with an empty name is not in the legend.
    pub name: String,
    /// Colour of the marks.
    pub color: RGBColor,
    /// The marks.
    pub mark: Mark,
}

impl Series {
    /// Creates a series. Control characters in the name are made visible.
    pub fn new(name: impl AsRef<str>, color: RGBColor, mark: Mark) -> Self {
        Self { name: visible(name.as_ref()).into_owned(), color, mark }
    }
}

/// A coordinate system and the series drawn in it.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Title; empty if there is none.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The series, in the order in which they are drawn.
    pub series: Vec<Series>,
}

/// An axis.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Label of the axis.
    pub label: String,
    /// The values at both ends.
    pub range: Range<f64>,
    /// Names of the values 0, 1, 2 …; an axis without names shows numbers.
    pub names: Vec<String>,
}

impl Axis {
    /// Creates an axis of numbers.
    pub fn of(label: &str, range: Range<f64>) -> Self {
        let bounded = |v: f64| v.clamp(-LARGEST, LARGEST);
        let (start, end) = (bounded(range.start), bounded(range.end));
        let range = if start < end { start..end } else { 0.0..1.0 };
        Self { label: label.to_owned(), range, names: Vec::new() }
    }

    /// Creates an axis of names, each centred on its index.
    pub fn named(label: &str, names: Vec<String>) -> Self {
        let names: Vec<String> = names.iter().map(|name| visible(name).into_owned()).collect();
        Self { label: label.to_owned(), range: -0.5..names.len() as f64 - 0.5, names }
    }

    /// Creates an axis of `n` layers.
    pub fn layers(n: usize) -> Self {
        Self::named("layer", (0..n).map(|l| l.to_string()).collect())
    }

    /// Returns the label of a tick.
    fn tick(&self, value: f64) -> String {
        if self.names.is_empty() {
            return number(value);
        }
        let whole = (value - value.round()).abs() < 1e-6 && value > -0.5;
        let name = if whole { self.names.get(value.round() as usize) } else { None };
        name.cloned().unwrap_or_default()
    }

    /// Returns the maximum number of ticks.
    fn ticks(&self, most: usize) -> usize {
        // There may be a tick without a label between two names.
        if self.names.is_empty() { most } else { 2 * self.names.len() + 1 }
    }
}

/// Returns a number with at most three digits after the decimal point, without trailing zeros.
pub fn number(value: f64) -> String {
    let text = format!("{:.3}", if value.abs() < 1e-9 { 0.0 } else { value });
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

type Drawing<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<T = ()> = std::result::Result<T, DrawingAreaErrorKind<std::io::Error>>;

/// Draws panels in rows of `columns`. Control characters are made visible in every text, and each
/// text is isolated, so that its direction of writing does not affect other texts.
///
/// # Errors
/// Returns an error if the panels do not fit.
pub fn draw(size: (u32, u32), columns: usize, panels: &[Panel]) -> Result<String> {
    let mut svg = String::new();
    let rows = panels.len().div_ceil(columns);
    let paint = |svg: &mut String| -> Drawn {
        let root = SVGBackend::with_string(svg, size).into_drawing_area();
        let areas = root.split_evenly((rows, columns));
        panels.iter().zip(&areas).try_for_each(|(panel, area)| panel.draw(area))?;
        root.present()
    };
    paint(&mut svg)
        .map_err(|e| Error::new(Kind::Store, "a figure", e, "report this with the run's folder"))?;
    // `<` is escaped within texts, so that each of these begins an element.
    let svg = svg.replace("<text ", "<text unicode-bidi=\"isolate\" ");
    let svg = short(svg);
    let links = panels.iter().flat_map(|panel| &panel.series).flat_map(|s| s.mark.links());
    Ok(linked(&svg, links))
}

/// Removes attributes that have their default values, and sets the font once for all texts: a figure
/// may have thousands of marks.
fn short(svg: String) -> String {
    let defaults = [" stroke=\"none\" stroke-width=\"1\"", " stroke=\"none\"", " opacity=\"1\""];
    let svg = defaults.iter().fold(svg, |svg, default| svg.replace(default, ""));
    // An em is 1.24 times the font size.
    let font = format!(" font-family=\"sans-serif\" font-size=\"{}\"", f64::from(LETTERS) / 1.24);
    svg.replace(&font, "").replacen("<svg ", &format!("<svg{font} "), 1)
}

/// Makes the discs of a drawing links; `links` has the neuron of each disc, in the order in which they
/// were drawn. Links are not stops of the keyboard: the table of neurons has the same ones.
fn linked(svg: &str, links: impl Iterator<Item = Option<String>>) -> String {
    let mut parts = svg.split("<circle ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for (part, link) in parts.zip(links) {
        let (circle, rest) = part.split_once("/>").unwrap_or((part, ""));
        out += &match link {
            Some(id) => format!(
                "<a href=\"#{id}\" aria-label=\"{id}\" tabindex=\"-1\"><circle {circle}><title>{id}</title></circle></a>{rest}"
            ),
            None => format!("<circle {circle}/>{rest}"),
        };
    }
    out
}

/// Returns whether a place can be drawn.
fn is_place(x: f64, y: f64) -> bool {
    (x + y).is_finite()
}

impl Mark {
    /// Returns the neuron that each disc links to, if it does.
    fn links(&self) -> Vec<Option<String>> {
        match self {
            Self::Points(points) => {
                points.iter().filter(|(x, y)| is_place(*x, *y)).map(|_| None).collect()
            }
            Self::Neurons(neurons) => {
                let drawn = neurons.iter().filter(|(x, y, _)| is_place(*x, *y));
                drawn.map(|(_, _, id)| Some(id.clone())).collect()
            }
            Self::Line(_) | Self::Cells(_) | Self::Words(_) => Vec::new(),
        }
    }
}

impl Panel {
    fn draw(&self, area: &Drawing) -> Drawn {
        let letters = ("sans-serif", LETTERS).into_font().color(&INK);
        // The names beside the axis need room.
        let widest = self.y.names.iter().map(|n| n.chars().count()).max().unwrap_or(4);
        let room = 28 + 7 * widest as u32;
        let mut builder = ChartBuilder::on(area);
        builder.margin(6).margin_right(14).x_label_area_size(40).y_label_area_size(room);
        if !self.title.is_empty() {
            builder.caption(visible(&self.title), letters.clone());
        }
        let mut chart = builder.build_cartesian_2d(self.x.range.clone(), self.y.range.clone())?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(LINES)
            .label_style(letters.clone())
            .axis_desc_style(letters.clone())
            .x_desc(visible(&self.x.label))
            .y_desc(visible(&self.y.label))
            .x_labels(self.x.ticks(6))
            .y_labels(self.y.ticks(6))
            .x_label_formatter(&|v| self.x.tick(*v))
            .y_label_formatter(&|v| self.y.tick(*v))
            .draw()?;
        let place = |(x, y): (f64, f64)| (near(&self.x.range, x), near(&self.y.range, y));
        for series in &self.series {
            let color = series.color;
            let drawn = match &series.mark {
                Mark::Line(points) => {
                    let points = points.iter().copied().filter(|(x, y)| (x + y).is_finite());
                    let points = points.map(place);
                    chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?
                }
                Mark::Points(points) => {
                    let points = points.iter().filter(|(x, y)| is_place(*x, *y));
                    chart.draw_series(
                        points.map(|p| Circle::new(place(*p), 3, color.mix(0.75).filled())),
                    )?
                }
                Mark::Neurons(neurons) => {
                    let neurons = neurons.iter().filter(|(x, y, _)| is_place(*x, *y));
                    chart.draw_series(neurons.map(|(x, y, _)| {
                        Circle::new(place((*x, *y)), 3, color.mix(0.75).filled())
                    }))?
                }
                Mark::Cells(cells) => chart.draw_series(cells.iter().map(|cell| {
                    let corners = [(cell.x.start, cell.y.start), (cell.x.end, cell.y.end)];
                    let opacity = (100.0 * cell.opacity.clamp(0.0, 1.0)).round() / 100.0;
                    Rectangle::new(corners.map(place), color.mix(opacity).filled())
                }))?,
                Mark::Words(words) => {
                    let middle = letters.clone().pos(Pos::new(HPos::Center, VPos::Center));
                    chart.draw_series(words.iter().map(|(x, y, word)| {
                        Text::new(visible(word).into_owned(), place((*x, *y)), middle.clone())
                    }))?
                }
            };
            if !series.name.is_empty() {
                drawn.label(&series.name).legend(move |(x, y)| {
                    Rectangle::new([(x, y - 4), (x + 10, y + 4)], color.filled())
                });
            }
        }
        if self.series.iter().any(|s| !s.name.is_empty()) {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .background_style(PAGE.mix(0.8))
                .label_font(letters)
                .draw()?;
        }
        Ok(())
    }
}

/// Returns a value, moved to at most ten lengths of the axis beyond its ends: positions in
/// pixels are whole numbers, which values far outside would overflow.
fn near(range: &Range<f64>, value: f64) -> f64 {
    let beyond = 10.0 * (range.end - range.start).abs();
    value.clamp(range.start.min(range.end) - beyond, range.start.max(range.end) + beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_whole_numbers_alone() {
        let axis = Axis::named("layer", vec!["a".into(), "b".into()]);
        let ticks = [-0.5, 0.0, 0.5, 1.0, 2.0].map(|v| axis.tick(v));
        assert_eq!(ticks, ["", "a", "", "b", ""]);
        assert_eq!([0.25, -1.0, 1e-12].map(number), ["0.25", "-1", "0"]);
    }

    #[test]
    fn every_text_is_visible_and_has_an_order_of_its_own() {
        let hostile = || "a\u{202e}b\u{1b}".to_owned();
        let panel = Panel {
            title: hostile(),
            x: Axis::of(&hostile(), 0.0..1.0),
            y: Axis::named(&hostile(), vec![hostile()]),
            series: vec![Series::new(hostile(), INK, Mark::Words(vec![(0.5, 0.0, hostile())]))],
        };
        let svg = draw((400, 300), 1, &[panel]).expect("drawn");
        assert!(!svg.chars().any(|c| crate::printable::is_unsafe(c) && c != '\n'), "{svg}");
        assert_eq!(svg.matches("a⟨U+202E⟩b␛").count(), 6, "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("<text unicode-bidi").count());
    }

    #[test]
    fn what_is_drawn_is_there() {
        let panel = Panel {
            title: "a title".into(),
            x: Axis::of("across", 0.0..1.0),
            y: Axis::of("up", 0.0..1.0),
            series: vec![
                Series::new("line", UNIVERSAL, Mark::Line(vec![(0.0, 0.0), (1.0, f64::NAN)])),
                Series::new("", OTHERS, Mark::Points(vec![(0.5, 0.5), (f64::NAN, 0.5)])),
                Series::new("", INK, Mark::Words(vec![(0.5, 0.5, "<word>".into())])),
            ],
        };
        let svg = draw((400, 300), 1, &[panel]).expect("drawn");
        for part in ["a title", "across", "up", "line", "#1D6FB8", "&lt;word&gt;"] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 1, "a point that is not a number is skipped");
        let repeated = ["font-size", "font-family"].map(|name| svg.matches(name).count());
        assert_eq!((repeated, svg.matches("opacity=\"1\"").count()), ([1, 1], 0), "{svg}");
    }

    #[test]
    fn discs_of_neurons_are_links() {
        let neurons = [(0.5, 0.5, "L0.N1"), (f64::NAN, 0.5, "L0.N2"), (0.1, 0.2, "L0.N3")];
        let neurons = neurons.map(|(x, y, id)| (x, y, id.to_owned())).to_vec();
        let panel = Panel {
            title: String::new(),
            x: Axis::of("", 0.0..1.0),
            y: Axis::of("", 0.0..1.0),
            series: vec![
                Series::new("", OTHERS, Mark::Points(vec![(0.9, 0.9)])),
                Series::new("", UNIVERSAL, Mark::Neurons(neurons)),
            ],
        };
        let svg = draw((400, 300), 1, &[panel]).expect("drawn");
        let links: Vec<&str> = svg.split("<a href=\"#").skip(1).collect();
        let ids: Vec<&str> = links.iter().filter_map(|l| l.split('"').next()).collect();
        assert_eq!(ids, ["L0.N1", "L0.N3"]);
        assert_eq!((svg.matches("<circle").count(), svg.matches("</a>").count()), (3, 2));
        // The disc of the first neuron is that in the middle.
        let place = |part: &str, name: &str| -> f64 {
            let from = part.split(&format!("{name}=\"")).nth(1).expect(name);
            from.split('"').next().and_then(|v| v.parse().ok()).expect("a number")
        };
        assert!(place(links[0], "cx") > place(links[1], "cx"), "{svg}");
    }
}
