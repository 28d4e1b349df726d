//! The tables of the figures, in Markdown.

use super::figures::Figures;

/// The groups of the benchmark of the transform, with what they read and the bound of scan + Wasm to native typed.
const READINGS: [(&str, &str, f64); 4] = [
    ("transform/orders/third", "flattened order of 0.4 kB, 4 of 12 columns", 1.5),
    ("transform/orders/all", "flattened order of 0.4 kB, 12 of 12 columns", 1.8),
    ("transform/company/third", "company of 2 kB in its envelope, 4 of 13 columns", 1.5),
    ("transform/company/all", "company of 2 kB in its envelope, 13 of 13 columns", 1.8),
];
const BATCHES: [&str; 5] = ["1", "16", "64", "256", "1024"];

/// All the tables. A benchmark that was not run is an empty cell.
pub(super) fn write(figures: &Figures) -> String {
    let tables = [ratios(figures), batches(figures), parts(figures), paths(figures), events(figures)];
    tables.join("\n")
}

/// Native against Wasm, batches of 64.
fn ratios(figures: &Figures) -> String {
    let mut text = "#### Native and Wasm, batches of 64: µs an event\n\n\
        | | native, typed | native, `Value` | scan | Wasm | scan + Wasm | to typed | target | to `Value` |\n\
        |---|--:|--:|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for (group, title, bound) in READINGS {
        let of = |function, parameter| figures.get(group, function, parameter);
        let (typed, value, both) = (of("native", "typed"), of("native", "value"), of("scan+wasm", "64"));
        text += &row(
            title,
            &[
                micros(typed),
                micros(value),
                micros(of("scan", "64")),
                micros(of("wasm", "64")),
                micros(both),
                ratio(both, typed),
                format!("≤ {bound}"),
                ratio(both, value),
            ],
        );
    }
    text
}

fn batches(figures: &Figures) -> String {
    let mut text = "#### Wasm alone, and scan + Wasm, by the size of the batch: µs an event\n\n\
        | | 1 | 16 | 64 | 256 | 1024 |\n|---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for (group, title, _) in READINGS {
        let cell = |size| {
            let of = |function| micros(figures.get(group, function, size));
            format!("{} · {}", of("wasm"), of("scan+wasm"))
        };
        text += &row(title, &BATCHES.map(cell));
    }
    text
}

/// Where the time goes: the differences between stages.
fn parts(figures: &Figures) -> String {
    let mut text = "#### Where the time goes, batches of 64: µs an event\n\n\
        | | scan | call and lowering | guest reads | guest works | answer and lifting | check and collapse |\n\
        |---|--:|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for (group, title, _) in READINGS {
        let of = |function| figures.get(group, function, "64");
        let less = |one: Option<f64>, other: Option<f64>| Some((one? - other?).max(0.0));
        let answer = less(of("wasm-answer"), of("wasm-call"));
        let both = of("scan+wasm");
        text += &row(
            title,
            &[
                of("scan"),
                of("wasm-call"),
                less(of("wasm-read"), of("wasm-call")),
                less(less(of("wasm"), of("wasm-read")), answer),
                answer,
                less(of("scan+wasm+check+collapse"), both),
            ]
            .map(micros),
        );
    }
    text
}

/// Whole paths: events a second.
fn paths(figures: &Figures) -> String {
    let mut text = "#### Whole paths on one core or lane: events a second\n\n| | |\n|---|--:|\n".to_owned();
    for (group, title, _) in READINGS {
        let all = figures.get(group, "scan+wasm+check+collapse", "64");
        text += &row(&format!("decode, Wasm, check, collapse: {title}"), &[a_second(all)]);
    }
    text += &row("a file of recorded orders, read and parsed alone", &[a_second(figures.get("file", "read", ""))]);
    text += &row(
        "the same file to the null sink, one lane, 4 of 12 columns",
        &[a_second(figures.get("file", "file to null", ""))],
    );
    text
}

fn events(figures: &Figures) -> String {
    let mut text = "#### Decoding and projecting: µs an event\n\n| | |\n|---|--:|\n".to_owned();
    for (name, nanos) in figures.group("event") {
        text += &row(name, &[micros(Some(nanos))]);
    }
    text
}

fn row<const N: usize>(title: &str, cells: &[String; N]) -> String {
    format!("| {title} | {} |\n", cells.join(" | "))
}

fn micros(nanos: Option<f64>) -> String {
    nanos.map_or_else(String::new, |nanos| format!("{:.2}", nanos / 1e3))
}

fn ratio(one: Option<f64>, other: Option<f64>) -> String {
    one.zip(other).map_or_else(String::new, |(one, other)| format!("{:.2}", one / other))
}

fn a_second(nanos: Option<f64>) -> String {
    nanos.map_or_else(String::new, |nanos| format!("{:.0} 000", 1e6 / nanos))
}
