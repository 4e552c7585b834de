//! Values as text.

use std::fmt::Write;

/// Returns values with at most four digits after the decimal point, separated by spaces.
pub fn list(values: &[f64]) -> String {
    let mut text = String::new();
    for (i, value) in values.iter().enumerate() {
        let separator = if i == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{}", short(*value));
    }
    text
}

/// Returns a value with at most four digits after the decimal point.
pub fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 {
        return format!("{value:.1e}");
    }
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
